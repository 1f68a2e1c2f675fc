"""Figures of curves and grids: accuracy against a setting, gains against it, methods with and without augmentation."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdlib.show.figures import BLUE, CYCLE, ORANGE, empty, styled
from kdlib.study.stats import MINIMUM_SEEDS, Interval


def interval_line(axis: Axes, points: Mapping[float, Interval], colour: str, label: str | None = None, **look) -> None:
    """Means joined by a line, with the interval of each point that has one."""
    look = {"marker": "o", "ms": 5, "lw": 1.4} | look
    axis.plot(list(points), [i.mean for i in points.values()], color=colour, label=label, **look)
    wide = {at: i for at, i in points.items() if i.shown}
    axis.vlines(list(wide), [i.low for i in wide.values()], [i.high for i in wide.values()], color=colour, lw=1.6)


@styled
def sweeps(
    panels: Mapping[str, tuple[Mapping[float, Interval], Sequence[float]]],
    label: str = "top-1 accuracy, %",
    seeds: bool = False,
) -> Figure:
    """One panel per sweep: label of x -> (x -> interval, the suitable x).

    Suitable points are ringed. seeds: whether a point of fewer seeds than a verdict needs has their number beside it.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.7 * len(panels), 3.4), sharey=True, squeeze=False)
    for axis, (name, (points, ringed)) in zip(axes[0], panels.items(), strict=True):
        if points:
            interval_line(axis, points, BLUE)
            rings = [x for x in points if x in ringed]
            axis.scatter(rings, [points[x].mean for x in rings], s=130, facecolors="none", edgecolors=ORANGE, lw=1.6)
            for x, interval in points.items():
                if seeds and interval.n < MINIMUM_SEEDS:
                    axis.annotate(
                        f"n = {interval.n}", (x, interval.mean), (7, -12), textcoords="offset points", fontsize=7
                    )
        else:
            empty(axis)
        axis.set(xlabel=name)
    axes[0, 0].set_ylabel(label)
    return figure


@styled
def lines(
    curves: Mapping[str, Mapping[float, Interval]], xlabel: str, ylabel: str, zero: bool = False, shares: bool = False
) -> Figure:
    """Several curves over one x. zero: a line at 0, for gains; shares: x are fractions, logarithmic and in percent."""
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    if zero:
        axis.axhline(0, color="black", lw=0.8)
    for colour, (name, points) in zip(cycle(CYCLE), curves.items(), strict=False):
        interval_line(axis, points, colour, name)
    if shares:
        axis.set_xscale("log")
        ticks = sorted({x for points in curves.values() for x in points})
        axis.set_xticks(ticks, [f"{100 * x:.3g} %" for x in ticks], minor=False)
        axis.minorticks_off()
    if any(curves.values()):
        axis.legend(fontsize=8)
    else:
        empty(axis)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    return figure


@styled
def grid(
    names: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], Interval],
    gains: Mapping[str, Interval],
) -> Figure:
    """A heat map of mean top-1: one row per method, one column per view policy, and beside it the gain of each row."""
    means = np.array([[cells[row, column].mean for column in columns] for row in names], dtype=float)
    known = means[np.isfinite(means)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    figure, axis = plt.subplots(figsize=(6.4, 0.5 * len(names) + 1.0))
    axis.imshow(means, cmap="cividis", aspect="auto", vmin=low, vmax=max(high, low + 1e-6))
    for (y, x), value in np.ndenumerate(means):
        colour = "white" if np.isfinite(value) and value < (low + high) / 2 else "black"
        axis.text(x, y, f"{value:.1f}" if np.isfinite(value) else "not run", ha="center", va="center", color=colour)
    beside = axis.secondary_yaxis("right")
    beside.set_yticks(range(len(names)), [_gain(gains[name]) for name in names])
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(names)), names)
    axis.set_title("gain and its 95 % interval", fontsize=9, loc="right", x=1.4)
    for part in (axis, beside):
        part.tick_params(length=0)
        part.grid(False)
    return figure


def _gain(interval: Interval) -> str:
    if not interval.n:
        return "not measured"
    spread = f" [{interval.low:+.1f}, {interval.high:+.1f}]" if interval.shown else ""
    return f"{interval.mean:+.2f}{spread}"
