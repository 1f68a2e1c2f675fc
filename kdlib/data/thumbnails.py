"""The images of CIFAR that published chapters show, kept in the project for machines without the data set."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.data import paths
from kdlib.data.images import CIFAR, Data, ImageSet

SPLITS = ("train", "test")
FIELDS = ("ids", "images", "labels", "total", "fingerprint")
UNKNOWN = -1  # the label of an image that is not kept


def kept(name: str) -> Data | None:
    """A data set with those of its images that are kept; None for a set of which none are.

    Images [N, 3, H, W] and labels [N] are as many as in the set and in its order, so that ids mean the same; images
    that are not kept are black, with the label -1. Fingerprints are those of the whole set.
    """
    path = file_of(name)
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        classes = tuple(arrays["classes"].tolist())
        return Data(*(_split(name, classes, {k: arrays[f"{split}_{k}"] for k in FIELDS}) for split in SPLITS))


def keep(data: Data, ids: dict[str, Tensor]) -> Path:
    """Writes the images of a data set with the given ids, "train" and "test", and returns the file."""
    path = file_of(data.train.name)
    arrays: dict[str, Any] = {"classes": np.array(data.train.classes)}
    for split, images in zip(SPLITS, (data.train, data.test), strict=True):
        some = ids[split].unique()
        values = (some.int(), images.images[some], images.labels[some].short())
        arrays |= {f"{split}_{k}": v.numpy() for k, v in zip(("ids", "images", "labels"), values, strict=True)}
        arrays |= {f"{split}_total": np.array(len(images)), f"{split}_fingerprint": np.array(images.fingerprint)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def file_of(name: str) -> Path:
    """Where the kept images of a data set lie."""
    return paths.THUMBNAILS / f"{name}.npz"


def _split(name: str, classes: tuple[str, ...], arrays: dict[str, np.ndarray]) -> ImageSet:
    ids, total = torch.from_numpy(arrays["ids"]).long(), int(arrays["total"])
    some = torch.from_numpy(arrays["images"])
    images = torch.zeros(total, *some.shape[1:], dtype=torch.uint8)
    labels = torch.full((total,), UNKNOWN)
    images[ids], labels[ids] = some, torch.from_numpy(arrays["labels"]).long()
    _, mean, std = CIFAR[name]
    return ImageSet(name, images, labels, classes, mean, std, str(arrays["fingerprint"]))
