"""The turned boxes of a batch of square images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from kdlib.elsewhere.boxes.pictures import Picture
from kdlib.elsewhere.boxes.tensors import SEEN, SMALLEST, Boxes
from kdlib.elsewhere.oriented.geometry import from_corners, shared_area, upright

HARD = 0.3  # the share of a box that is there to be seen, but not asked for: between SEEN and KEPT


@dataclass(frozen=True)
class TurnedBoxes(Boxes):
    """Boxes that are turned about their centres; `corners` are those before, and may lie outside of the image."""

    #: float32 [B, K], degrees anticlockwise in [-90, 90), of the long side
    angles: Tensor

    @classmethod
    def stack(cls, parts: Sequence[tuple[Tensor, Tensor]]) -> Self:
        """Of (boxes float [n, 5] in their usual form, labels int64 [n]) of each image; there must be one at least."""
        return cls.joined(
            [cls.of(boxes.float()[None], labels[None], torch.ones(1, len(labels))) for boxes, labels in parts]
        )

    @classmethod
    def of(cls, boxes: Tensor, labels: Tensor, shares: Tensor) -> Self:
        """Of boxes [B, K, 5], see `kdlib.elsewhere.oriented.geometry`."""
        return cls(upright(boxes), labels, shares, boxes[..., 4])

    @property
    def turned(self) -> Tensor:
        """float32 [B, K, 5]: centre, width, height and angle."""
        return from_corners(self.corners, self.angles)

    def moved(self, boxes: Tensor, side: int) -> Self:
        """The same objects at other places, in images of side x side pixels: `shares` never grows, as what has once
        left an image does not come back."""
        return type(self).of(boxes, self.labels, torch.minimum(self.shares, inside(boxes, side)))


def inside(boxes: Tensor, side: int) -> Tensor:
    """float32 [...] in [0, 1]: which part of boxes [..., 5] lies in an image of side x side pixels."""
    image = torch.tensor([side / 2, side / 2, side, side, 0.0], device=boxes.device)
    areas = boxes[..., 2:4].double().prod(-1).clamp_min(SMALLEST)
    return (shared_area(boxes, image) / areas).clamp(0, 1).float()


@dataclass(frozen=True, eq=False)
class TurnedPicture(Picture):
    """A picture of any size with turned boxes; `corners` are those before they were turned about their centres."""

    #: float32 [n], degrees anticlockwise in [-90, 90), of the long side
    angles: Tensor
    #: bool [n]: objects that are neither asked for nor held to be background
    hard: Tensor

    def boxes_in(self, row: int, column: int, length: int, size: int) -> TurnedBoxes:
        boxes = from_corners(self.corners, self.angles)
        boxes = torch.cat([(boxes[:, :2] - torch.tensor([column, row])), boxes[:, 2:]], 1)
        boxes = torch.cat([boxes[:, :4] * (size / length), boxes[:, 4:]], 1)
        shares = inside(boxes, size)
        seen = shares >= SEEN
        shares = torch.where(self.hard, shares.clamp_max(HARD), shares)
        return TurnedBoxes.of(boxes[None, seen], self.labels[None, seen], shares[None, seen])
