"""The figure of chapter 14: accuracy from stored views, against the level of fresh ones."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from kdlib.show.figures import GREY, styled
from kdlib.show.series import sweeps
from kdlib.study.stats import Interval


@styled
def against_fresh(points: Mapping[float, Interval], fresh: Interval) -> Figure:
    """Top-1 against V (logarithmic); the mean of fresh views is a line, their interval a band."""
    figure = sweeps.__wrapped__({"V, stored sets of views per image": (points, ())})
    figure.set_size_inches(6.4, 3.4)
    (axis,) = figure.axes
    if points:
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(points), [f"{v:g}" for v in points])
        axis.minorticks_off()
    if fresh.n:
        axis.axhline(fresh.mean, color=GREY, lw=1.4, ls="--", label="fresh views")
        figure.legend(loc="outside upper center", fontsize=8)
    if fresh.shown:
        axis.axhspan(fresh.low, fresh.high, color=GREY, alpha=0.15, lw=0)
    return figure
