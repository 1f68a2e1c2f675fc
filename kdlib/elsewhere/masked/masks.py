"""Which cells of a view are kept: the same number in each, drawn by (seed, role, epoch, image)."""

import math

import torch
from torch import Tensor

from kdlib.views.ops import FILL

CELL = 8  # pixels of a side: one position of the student's last map
ROLE = "mask"  # of the uniforms, one for each cell


def cells_of(side: int) -> int:
    """How many cells a square view has. side: in pixels, a multiple of CELL."""
    return (side // CELL) ** 2


def kept_count(cells: int, ratio: float) -> int:
    """How many cells are kept where a share `ratio` is masked, as in SparK.

    >>> [kept_count(16, ratio) for ratio in (0, 0.25, 0.5, 0.6, 0.75)]
    [16, 12, 8, 6, 4]
    """
    return round(cells * (1 - ratio))


def kept_cells(uniforms: Tensor, ratio: float) -> Tensor:
    """bool [B, 1, n, n] from float32 [B, n * n], one number for each cell: True where it is kept.

    Nested: what is kept at a ratio is kept at any smaller one.
    """
    cells = uniforms.shape[1]
    places = uniforms.argsort(dim=1, stable=True)[:, : kept_count(cells, ratio)]
    side = math.isqrt(cells)
    return torch.zeros(uniforms.shape, dtype=torch.bool).scatter_(1, places, True).view(-1, 1, side, side)


def scaled(kept: Tensor, side: int) -> Tensor:
    """The cells bool [B, 1, n, n] on a map of side x side positions, a multiple of n: bool [B, 1, side, side]."""
    times = side // kept.shape[-1]
    return kept.repeat_interleave(times, 2).repeat_interleave(times, 3)


def greyed(images: Tensor, kept: Tensor) -> Tensor:
    """Images uint8 [B, 3, S, S] whose masked pixels are grey, 128: what a network is shown that knows no masks."""
    return images.where(scaled(kept, images.shape[-1]), FILL)
