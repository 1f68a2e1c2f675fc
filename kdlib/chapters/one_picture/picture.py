"""The picture: accuracy, bytes and arithmetic of each arm, in three panels with one line for an arm."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdlib.lab.forecasts import run_cost
from kdlib.show.figures import BLUE, GREY, ORANGE, empty, legend_once, styled
from kdlib.study.cost_tables import head_run
from kdlib.study.setting import Study
from kdlib.study.stats import Interval
from kdlib.study.tables import above_floor, arm_intervals, untrained


@dataclass(frozen=True)
class Line:
    """What the picture shows of an arm.

    top1: percent, the mean over seeds with its 95 % interval; below: whether its students are shown to be below those
    without a teacher; megabytes: kept in training; tmacs: of a run of the student, the teacher's among them; first: of
    the training of the teacher's branches before it, 0 where there is none.
    """

    top1: Interval
    below: bool
    megabytes: float
    tmacs: float
    first: float


def lines(study: Study, frame: pd.DataFrame) -> dict[str, Line]:
    """Arm -> its line, counted without runs but for the accuracy."""
    below = untrained(above_floor(study, frame, study.arms))
    found = {}
    for arm, interval in arm_intervals(study, frame).items():
        spec = study.specs(arm)[0]
        cost, first = run_cost(spec), head_run(spec)
        before = run_cost(first).run_macs if first else 0
        found[arm] = Line(interval, arm in below, cost.training_bytes / 1e6, cost.run_macs / 1e12, before / 1e12)
    return found


@styled
def draw(shown: dict[str, Line], floor: str) -> Figure:
    """Panels of accuracy, bytes kept in training and multiply-accumulates; floor: the arm whose accuracy is dashed."""
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 0.42 * len(shown) + 1.5), sharey=True, width_ratios=(2, 1, 1))
    _accuracies(axes[0], shown, floor)
    rows = range(len(shown))
    axes[1].barh(rows, [line.megabytes for line in shown.values()], 0.6, color=BLUE, alpha=0.6)
    axes[1].set_xlabel("kept in training, MB")
    student, first = [line.tmacs for line in shown.values()], [line.first for line in shown.values()]
    axes[2].barh(rows, student, 0.6, color=BLUE, alpha=0.6, label="the student's run")
    axes[2].barh(rows, first, 0.6, left=student, color=ORANGE, alpha=0.6, label="the teacher's branches, before")
    axes[2].set_xlabel("arithmetic, TMACs")
    axes[0].set_yticks(rows, list(shown))
    axes[0].invert_yaxis()
    legend_once(figure, axes[2:] if any(first) else [], loc="outside lower right", ncols=2)
    return figure


def _accuracies(axis: Axes, shown: dict[str, Line], floor: str) -> None:
    for y, line in enumerate(shown.values()):
        if not line.top1.n:
            axis.annotate("not measured", (0.02, y), xycoords=("axes fraction", "data"), va="center", color=GREY)
            continue
        colour, face = (GREY, "white") if line.below else (BLUE, BLUE)
        if line.top1.shown:
            axis.hlines(y, line.top1.low, line.top1.high, color=colour, lw=1.8)
        axis.scatter(line.top1.mean, y, color=colour, facecolors=face, s=34, zorder=3)
    if not any(line.top1.n for line in shown.values()):
        empty(axis, "")
    elif shown[floor].top1.n:
        axis.axvline(shown[floor].top1.mean, color="black", lw=0.8, ls="--")
    axis.set_xlabel("top-1 accuracy, %")
