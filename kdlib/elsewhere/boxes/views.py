"""Views of images with boxes: what moves pixels moves boxes with them.

A view is a crop of SIDE pixels from a frame of FRAME, flipped half of the time. An augmented view goes through the
operations of JDA before, as everywhere in the book, and photometric ones leave boxes as they are. A geometric one
moves the four corners of a box, and the new box is the smallest upright one that holds them: after a shear or a turn
it is larger than the object.
"""

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from kdlib.elsewhere.boxes.pictures import FRAME, SIDE
from kdlib.elsewhere.boxes.tensors import Boxes, clipped
from kdlib.views import functional as TF  # noqa: N812
from kdlib.views.jda import JDA, jda
from kdlib.views.ops import OPS, apply_op, is_identity

Second = Literal["weak2", "photometric", "geometric", "jda"]

SECONDS: tuple[Second, ...] = get_args(Second)
GEOMETRIC = ("shearX", "shearY", "translateX", "translateY", "rotate")
LIST = "cifar100"  # of JDA's operations
CROP = "crop"  # a role: row, column, flip
OPERATIONS = "ops"  # a role: of JDA


def roles() -> dict[str, int]:
    """Uniforms of each role that `two_views` needs, the same for all policies."""
    return {f"original {CROP}": 3, f"augmented {CROP}": 3, f"augmented {OPERATIONS}": jda(LIST).draws}


def two_views(images: Tensor, boxes: Boxes, second: Second, draws: Mapping[str, Tensor]) -> list[tuple[Tensor, Boxes]]:
    """(pixels uint8 [B, 3, SIDE, SIDE], boxes) of the original view and of the augmented one.

    images: uint8 [B, 3, FRAME, FRAME]; draws: see `roles`, float32 [B, n] each. second: of JDA's operations those
    that are applied to the second view: none, photometric ones, geometric ones, or all. An operation that fires in
    one policy fires in every one that has it, and crops are the same in all. Raises ValueError for another word.
    """
    changed = augmented(images, boxes, second, draws[f"augmented {OPERATIONS}"])
    return [cropped(images, boxes, draws[f"original {CROP}"]), cropped(*changed, draws[f"augmented {CROP}"])]


def augmented(
    images: Tensor, boxes: Boxes, second: Second, uniforms: Tensor, policy: JDA | None = None
) -> tuple[Tensor, Boxes]:
    """Images and boxes after the operations of a policy, by default JDA's list for CIFAR-100, see `JDA.rule`."""
    if second not in SECONDS:
        raise ValueError(f"second = {second!r} is unknown; allowed are {', '.join(SECONDS)}")
    policy = policy or jda(LIST)
    fired, minus = policy.fired(uniforms), uniforms[:, len(policy.ops) :] >= 0.5
    side = images.shape[-1]
    out, corners, shares = images.clone(), boxes.corners.clone(), boxes.shares.clone()
    for k, (name, magnitude) in enumerate(policy.ops):
        if is_identity(name, magnitude) or not allowed(name, second):
            continue
        for sign, rows in ((1, fired[:, k] & ~minus[:, k]), (-1, fired[:, k] & minus[:, k])):
            out[rows] = apply_op(name, out[rows], magnitude, sign)
            if name in GEOMETRIC:
                moved = moved_corners(corners[rows], name, magnitude, sign, side)
                left = clipped(Boxes(moved, boxes.labels[rows], shares[rows]), side)
                corners[rows], shares[rows] = left.corners, left.shares
    return out, Boxes(corners, boxes.labels, shares)


def allowed(name: str, second: Second) -> bool:
    """Whether an operation belongs to the augmented view of a policy."""
    return second == "jda" or second == ("geometric" if name in GEOMETRIC else "photometric")


def moved_corners(corners: Tensor, name: str, magnitude: int, sign: int = 1, side: int = FRAME) -> Tensor:
    """Corners float32 [..., 4] after a geometric operation of `kdlib.views.ops` on images of side x side pixels.

    They are those of the upright box around the moved corners, and may lie outside of the image.
    """
    from torchvision.tv_tensors import BoundingBoxes  # not above, see kdlib.views.functional

    operation = OPS[name]
    value = operation.magnitudes[magnitude] * (sign if operation.signed else 1)
    angle, shift, shear, centre = 0.0, [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    axis = 1 if name.endswith("Y") else 0
    if name.startswith("shear"):  # about the top-left corner
        shear[axis] = math.degrees(math.atan(value))
    elif name.startswith("translate"):  # a positive fraction moves the content to the left, or up
        shift[axis] = -float(math.floor(value * side + 0.5))
    else:  # the operation turns anticlockwise, about the centre
        angle, centre = -value, [side / 2, side / 2]
    held = BoundingBoxes(corners.reshape(-1, 4), format="XYXY", canvas_size=(side, side), clamping_mode=None)
    moved = TF.affine(held, angle, shift, 1.0, shear, center=centre)
    return moved.as_subclass(Tensor).reshape(corners.shape)


def cropped(images: Tensor, boxes: Boxes, uniforms: Tensor) -> tuple[Tensor, Boxes]:
    """A crop of SIDE x SIDE pixels, flipped from left to right with probability 1/2, and the boxes in it.

    images: uint8 [B, 3, S, S] with S of at least SIDE; uniforms: float32 [B, 3], row, column and flip.
    """
    pixels, places, flipped = cut_out(images, uniforms)
    inside = boxes.corners - places.flip(1).repeat(1, 2)[:, None].float()
    mirrored = torch.stack([SIDE - inside[..., 2], inside[..., 1], SIDE - inside[..., 0], inside[..., 3]], -1)
    corners = torch.where(flipped[:, None, None], mirrored, inside)
    return pixels, clipped(Boxes(corners, boxes.labels, boxes.shares), SIDE)


def cut_out(images: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(pixels of the crops, int64 [B, 2] row and column of each, bool [B] whether it is flipped), see `cropped`."""
    room = images.shape[-1] - SIDE + 1
    places, flipped = (uniforms[:, :2] * room).long(), uniforms[:, 2] < 0.5
    rows = places[:, :1] + torch.arange(SIDE)
    columns = torch.arange(SIDE).expand(len(images), -1)
    columns = places[:, 1:] + torch.where(flipped[:, None], columns.flip(1), columns)
    batch = torch.arange(len(images))[:, None, None]
    return images[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2), places, flipped


def looseness(width: float, height: float, degrees: float) -> float:
    """How many times larger the upright box around a turned box of width x height is than the box itself.

    (w c + h s)(w s + h c) / (w h) with c and s the cosine and sine of the angle.

    >>> round(looseness(1, 1, 10), 3)
    1.342
    """
    c, s = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    return (width * c + height * s) * (width * s + height * c) / (width * height)
