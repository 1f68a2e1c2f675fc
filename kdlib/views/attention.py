"""Views that are made where a network looks: the part of an image with the largest response, or the rest without it.

Inspired by Tian and Chen (2022), of whom only the abstract was read: known is that images are augmented by the
teacher's attentional response, for few data. Both views, their sizes and their controls are ours.

The response is the sum of the squares of a network's last stage over its channels. A run has it of the plain image,
once and before the first step, on a grid of 8 x 8 cells (see kdlib.lab.survey), and gives it as the draws of a role.
What is made of it is made of the plain image too, and then cropped and flipped as any other view: so the map moves with
the image. Boxes and holes are found on the CPU and pixels are sums of whole numbers, so views are the same on every
device.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdlib.records import Number, Record
from kdlib.views.policy import CROP, ORIGINAL, SECOND_CROP, Attends, Draws, Source, ViewPolicy

ATTENTION = "attention"  # the role of the numbers of a map, GRID x GRID in the order of rows
PLACE = "attention place"  # the role of a row and a column, uniforms, of what is not where the network looks
GRID = 8
LEVEL = 0.5  # of a map, from which on a pixel belongs to the box
LEAST = 2  # a box has at least a half of the image's side
GREY = 128  # what is dropped
ROUNDING = 1e-6  # of float32 in a mean of four cells, as a part of their value

#: Where a view is made: where the teacher looks (the method), or, as controls, where a network of its kind with random
#: weights looks; the same box or hole at a random place, one for each image and run, or a new one for each view; or in
#: the middle
By = Literal["teacher", "untrained", "random", "fresh", "centre"]
PLACES: tuple[By, ...] = get_args(By)


class AttentionCropOptions(Record):
    """Of a crop to where a network looks."""

    #: where the box lies; it has the size of that of the network
    by: By = "teacher"


class AttentionDropOptions(Record):
    """Of a hole where a network looks."""

    #: where the hole is
    by: By = "teacher"
    #: of the pixels of an image, which are dropped
    share: Number = Field(0.25, ge=0, le=1)


def grid_of(features: Tensor) -> Tensor:
    """float32 [B, 64], the response of features [B, c, h, w] on the grid: 0 where it is least, 1 where it is largest.

    Of 8 x 8 features it is the response itself, of finer ones the mean of it in a cell, and of coarser ones bilinear. A
    response that is the same everywhere is 0.
    """
    found = features.float().square().sum(1, keepdim=True)
    if min(found.shape[-2:]) > GRID:
        found = F.adaptive_avg_pool2d(found, GRID)
    elif found.shape[-2:] != (GRID, GRID):
        found = F.interpolate(found, (GRID, GRID), mode="bilinear", align_corners=False)
    return _unit(found.flatten(1), 0.0)


def response(maps: Tensor, height: int, width: int) -> Tensor:
    """float32 [B, height, width] in [0, 1], 0 and 1 among them, of maps float32 [B, 64]: bilinear between the cells.

    A map that is the same everywhere tells nothing, and is 1 on the whole image.
    """
    cells = maps.view(-1, 1, GRID, GRID)
    fine = F.interpolate(cells, (height, width), mode="bilinear", align_corners=False).flatten(1)
    return _unit(fine, 1.0).view(-1, height, width)


def _unit(values: Tensor, otherwise: float) -> Tensor:
    """Rows [B, n], 0 and up, from 0 to 1; one whose numbers are equal but for rounding is `otherwise`, and one with an
    infinite number holds nan."""
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    flat = (high - low <= ROUNDING * high) & high.isfinite()
    return torch.where(flat, otherwise, (values - low) / (high - low))


def boxes(seen: Tensor) -> Tensor:
    """int64 [B, 4], (top, left, height, width) in pixels, of responses [B, H, W]: the tight box about all pixels from
    1/2 on, grown about its middle to at least a half of each side, and moved into the image."""
    above, sides = seen >= LEVEL, []
    for axis in (2, 1):  # rows, which any column makes, then columns
        line = above.any(axis).to(torch.uint8)
        size = line.shape[1]
        first = line.argmax(1)
        length = size - line.flip(1).argmax(1) - first
        grown = length.clamp(min=-(-size // LEAST))
        start = first - (grown - length + 1) // 2
        sides.append((torch.minimum(start.clamp(min=0), size - grown), grown))
    (top, height), (left, width) = sides
    return torch.stack([top, left, height, width], 1)


def moved(found: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    """Boxes int64 [B, 4] of the same size, at places float32 [B, 2] in [0, 1): of all rows and columns at which they
    lie in the image."""
    room = torch.tensor([height, width]) - found[:, 2:] + 1
    return torch.cat([(places.double() * room).long(), found[:, 2:]], 1)


def zoomed(images: Tensor, found: Tensor) -> Tensor:
    """The boxes int64 [B, 4] of images uint8 [B, 3, H, W], scaled to the size of the images: bilinear, and exact.

    Weights and sums are whole numbers, which float64 holds; the mean is rounded to the nearest level, halves up. Beyond
    the middle of the box's outermost pixels it shows those.
    """
    height, width = images.shape[-2:]
    rows, columns = (
        _weights(found[:, k], found[:, 2 + k], size).to(images.device, non_blocking=True)
        for k, size in enumerate((height, width))
    )
    sums = rows[:, None] @ images.double() @ columns[:, None].mT
    whole = 4 * height * width
    return ((sums + whole // 2) / whole).floor().to(torch.uint8)


def _weights(start: Tensor, length: Tensor, size: int) -> Tensor:
    """float64 [B, size, size], whole numbers: how each of `size` pixels along one side, the rows, is made of those of
    the image, in parts of 2 size. start, length: of the box along that side, int64 [B]."""
    place = (2 * torch.arange(size) + 1) * length[:, None] - size  # in these parts, from the middle of the box's first
    first = torch.div(place, 2 * size, rounding_mode="floor")
    share = place - 2 * size * first
    found = torch.zeros(len(start), size, size, dtype=torch.float64)
    for index, weight in ((first, 2 * size - share), (first + 1, share)):
        inside = torch.minimum(index.clamp(min=0), length[:, None] - 1) + start[:, None]
        found.scatter_add_(2, inside[:, :, None], weight.double()[:, :, None])
    return found


def largest(seen: Tensor, share: float) -> Tensor:
    """bool [B, H, W]: round(share * H * W) pixels of each response [B, H, W], the largest; of equal ones the first."""
    flat = seen.flatten(1)
    count = round(share * flat.shape[1])
    if count == 0:
        return torch.zeros_like(seen, dtype=torch.bool)
    limit = flat.topk(count, 1).values[:, -1:]
    above, equal = flat > limit, flat == limit
    left = count - above.sum(1, keepdim=True)
    return (above | equal & (equal.cumsum(1) <= left)).view(seen.shape)


def rolled(holes: Tensor, places: Tensor) -> Tensor:
    """Holes bool [B, H, W], moved down and right by places float32 [B, 2] in [0, 1) of the sides; what leaves the image
    comes in at the other side, so that each keeps its number of pixels."""
    batch, height, width = holes.shape
    rows, columns = (
        (torch.arange(size) - (places[:, k : k + 1].double() * size).long()) % size
        for k, size in enumerate((height, width))
    )
    return holes[torch.arange(batch)[:, None, None], rows[:, :, None], columns[:, None]]


def middle(height: int, width: int) -> Tensor:
    """float32 [1, H, W]: largest in the middle, and equal along the edges of boxes about it of the image's shape."""
    row, column = ((2 * torch.arange(size) + 1 - size).abs() / size for size in (height, width))
    return 1 - torch.maximum(row[:, None], column)[None]


def attention_crop(options: AttentionCropOptions) -> ViewPolicy:
    """Two views: x, and the box of x where the network looks, scaled to the size of x; each is then cropped and flipped
    on its own. A map that is the same everywhere gives the whole image, and so weak2."""

    def zoom(x: Tensor, u: Draws) -> Tensor:
        height, width = x.shape[-2:]
        found = boxes(response(u[ATTENTION], height, width))
        if options.by == "centre":
            found[:, :2] = torch.div(torch.tensor([height, width]) - found[:, 2:], 2, rounding_mode="floor")
        return zoomed(x, moved(found, u[PLACE], height, width) if elsewhere(options.by) else found)

    return _original_and("attention_crop", Source("augmented crop", zoom), options.by)


def attention_drop(options: AttentionDropOptions) -> ViewPolicy:
    """Two views: x, and x with a grey hole where the network looks; each is then cropped and flipped on its own.

    The hole is an exact share of the pixels of x, those of the largest response. At a random place it is the same hole,
    moved around the border; in the middle it is a box. share = 0 is weak2.
    """

    def drop(x: Tensor, u: Draws) -> Tensor:
        height, width = x.shape[-2:]
        central = options.by == "centre"
        holes = largest(middle(height, width) if central else response(u[ATTENTION], height, width), options.share)
        holes = rolled(holes, u[PLACE]) if elsewhere(options.by) else holes
        return x.masked_fill(holes.to(x.device, non_blocking=True)[:, None], GREY)

    source = Source("augmented crop", drop)
    return _original_and("attention_drop", source, options.by, reads=options.by != "centre")


def elsewhere(by: By) -> bool:
    """Whether a view is made at a random place."""
    return by in ("random", "fresh")


def _original_and(name: str, source: Source, by: By, reads: bool = True) -> ViewPolicy:
    roles = CROP | SECOND_CROP | ({ATTENTION: GRID * GRID} if reads else {}) | ({PLACE: 2} if elsewhere(by) else {})
    attends: Attends | None = ("untrained" if by == "untrained" else "teacher") if reads else None
    fixed = (PLACE,) if by == "random" else ()
    return ViewPolicy(name, 2, (ORIGINAL, source), roles, attends=attends, fixed=fixed)
