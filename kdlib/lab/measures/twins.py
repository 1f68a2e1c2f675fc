"""Test images that also stand in the training set: exact twins, and near twins of the same picture."""

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.data.images import ImageSet

# A near twin: its detail correlates so highly with that of a training image, which is so many times closer than the
# tenth nearest. The first alone would call two trousers twins; on CIFAR-100 the second changes next to nothing.
CORRELATION, TIMES, NEIGHBOURS = 0.95, 4, 10
FINE, COARSE = 16, 4  # sides in pixels of what is compared, and of what is taken off


def exact_twins(test: ImageSet, train: ImageSet) -> Tensor:
    """bool [test images]: those that are in the training set too, pixel for pixel, as they are stored.

    Only images whose middle row (of green) is found in both splits are read whole: a memory-mapped set stays on disk.
    """
    (test_rows, train_rows) = ([hash(row.tobytes()) for row in _middle_rows(split)] for split in (test, train))
    shared = set(test_rows) & set(train_rows)
    seen = {_digest(train.images[i]) for i, row in enumerate(train_rows) if row in shared}
    return torch.tensor([row in shared and _digest(test.images[i]) in seen for i, row in enumerate(test_rows)])


def near_twins(test: ImageSet, train: ImageSet) -> Tensor:
    """bool [test images]: those of which the training set has the same picture, perhaps in other colours or contrast.

    A rule of thumb: on CIFAR-100 nearly all pairs that it finds are one photograph. Copies that are shifted, turned or
    cut otherwise are not found.
    """
    correlation, tenth, _ = nearest(test.images, train.images)
    return (correlation >= CORRELATION) & (TIMES * (1 - correlation) < 1 - tenth)


def nearest(test: Tensor, train: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Correlation of the detail of each test image with its nearest training image, with the tenth nearest, and the id
    of the nearest: float32 [n], float32 [n], int64 [n], of uint8 [n, 3, H, W] and [N, 3, H, W]."""
    known, found = detail(train), []
    for some in detail(test).split(250):
        values, ids = (some @ known.T).topk(min(NEIGHBOURS, len(known)))
        found.append((values[:, 0], values[:, -1], ids[:, 0]))
    return tuple(torch.cat(part) for part in zip(*found, strict=True))


def detail(images: Tensor) -> Tensor:
    """float32 [n, 768] of unit length: images uint8 [n, 3, H, W] at 16x16 pixels without their coarse structure, which
    any two pictures of the sea share; zero where there is no detail."""
    parts = []
    for some in images.split(2000):
        fine = F.adaptive_avg_pool2d(some.float(), FINE)
        coarse = F.interpolate(F.adaptive_avg_pool2d(fine, COARSE), size=FINE, mode="bilinear")
        parts.append(F.normalize((fine - coarse).flatten(1), dim=1))
    return torch.cat(parts)


def _middle_rows(images: ImageSet):
    """uint8 [N, W], as NumPy's."""
    return images.images[:, 1, images.size[0] // 2].numpy()


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(image.contiguous().numpy()).digest()
