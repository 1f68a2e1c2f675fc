"""Figures of the benchmark: numbers against their targets, where a step's time goes, cost against work."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from kdlib.chapters.benchmark.records import Benchmark
from kdlib.show.figures import BLUE, CYCLE, GREY, ORANGE, empty, styled


@styled
def targets(found: Benchmark | None) -> Figure:
    """Each number divided by its target (the reverse where less is better), with its quartiles."""
    figure, axis = plt.subplots(figsize=(7.4, 3.6))
    _drawn(_targets, axis, found)
    return figure


@styled
def shares(found: Benchmark | None) -> Figure:
    """One stacked bar: the share of each kind of operation in the time of a step."""
    figure, axis = plt.subplots(figsize=(7.4, 1.9))
    _drawn(_shares, axis, found)
    return figure


@styled
def growth(found: Benchmark | None) -> Figure:
    """Seconds against work, both as multiples of the least; the line of proportionality."""
    figure, axis = plt.subplots(figsize=(6.0, 4.2))
    _drawn(_growth, axis, found)
    return figure


@styled
def overview(found: Benchmark | None) -> Figure:
    """All three."""
    figure = plt.figure(figsize=(7.4, 9.7))
    parts = figure.subfigures(3, 1, height_ratios=(3.6, 1.9, 4.2))
    for draw, part in zip((_targets, _shares, _growth), parts, strict=True):
        _drawn(draw, part.subplots(), found)
    return figure


def _drawn(draw: Callable[[Axes, Benchmark], None], axis: Axes, found: Benchmark | None) -> None:
    """Draws, or says that nothing is measured."""
    if found is None:
        axis.set(xticks=[], yticks=[])
        empty(axis, "not measured")
    else:
        draw(axis, found)


def _targets(axis: Axes, found: Benchmark) -> None:
    rows = [c for c in found.comparisons if c.target is not None]
    axis.axvline(1, color="black", lw=1)
    for y, c in enumerate(rows):
        spread = np.array([c.value.first_quartile, c.value.median, c.value.third_quartile])
        low, median, high = sorted(spread / c.target if c.higher else c.target / spread)
        colour, mark = (BLUE, "o") if c.met else (ORANGE, "D")
        axis.plot([low, high], [y, y], color=colour, lw=2)
        axis.plot(median, y, mark, color=colour, ms=7)
        words = f"{c.value.median:.2f}, target {'' if c.higher else 'at most '}{c.target:g}"
        axis.annotate(words, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), [c.title for c in rows], fontsize=8)
    axis.set(ylim=(len(rows) - 0.4, -0.6), xscale="log", xlabel="measured / target; the reverse where less is better")
    low, high = axis.get_xlim()
    _plain_ticks(axis.xaxis, (1, 1.5) if high < 8 * low else (1,))


def _shares(axis: Axes, found: Benchmark) -> None:
    left = 0.0
    for colour, (kind, share) in zip(CYCLE, found.shares.items(), strict=False):
        axis.barh(0, share, left=left, color=colour, label=f"{kind}, {100 * share:.0f} %", edgecolor="white")
        left += share
    axis.set(xlim=(0, 1), yticks=[], xlabel="share of the time of a WRN step")
    axis.grid(visible=False)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, fontsize=8)


def _growth(axis: Axes, found: Benchmark) -> None:
    most = max(max(g.times_work) for g in found.growths)
    axis.plot([1, most], [1, most], color=GREY, lw=1, ls="--", label="in proportion")
    for colour, mark, g in zip(CYCLE, "osD^v", found.growths, strict=False):
        spreads = g.times_seconds
        low, median, high = zip(*((s.first_quartile, s.median, s.third_quartile) for s in spreads), strict=True)
        axis.plot(g.times_work, median, mark, ls="-", color=colour, ms=5, lw=1.2, label=g.title)
        axis.vlines(g.times_work, low, high, color=colour)
    axis.set(xscale="log", yscale="log", xlabel="work, as a multiple of the least", ylabel="seconds, likewise")
    for side in (axis.xaxis, axis.yaxis):
        _plain_ticks(side)
    axis.legend(fontsize=8)


def _plain_ticks(side: Axis, steps: tuple[float, ...] = (1,)) -> None:
    """Numbers such as 0.5, 1 and 2 on a logarithmic axis, without powers of ten."""
    side.set_major_locator(LogLocator(base=2, subs=steps))
    side.set_major_formatter(FormatStrFormatter("%g"))
    side.set_minor_locator(NullLocator())
