"""Resolution as an augmentation: a view of which squares of pixels show no more than their mean, each of another size.

Networks of whole images are given such views, so that a picture of few details is one more thing that happens to an
image. It is ours; nothing of it was read.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from kdlib.records import Record
from kdlib.views.jda import JDA_LISTS, jda
from kdlib.views.policy import CROP, ORIGINAL, SECOND, SECOND_CROP, Draws, Source, ViewPolicy

SCALE = "scale"  # the role of the number by which the side of the squares is drawn


class CoarseOptions(Record):
    """Of a view of squares."""

    #: the sides of the squares in pixels, ascending, of which each view has one; 1 leaves it as it is
    scales: Annotated[tuple[Literal[1, 2, 4], ...], Field(min_length=1)] = (1, 2, 4)
    #: the list of JDA's ops that the view goes through first, at the list's own probability; None: none
    ops: str | None = None

    @field_validator("scales")
    @classmethod
    def _rising(cls, scales: tuple[int, ...]) -> tuple[int, ...]:
        """Their order, or one of them twice, would be another key of the same views, or hide a probability."""
        if list(scales) != sorted(set(scales)):
            raise ValueError(f"scales = {list(scales)} must rise from one to the next")
        return scales

    @field_validator("ops")
    @classmethod
    def _known(cls, ops: str | None) -> str | None:
        if ops is not None and ops not in JDA_LISTS:
            raise ValueError(f"ops = {ops!r} is unknown; allowed are {', '.join(JDA_LISTS)}, or None")
        return ops


def averaged(images: Tensor, scale: int) -> Tensor:
    """uint8 [B, 3, H, W] of the same: each pixel is the mean of its square, rounded to a whole level.

    It is what `kdlib.models.resolution.Resolution(scale, enlarged=True)` gives a network; sums of 16 bytes are exact in
    float32, so it is the same on every device. A side that is shorter than the scale is one square.
    """
    if scale == 1:
        return images
    full = images.shape[-2:]
    size = [max(1, side // scale) for side in full]
    means = F.interpolate(images.float(), size, mode="area").round().to(torch.uint8)
    return F.interpolate(means, tuple(full), mode="nearest")


def coarse(options: CoarseOptions) -> ViewPolicy:
    """Two views: a crop, and another crop, after ops of JDA if it has any, of squares whose side is drawn for each view
    from `scales`. scales = (1,) is weak2, or JDA."""
    transform = jda(options.ops) if options.ops is not None else None

    def squares(crops: list[Tensor], u: Draws) -> list[Tensor]:
        original, second = crops
        drawn = (u[SCALE].squeeze(1) * len(options.scales)).long()
        out = second.clone()
        for index, scale in enumerate(options.scales):
            rows = (drawn == index).nonzero().squeeze(1)
            if scale > 1 and len(rows):
                here = rows.to(out.device, non_blocking=True)
                out[here] = averaged(second[here], scale)
        return [original, out]

    roles = CROP | SECOND_CROP | {SCALE: 1} | ({"augmented ops": transform.draws} if transform else {})
    second = Source("augmented crop", lambda x, u: transform(x, u["augmented ops"])) if transform else SECOND
    return ViewPolicy("coarse", 2, (ORIGINAL, second), roles, after=squares, transform=transform)
