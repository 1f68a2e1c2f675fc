"""Photographs of any size, such as ImageNet: each is stored once as a square of uint8 pixels, on disk, memory-mapped.

A photograph is scaled so that its short side has `side` pixels, and its central square is kept: for ImageNet that is
what the usual test transform looks at, while training crops never see the margins of oblong photographs.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from kdlib.data import paths, squares
from kdlib.data.contents import contents_of
from kdlib.data.listing import Listing
from kdlib.files import made_once

DECODING = 1  # raised when a change alters the pixels that files are decoded to
# Statistics of RGB that torchvision's ImageNet networks are trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_split(name: str, listing: Listing, side: int) -> tuple[Tensor, Tensor, str]:
    """(images uint8 [N, 3, side, side], memory-mapped; labels int64 [N]; fingerprint) of one split.

    The first call decodes every file into one file of the cache folder: N * 3 * side^2 bytes (252 GB for ImageNet-1k at
    256 pixels), many of them by as many processes as there are cores; a second caller waits for it. The fingerprint is
    SHA-256 (16 hex digits) over side, and label and content of every file. Raises what `kdlib.data.squares.write` does:
    then nothing of the file stays.
    """
    content = f"{DECODING} {side} {contents_of(listing)}"
    mark = hashlib.sha256(content.encode()).hexdigest()[:16]
    store = paths.cache_root() / f"{name}-{listing.folder.name}-{mark}"
    files = [path for path, _ in listing.samples]
    made_once(store, lambda temporary: squares.write(temporary / "pixels.npy", files, side))
    images = torch.from_numpy(np.load(store / "pixels.npy", mmap_mode="c", allow_pickle=False))
    return images, torch.tensor([label for _, label in listing.samples]), mark
