"""Views that turn boxes with pixels: a turn changes the label here, and exactly so.

As in `kdlib.elsewhere.boxes.views` a view is a crop of a larger frame, flipped half of the time, and the second one may
be changed before. A turned box stays the box of its object under turns and shifts; under a shear it becomes the
smallest one along the object's axis that holds what the old one held.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.elsewhere.boxes.pictures import SIDE
from kdlib.elsewhere.boxes.views import CROP, GEOMETRIC, LIST, OPERATIONS, cut_out, moved_corners
from kdlib.elsewhere.oriented.boxes import TurnedBoxes
from kdlib.elsewhere.oriented.geometry import around, axes, outline, turned, usual
from kdlib.views.jda import jda
from kdlib.views.ops import FILL, apply_op, is_identity

Turning = Literal["weak2", "rot90", "any-angle", "jda"]

TURNINGS: tuple[Turning, ...] = get_args(Turning)
TURN = "turn"  # a role


def roles() -> dict[str, int]:
    """Uniforms of each role that `two_views` needs, the same for all policies."""
    operations = {f"augmented {OPERATIONS}": jda(LIST).draws, f"augmented {TURN}": 1}
    return {f"original {CROP}": 3, f"augmented {CROP}": 3, **operations}


def two_views(
    images: Tensor, boxes: TurnedBoxes, second: Turning, draws: Mapping[str, Tensor]
) -> list[tuple[Tensor, TurnedBoxes]]:
    """(pixels uint8 [B, 3, SIDE, SIDE], boxes) of the original view and of the augmented one.

    images: uint8 [B, 3, FRAME, FRAME]; draws: see `roles`, float32 [B, n] each. second: what is done to the second view
    before it is cropped: nothing, a quarter turn or several or none, a turn by any angle, or the operations of JDA.
    Crops are the same in all policies. Raises ValueError for another word.
    """
    changed = augmented(images, boxes, second, draws)
    return [cropped(images, boxes, draws[f"original {CROP}"]), cropped(*changed, draws[f"augmented {CROP}"])]


def augmented(
    images: Tensor, boxes: TurnedBoxes, second: Turning, draws: Mapping[str, Tensor]
) -> tuple[Tensor, TurnedBoxes]:
    """Images and boxes after what a policy does to the second view. Raises ValueError for another word."""
    if second not in TURNINGS:
        raise ValueError(f"second = {second!r} is unknown; allowed are {', '.join(TURNINGS)}")
    if second == "weak2":
        return images, boxes
    if second == "jda":
        return _operated(images, boxes, draws[f"augmented {OPERATIONS}"])
    around_circle = draws[f"augmented {TURN}"][:, 0]
    degrees = 90 * (4 * around_circle).floor() if second == "rot90" else 360 * around_circle - 180
    pixels = quarters(images, degrees) if second == "rot90" else turned_pixels(images, degrees)
    side = images.shape[-1]
    return pixels, boxes.moved(turned(boxes.turned, degrees[:, None], side), side)


def quarters(images: Tensor, degrees: Tensor) -> Tensor:
    """Images [B, 3, S, S] turned anticlockwise by multiples of 90 degrees, each by its own; no pixel is computed."""
    return torch.stack([image.rot90(int(d) // 90, (1, 2)) for image, d in zip(images, degrees, strict=True)])


def turned_pixels(images: Tensor, degrees: Tensor) -> Tensor:
    """uint8 [B, 3, S, S] turned anticlockwise about their middle, each by its own angle, bilinearly; what comes from
    outside is grey."""
    right, down = axes(degrees)
    rows = torch.stack([torch.stack([right[:, 0], right[:, 1]], 1), torch.stack([down[:, 0], down[:, 1]], 1)], 1)
    places = F.affine_grid(F.pad(rows, (0, 1)), list(images.shape), align_corners=False)
    levels = F.grid_sample(images.float() - FILL, places, mode="bilinear", align_corners=False)
    return (levels + FILL).round().clamp(0, 255).to(torch.uint8)


def _operated(images: Tensor, boxes: TurnedBoxes, uniforms: Tensor) -> tuple[Tensor, TurnedBoxes]:
    policy, side = jda(LIST), images.shape[-1]
    fired, minus = policy.fired(uniforms), uniforms[:, len(policy.ops) :] >= 0.5
    out, moved = images.clone(), boxes
    for k, (name, magnitude) in enumerate(policy.ops):
        if is_identity(name, magnitude):
            continue
        for sign, rows in ((1, fired[:, k] & ~minus[:, k]), (-1, fired[:, k] & minus[:, k])):
            out[rows] = apply_op(name, out[rows], magnitude, sign)
            if name in GEOMETRIC and rows.any():
                new = moved.turned
                new[rows] = operated_boxes(new[rows], name, magnitude, sign, side)
                moved = moved.moved(new, side)
    return out, moved


def operated_boxes(boxes: Tensor, name: str, magnitude: int, sign: int, side: int) -> Tensor:
    """Boxes [..., 5] after a geometric operation of `kdlib.views.ops` on images of side x side pixels."""
    points = outline(boxes)
    moved = moved_corners(torch.cat([points, points], -1), name, magnitude, sign, side)  # each a box without area
    return around(moved[..., :2])


def cropped(images: Tensor, boxes: TurnedBoxes, uniforms: Tensor) -> tuple[Tensor, TurnedBoxes]:
    """A crop of SIDE x SIDE pixels, flipped from left to right with probability 1/2, and the boxes in it.

    images: uint8 [B, 3, S, S] with S of at least SIDE; uniforms: float32 [B, 3], row, column and flip.
    """
    pixels, places, flipped = cut_out(images, uniforms)
    own = boxes.turned
    x, y = (own[..., k] - places[:, 1 - k, None] for k in (0, 1))
    mirrored = flipped[:, None]
    new = [torch.where(mirrored, SIDE - x, x), y, own[..., 2], own[..., 3]]
    angles = torch.where(mirrored, -own[..., 4], own[..., 4])
    return pixels, boxes.moved(usual(torch.stack([*new, angles], -1)), SIDE)
