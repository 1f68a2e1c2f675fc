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
from torch import Tensor
from tqdm import tqdm

from kdlib.data import paths, pictures
from kdlib.data.contents import contents_of
from kdlib.data.listing import Listing
from kdlib.files import check_room, made_once
from kdlib.views import functional

DECODING = 1  # raised when a change alters the pixels that files are decoded to
# Statistics of RGB that torchvision's ImageNet networks are trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_split(name: str, listing: Listing, side: int) -> tuple[Tensor, Tensor, str]:
    """(images uint8 [N, 3, side, side], memory-mapped; labels int64 [N]; fingerprint) of one split.

    The first call decodes every file into one file of the cache folder: N * 3 * side^2 bytes (252 GB for ImageNet-1k at
    256 pixels); a second process waits for it. The fingerprint is SHA-256 (16 hex digits) over side, and label and
    content of every file. Raises ValueError if a file is not a readable image, OSError if the disk has no room.
    """
    content = f"{DECODING} {side} {contents_of(listing)}"
    mark = hashlib.sha256(content.encode()).hexdigest()[:16]
    store = paths.cache_root() / f"{name}-{listing.folder.name}-{mark}"
    made_once(store, lambda temporary: _write(temporary / "pixels.npy", listing.samples, side))
    images = torch.from_numpy(np.load(store / "pixels.npy", mmap_mode="c"))
    return images, torch.tensor([label for _, label in listing.samples]), mark


def _write(target: Path, samples: tuple[tuple[str, int], ...], side: int) -> None:
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


def square(path: str, side: int) -> np.ndarray:
    """uint8 [3, side, side]: the central square of a photograph whose short side is scaled to `side` pixels."""
    scaled = functional.resize(pictures.read_rgb(path), side, antialias=True)
    return np.asarray(functional.center_crop(scaled, [side, side])).transpose(2, 0, 1)
