"""Pictures with boxes, and what a detector learns from and is tested on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from kdlib.elsewhere.boxes.tensors import SEEN, Boxes, clipped

SIDE = 128  # of what a detector is shown, in pixels
FRAME = 144  # of what views are cropped from


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of any size with its boxes."""

    #: what it is called in errors
    name: str
    #: uint8 [3, H, W], RGB
    pixels: Tensor
    #: float32 [n, 4], x1, y1, x2, y2 in pixels from the top-left corner
    corners: Tensor
    #: int64 [n]
    labels: Tensor

    def boxes_in(self, row: int, column: int, length: int, size: int) -> Boxes:
        """The boxes of one image: a window of length x length pixels from (row, column) on, scaled to size x size.

        Those of which less than a tenth lies inside are left out.
        """
        moved = (self.corners - torch.tensor([column, row, column, row])) * (size / length)
        boxes = clipped(Boxes.stack([(moved, self.labels)]), size)
        seen = boxes.shares[0] >= SEEN
        return Boxes(boxes.corners[:, seen], boxes.labels[:, seen], boxes.shares[:, seen])


class Frames(Protocol):
    """Images to learn from, FRAME pixels a side, each a function of its number and of uniform random numbers."""

    #: how many there are in an epoch
    count: int
    #: uniforms of each role that a frame needs
    roles: Mapping[str, int]

    def __call__(self, ids: Tensor, draws: Mapping[str, Tensor]) -> tuple[Tensor, Boxes]:
        """int64 ids [B] -> (uint8 [B, 3, FRAME, FRAME], their boxes), on the CPU."""


@dataclass(frozen=True, eq=False)
class Fixed:
    """Frames that are the same in every epoch; also images to be tested on, SIDE pixels a side."""

    #: uint8 [N, 3, S, S]
    images: Tensor
    #: of those
    boxes: Boxes
    #: none
    roles: Mapping[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.images)

    def __call__(self, ids: Tensor, draws: Mapping[str, Tensor]) -> tuple[Tensor, Boxes]:
        return self.images[ids], self.boxes[ids]


@dataclass(frozen=True, eq=False)
class BoxData:
    """A data set for detection."""

    #: by which it was asked for
    name: str
    #: of the labels
    classes: tuple[str, ...]
    #: to learn from
    frames: Frames
    #: by name, the first is the headline; the others come from elsewhere
    tests: Mapping[str, Fixed]
    #: SHA-256 of all pixels, boxes and labels (16 hex digits)
    fingerprint: str


def fingerprint(parts: Sequence[Tensor]) -> str:
    """16 hex digits of SHA-256 over shapes and contents.

    >>> fingerprint([torch.zeros(2)]) == fingerprint([torch.zeros(2)]) != fingerprint([torch.zeros(3)])
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str((tuple(part.shape), part.dtype)).encode())
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()[:16]


def parts_of(boxes: Boxes) -> list[Tensor]:
    """What of boxes a fingerprint holds."""
    return list(vars(boxes).values())


def no_boxes() -> tuple[Tensor, Tensor]:
    """(corners, labels) of a picture without any."""
    return torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
