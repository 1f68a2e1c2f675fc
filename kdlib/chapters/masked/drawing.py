"""Figures of chapter 27: an image under masks of each ratio, and accuracy by ratio."""

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from kdlib.chapters.masked import ALONE, METRICS, PLAIN, RATIOS, masked
from kdlib.elsewhere.masked.masks import ROLE, cells_of, greyed, kept_cells, kept_count, scaled
from kdlib.randomness import uniforms
from kdlib.show.explorer import Explorer
from kdlib.show.explorers import measures
from kdlib.show.figures import BLUE, GREY, arms, empty, styled, tiles
from kdlib.show.pictures import photographs
from kdlib.study.stats import mean_interval
from kdlib.study.tables import by_seed

ALL_RATIOS = (0.0, *RATIOS)
WHITE = 255


def under_masks(number: int = 5, seed: int = 0) -> Figure:
    """An image with the cells that are kept at each ratio: for a sparse network, which is shown nothing else, for a
    dense one on grey, and the tokens that are taught. Masks are nested."""
    image = photographs(8)[number]
    rows = masks_of(image, seed)
    count = cells_of(image.shape[-1])
    titles = [f"ratio {ratio:g}\n{kept_count(count, ratio)} of {count}" for ratio in ALL_RATIOS]
    return tiles(list(rows.values()), list(rows), titles, scale=1.0)


def masks_of(image: Tensor, seed: int) -> dict[str, Tensor]:
    """Rows uint8 [ratios, 3, H, W] of an image uint8 [3, H, W]; white is what does not count."""
    side = image.shape[-1]
    drawn = uniforms(seed, ROLE, 0, 1, cells_of(side))
    kept = torch.cat([kept_cells(drawn, ratio) for ratio in ALL_RATIOS])
    images, mask = image.expand(len(kept), -1, -1, -1), scaled(kept, side)
    taught = ~mask | (kept.all(dim=(1, 2, 3), keepdim=True))
    return {
        "kept cells": images.where(mask, WHITE),
        "grey fill": greyed(images, kept),
        "what is taught": images.where(taught, WHITE),
    }


@styled
def by_ratio(frame: pd.DataFrame, metric: str = "top1") -> Figure:
    """A metric over the share of cells that are masked; dashed: students that were not distilled."""
    figure, axis = plt.subplots(figsize=(5.6, 3.0))
    names = {ratio: masked(ratio) if ratio else PLAIN for ratio in ALL_RATIOS}
    cells = {ratio: values for ratio, name in names.items() if (values := list(by_seed(frame, name, metric).values()))}
    if not cells:
        empty(axis, "not measured")
    intervals = {ratio: mean_interval(values) for ratio, values in cells.items()}
    axis.plot(list(cells), [i.mean for i in intervals.values()], "o-", color=BLUE, lw=1)
    for ratio, values in cells.items():
        axis.plot([ratio] * len(values), values, ".", color="black", ms=4, zorder=3)
        if intervals[ratio].shown:
            axis.vlines(ratio, intervals[ratio].low, intervals[ratio].high, color=BLUE, lw=1.5)
    if alone := list(by_seed(frame, ALONE, metric).values()):
        axis.axhline(mean_interval(alone).mean, color=GREY, ls="--", lw=1)
    axis.set(xlabel="share of cells that are masked", ylabel=METRICS[metric], xticks=ALL_RATIOS, xlim=(-0.05, 0.8))
    return figure


def by_metric(frame: pd.DataFrame, order: list[str]) -> Explorer:
    """All arms, by another metric."""
    return measures(METRICS, lambda metric: arms(frame, order, metric, METRICS[metric], ALONE))
