"""The boxes of a batch of square images, and what is left of them where an image ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

KEPT = 0.5  # an object of which at least so much is visible is to be found
SEEN = 0.1  # one of which so much is visible may be found: it is neither asked for nor held to be background
NONE = -1  # the label of a row without a box
SMALLEST = 1e-9  # an area that nothing is divided by


@dataclass(frozen=True)
class Boxes:
    """The boxes of B images, K rows for each; rows that an image does not need have the label -1."""

    #: float32 [B, K, 4], x1, y1, x2, y2 in pixels from the top-left corner of the image
    corners: Tensor
    #: int64 [B, K], the class of each, or -1
    labels: Tensor
    #: float32 [B, K] in [0, 1], the part of the object's box that lies inside the image
    shares: Tensor

    @classmethod
    def stack(cls, parts: Sequence[tuple[Tensor, Tensor]]) -> Self:
        """Of (corners float [n, 4], labels int64 [n]) of each image, all of them wholly visible so far.

        There must be one image at least.
        """
        return cls.joined([cls(own.float()[None], labels[None], torch.ones(1, len(labels))) for own, labels in parts])

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of several batches, one after the other; there must be one at least."""
        rows = max(part.labels.shape[1] for part in parts)

        def filled(name: str, tensor: Tensor) -> Tensor:
            missing = (0, 0) * (tensor.ndim - 2) + (0, rows - tensor.shape[1])
            return F.pad(tensor, missing, value=NONE if name == "labels" else 0)

        return cls(*(torch.cat([filled(name, getattr(part, name)) for part in parts]) for name in vars(parts[0])))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, images: Tensor | slice) -> Self:
        return type(self)(*(part[images] for part in vars(self).values()))

    @property
    def kept(self) -> Tensor:
        """bool [B, K]: the boxes that are to be found."""
        return (self.labels != NONE) & (self.shares >= KEPT)

    @property
    def ignored(self) -> Tensor:
        """bool [B, K]: those of which too little is visible to ask for them, and too much to deny them."""
        return (self.labels != NONE) & (self.shares >= SEEN) & (self.shares < KEPT)

    def to(self, device: str | torch.device) -> Self:
        """The same on another device."""
        return type(self)(*(part.to(device) for part in vars(self).values()))


def area(corners: Tensor) -> Tensor:
    """float [...] of corners [..., 4]; 0 where a box is turned inside out."""
    return (corners[..., 2:] - corners[..., :2]).clamp_min(0).prod(-1)


def clipped(boxes: Boxes, side: int) -> Boxes:
    """The boxes without what lies outside of images of side x side pixels; `shares` says how much is left.

    >>> whole = Boxes.stack([(torch.tensor([[-10.0, 0.0, 10.0, 8.0]]), torch.tensor([0]))])
    >>> clipped(whole, 64).corners.tolist(), clipped(whole, 64).shares.tolist()
    ([[[0.0, 0.0, 10.0, 8.0]]], [[0.5]])
    """
    inside = boxes.corners.clamp(0, side)
    left = area(inside) / area(boxes.corners).clamp_min(SMALLEST)
    return Boxes(inside, boxes.labels, boxes.shares * left)


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union, float [...], of corners [..., 4] pair by pair; 0 where both are empty.

    >>> paired_iou(torch.tensor([0.0, 0.0, 2.0, 1.0]), torch.tensor([1.0, 0.0, 3.0, 1.0])).item()
    0.3333333432674408
    """
    start, end = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    inside = area(torch.cat([start, end], -1))
    return inside / (area(first) + area(second) - inside).clamp_min(SMALLEST)
