"""Square windows of pictures of any size: random ones to learn from, and a grid of them to be tested on."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.elsewhere.boxes.pictures import FRAME, SIDE, Fixed, Picture
from kdlib.elsewhere.boxes.tensors import Boxes
from kdlib.views.ops import FILL

ROLE = "window"
DRAWS = 5  # around a box or anywhere, which box, what of it, row, column
AROUND = 0.5  # the share of windows that lie around a box: pictures may be empty over large parts


@dataclass(frozen=True, eq=False)
class Windows:
    """Random windows of some pictures, scaled to frames. An epoch has as many as would cover the pictures."""

    #: to cut from
    pictures: Sequence[Picture]
    #: pixels of a picture that a view of SIDE pixels shows; a frame shows FRAME / SIDE times as many
    window: int
    #: of the uniforms
    roles: Mapping[str, int] = field(default_factory=lambda: {ROLE: DRAWS})

    @property
    def owners(self) -> list[int]:
        """The picture of each window."""
        covering = [math.prod(math.ceil(n / self.window) for n in p.pixels.shape[1:]) for p in self.pictures]
        return [k for k, count in enumerate(covering) for _ in range(count)]

    @property
    def count(self) -> int:
        return len(self.owners)

    def __call__(self, ids: Tensor, draws: Mapping[str, Tensor]) -> tuple[Tensor, Boxes]:
        owners, length = self.owners, round(self.window * FRAME / SIDE)
        some = [self.pictures[owners[i]] for i in ids.tolist()]
        places = [place(picture, length, row) for picture, row in zip(some, draws[ROLE].tolist(), strict=True)]
        return batch(cut(picture, *at, length, FRAME) for picture, at in zip(some, places, strict=True))


def place(picture: Picture, length: int, draws: Sequence[float]) -> tuple[int, int]:
    """(row, column) of the top-left corner of a random window; half of the windows hold the centre of a random box.

    draws: DRAWS uniforms. A window lies inside its picture where that is large enough.
    """
    room = [max(0, n - length) for n in picture.pixels.shape[1:]]
    if len(picture.labels) and draws[0] < AROUND:
        x1, y1, x2, y2 = picture.corners[int(draws[1] * len(picture.labels))].tolist()
        wanted = [(y1 + y2) / 2 - draws[3] * length, (x1 + x2) / 2 - draws[4] * length]
    else:
        wanted = [draws[k] * (most + 1) for k, most in zip((3, 4), room, strict=True)]
    row, column = (min(max(0, math.floor(at)), most) for at, most in zip(wanted, room, strict=True))
    return row, column


def cut(picture: Picture, row: int, column: int, length: int, size: int) -> tuple[Tensor, Boxes]:
    """(uint8 [3, size, size], the boxes of one image) of a window of length x length pixels, scaled.

    What lies outside of the picture is grey.
    """
    part = picture.pixels[:, row : row + length, column : column + length]
    missing = [length - n for n in part.shape[1:]]
    part = F.pad(part, (0, missing[1], 0, missing[0]), value=FILL)
    if length != size:
        scaled = F.interpolate(part[None].float(), (size, size), mode="bilinear", antialias=True)
        part = scaled[0].round().clamp(0, 255).to(torch.uint8)
    return part, picture.boxes_in(row, column, length, size)


def tiles(pictures: Iterable[Picture], window: int, whole: bool = False) -> Fixed:
    """Windows of some pictures side by side, without overlap, from the top-left corner on, scaled to SIDE pixels.

    The last ones are filled up with grey, or, whole, left out, but for the first of each picture.
    """
    count = math.floor if whole else math.ceil
    found = []
    for picture in pictures:
        rows, columns = (max(1, count(n / window)) for n in picture.pixels.shape[1:])
        corners = [(row * window, column * window) for row in range(rows) for column in range(columns)]
        found += [cut(picture, *corner, window, SIDE) for corner in corners]
    return Fixed(*batch(found))


def batch(parts: Iterable[tuple[Tensor, Boxes]]) -> tuple[Tensor, Boxes]:
    """Single images with their boxes as one batch."""
    images, boxes = zip(*parts, strict=True)
    return torch.stack(images), type(boxes[0]).joined(boxes)
