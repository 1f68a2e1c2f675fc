"""The figure of chapter 16: candidates side by side, one panel per question."""

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdlib.show.figures import CYCLE, GREY, styled
from kdlib.study.stats import Interval

Panels = Mapping[str, Mapping[str, Mapping[str, Interval]]]


@styled
def candidates(panels: Panels, label: str = "top-1 on validation images, %") -> Figure:
    """panels: question -> view policy -> answer -> interval of accuracy. One panel per question, a line per policy."""
    columns = min(3, len(panels))
    shape = (2.7 * columns + 0.5, 2.9 * math.ceil(len(panels) / columns))
    figure, axes = plt.subplots(math.ceil(len(panels) / columns), columns, figsize=shape, sharey=True, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, (question, lines) in zip(axes.flat, panels.items(), strict=False):
        for k, (view, points) in enumerate(lines.items()):
            _line(axis, points, CYCLE[k], view, shift=0.08 * k - 0.04)
        if not axis.lines:
            axis.annotate("not run", (0.5, 0.5), xycoords="axes fraction", ha="center", color=GREY)
        answers = list(next(iter(lines.values())))
        axis.set_xticks(range(len(answers)), answers)
        axis.set(xlabel=question, xlim=(-0.4, len(answers) - 0.6))
    for axis in axes[:, 0]:
        axis.set_ylabel(label)
    once = {name: mark for axis in axes.flat for mark, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    if once:
        figure.legend(once.values(), once, loc="outside upper center", ncols=2, fontsize=8)
    return figure


def _line(axis: Axes, points: Mapping[str, Interval], colour: str, view: str, shift: float) -> None:
    """Means of what is finished, joined, with the intervals that are shown, beside those of the other line."""
    there = {x + shift: interval for x, interval in enumerate(points.values()) if interval.n}
    if there:
        axis.plot(list(there), [i.mean for i in there.values()], "o-", color=colour, ms=5, lw=1.4, label=view)
    for x, interval in there.items():
        if interval.shown:
            axis.vlines(x, interval.low, interval.high, color=colour, lw=1.6)
