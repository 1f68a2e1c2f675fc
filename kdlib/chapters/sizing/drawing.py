"""The figure of chapter 16: candidates side by side, one panel per question."""

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from kdlib.show.figures import CYCLE, empty, legend_once, styled
from kdlib.show.series import interval_line
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
            shift = 0.08 * k - 0.04  # beside the other line
            there = {x + shift: interval for x, interval in enumerate(points.values()) if interval.n}
            if there:
                interval_line(axis, there, CYCLE[k], view)
        if not axis.lines:
            empty(axis)
        answers = list(next(iter(lines.values())))
        axis.set_xticks(range(len(answers)), answers)
        axis.set(xlabel=question, xlim=(-0.4, len(answers) - 0.6))
    for axis in axes[:, 0]:
        axis.set_ylabel(label)
    legend_once(figure, axes.flat, loc="outside upper center", ncols=2)
    return figure
