"""Accuracy against what training costs."""

from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from kdlib.show.figures import CYCLE, empty, legend_once, styled

AXES: Mapping[str, str] = {
    "megabytes": "bytes kept in training, MB", "gigamacs": "GMACs of one step", "seconds": "seconds of one step",
}  # fmt: skip


@styled
def accuracy_against_cost(points: pd.DataFrame) -> Figure:
    """One panel per cost. points: indexed by arm, columns top1, low, high (nan where there is no interval) and AXES."""
    figure, axes = plt.subplots(1, len(AXES), figsize=(3.3 * len(AXES), 3.6), sharey=True)
    known = points[points.top1.notna()]
    colours = dict(zip(known.index, cycle(CYCLE), strict=False))  # an arm's in every panel, also where others lack
    for axis, (column, label) in zip(axes, AXES.items(), strict=True):
        shown = known[known[column].notna()]
        for arm, row in shown.iterrows():
            axis.vlines(row[column], row.low, row.high, color=colours[arm], lw=1.4)
            axis.plot(row[column], row.top1, "o", color=colours[arm], ms=7, label=arm)
        if len(shown):
            axis.set_xlim(left=0)
        else:
            empty(axis)
        axis.set(xlabel=label)
    axes[0].set_ylabel("top-1 accuracy, %")
    legend_once(figure, axes, loc="outside lower center", ncols=4)
    return figure
