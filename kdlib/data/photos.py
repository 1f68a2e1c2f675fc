"""Photographs of any size, such as ImageNet: each is stored once as a square of uint8 pixels, on disk, memory-mapped.

A photograph is scaled so that its short side has `side` pixels, and its central square is kept: for ImageNet that is
what the usual test transform looks at, while training crops never see the margins of oblong photographs.
"""

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from kdlib.data import paths
from kdlib.files import check_room, made_once
from kdlib.views import functional

# Statistics of RGB that torchvision's ImageNet networks are trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_split(name: str, folder: Path, side: int) -> tuple[Tensor, Tensor, tuple[str, ...], str]:
    """(images uint8 [N, 3, side, side], memory-mapped; labels int64 [N]; classes; fingerprint) of an ImageFolder.

    The first call decodes every file into one file of the cache folder: N * 3 * side^2 bytes (252 GB for ImageNet-1k at
    256 pixels); a second process waits for it. The fingerprint is SHA-256 (16 hex digits) over side, and the path,
    label and size of every file. Raises ValueError if a file is not a readable image, OSError if the disk has no room.
    """
    from torchvision import datasets  # not above, see kdlib.views.functional

    found = datasets.ImageFolder(folder)
    listing = hashlib.sha256(str(side).encode())
    for path, label in found.samples:
        listing.update(f"{Path(path).relative_to(folder)}|{label}|{Path(path).stat().st_size}\n".encode())
    mark = listing.hexdigest()[:16]
    store = paths.cache_root() / f"{name}-{folder.name}-{mark}"
    made_once(store, lambda temporary: _write(temporary / "pixels.npy", found.samples, side))
    images = torch.from_numpy(np.load(store / "pixels.npy", mmap_mode="c"))
    return images, torch.tensor(found.targets), tuple(found.classes), mark


def _write(target: Path, samples: list[tuple[str, int]], side: int) -> None:
    shape = (len(samples), 3, side, side)
    check_room(target.parent, math.prod(shape), f"decoding {len(samples):,} photographs")
    pixels = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)

    def fill(place: int) -> None:
        pixels[place] = square(samples[place][0], side)

    with ThreadPoolExecutor() as pool:  # PIL decodes and scales outside the interpreter lock
        for _ in tqdm(
            pool.map(fill, range(len(samples))), total=len(samples), desc="photographs", leave=False, disable=None
        ):
            pass
    pixels.flush()


def read_rgb(path: str) -> Image.Image:
    """The picture in a file. Raises ValueError if it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all of them from PIL
        raise ValueError(f"data file {path} is not a readable image ({error})") from error


def square(path: str, side: int) -> np.ndarray:
    """uint8 [3, side, side]: the central square of a photograph whose short side is scaled to `side` pixels."""
    scaled = functional.resize(read_rgb(path), side, antialias=True)
    return np.asarray(functional.center_crop(scaled, [side, side])).transpose(2, 0, 1)
