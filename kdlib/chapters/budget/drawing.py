"""The figure of chapter 18: accuracy against the budget."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdlib.show.figures import CYCLE, GREY, empty, legend_once, styled
from kdlib.show.series import interval_line
from kdlib.study.stats import Interval

#: What the budget is counted in -> curve -> budget -> interval of accuracy.
Panels = Mapping[str, Mapping[str, Mapping[float, Interval]]]


@styled
def accuracy(panels: Panels, floor: str, crossing: float | None = None, label: str = "top-1 accuracy, %") -> Figure:
    """One panel per way to count the budget, on a logarithmic axis, a line per curve.

    floor: the curve that is dashed. crossing: a budget of the first panel that is marked.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.1 * len(panels), 4.2), sharey=True, squeeze=False)
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves if name != floor))
    colours = {name: CYCLE[k % len(CYCLE)] for k, name in enumerate(names)} | {floor: "black"}
    for axis, (counted, curves) in zip(axes[0], panels.items(), strict=True):
        for name, points in curves.items():
            interval_line(axis, points, colours[name], name, ms=4.5, ls="--" if name == floor else "-")
        _budgets(axis, sorted({budget for points in curves.values() for budget in points}))
        axis.set(xlabel=counted)
    axes[0, 0].set_ylabel(label)
    if crossing is not None:
        axes[0, 0].axvline(crossing, color=GREY, ls=":", lw=1.4, label="crossing")
    legend_once(figure, axes[0, :1], loc="outside lower center", ncols=4)
    return figure


def _budgets(axis: Axes, budgets: list[float]) -> None:
    """A logarithmic axis with ticks where there is room; words where nothing is there."""
    if not budgets:
        empty(axis)
        return
    axis.set_xscale("log", base=2)
    apart = [b for k, b in enumerate(budgets) if k == 0 or b > 1.5 * budgets[k - 1]]
    axis.set_xticks(apart, [f"{budget:.3g}" for budget in apart])
    axis.minorticks_off()
