"""Figures of chapter 11: the views of each policy, and the teacher's spread against the students' loss."""

from collections.abc import Mapping, Sequence
from math import cos, pi, sin

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from torch import Tensor

from kdlib.chapters.good_views import correlation
from kdlib.data.images import ImageSet
from kdlib.lab.measurements import SpreadSpec
from kdlib.lab.measures.t_stddev import drawn_views
from kdlib.show.explorer import Explorer
from kdlib.show.explorers import METRICS
from kdlib.show.figures import BLUE, GREY, ORANGE, empty, styled, tiles

LOSS = "test NLL of the students, nats"


@styled
def policy_views(specs: Mapping[str, SpreadSpec], images: ImageSet, count: int = 10) -> Figure:
    """The clean view of some images, which all policies share, and below it the second view of each policy."""
    pool, some = torch.arange(len(images)), spread_ids(images, count)
    pairs = [drawn_views(spec, images, pool, 0, some).cpu().unflatten(0, (-1, 2)) for spec in specs.values()]
    return tiles.__wrapped__([pairs[0][:, 0], *(views[:, 1] for views in pairs)], ["clean view", *specs], scale=0.62)


def spread_ids(images: ImageSet, count: int) -> Tensor:
    """int64 [count]: images at equal distances from the first to the last."""
    return torch.linspace(0, len(images) - 1, count).long()


@styled
def spread_and_loss(points: pd.DataFrame, line: Sequence[str] = (), label: str = LOSS) -> Figure:
    """Each policy at its T.stddev (line: one standard error each way) and its students' mean loss (line: 95 % interval,
    from three seeds on).

    points: see `correlation.points`; line: policies to join, in order. Policies without students stand on the axis,
    those without a measurement are listed.
    """
    figure, axis = plt.subplots(figsize=(6.8, 4.4))
    here = points[points.spread.notna()].copy()
    here.loc[here.seeds < 3, ["low", "high"]] = np.nan  # with two seeds the interval is wider than any picture
    run, waiting = here[here.loss.notna()], here[here.loss.isna()]
    joined = run.loc[[name for name in line if name in run.index]]
    axis.plot(joined.spread, joined.loss, color=BLUE, lw=1, alpha=0.5)
    for name, row in run.iterrows():
        _point(axis, row, BLUE if name in line else ORANGE)
    if len(here):
        axis.axvline(here.labels.iloc[0], color=GREY, lw=1, ls=":", label="a teacher that always gives the label")
        figure.legend(loc="outside lower right", fontsize=8)
    axis.margins(0.12)
    bottom = axis.get_ylim()[0]
    axis.set(xlabel="T.stddev of the teacher", ylabel=label, ylim=(bottom, None))
    axis.scatter(waiting.spread, [bottom] * len(waiting), s=30, color=GREY, marker="^", zorder=3, clip_on=False)
    if not len(run):
        axis.set_yticks([])
    if not len(here):
        axis.set_xticks([])
        empty(axis)
    axis.set_title(_gaps(points) if len(here) else "", color=GREY, fontsize=8, loc="left")
    _name(axis, here.fillna({"loss": bottom}))
    return figure


def by_measure(measured: Mapping[str, Mapping | None], frame: pd.DataFrame, line: Sequence[str] = ()) -> Explorer:
    """The same picture by another measure of the students."""
    shown = {text: name for text, name in METRICS.items() if not frame[name].isna().all()} or {"top-1, %": "top1"}

    def render(text: str) -> Figure:
        return spread_and_loss(correlation.points(measured, frame, shown[text]), line, label=f"students' {text}")

    about = "The spread of the teacher against another measure of the students."
    return Explorer({"measure": list(shown)}, render, about)


def _point(axis: Axes, row: pd.Series, colour: str) -> None:
    """A policy, with its standard error and its interval."""
    axis.errorbar(row.spread, row.loss, xerr=np.nan_to_num(row.error), color=colour, lw=1.4)
    axis.plot([row.spread] * 2, [row.low, row.high], color=colour, lw=1.4)
    axis.scatter([row.spread], [row.loss], s=30, color=colour, zorder=3)


def _gaps(points: pd.DataFrame) -> str:
    """What is missing, in words."""
    none = {"not run": points.spread.isna(), "students not run": points.spread.notna() & points.loss.isna()}
    return "; ".join(
        f"{text}: {'all' if m.all() else ', '.join(points.index[m])}" for text, m in none.items() if m.any()
    )


def _name(axis: Axes, points: pd.DataFrame) -> None:
    """Writes each name near its point, where it covers the least of other names, of points, lines and the frame."""
    axis.figure.canvas.draw()
    frame, taken = axis.get_window_extent(), []
    widths, lows, highs = points.error.fillna(0), points.low.fillna(points.loss), points.high.fillna(points.loss)
    for x, y, width, low, high in zip(points.spread, points.loss, widths, lows, highs, strict=True):
        for bar in (((x - width, y), (x + width, y)), ((x, low), (x, high))):
            taken.append(Bbox(axis.transData.transform(bar)).padded(4))
    path = axis.lines[0].get_path()  # the one that joins policies
    joined = axis.transData.transform(path.interpolated(30).vertices if len(path) else np.empty((0, 2)))
    taken += [Bbox((place, place)).padded(2) for place in joined]
    for name, row in points.iterrows():
        place = row.spread, row.loss
        text = axis.annotate(name, place, textcoords="offset points", xytext=(0, 0), fontsize=8, annotation_clip=False)
        costs = {around: _cost(text, around, taken, frame) for around in AROUND}
        best = min(costs, key=costs.get)
        _move(text, best)
        if best[0] > 12:
            leader = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
            axis.annotate("", place, text.get_position(), textcoords="offset points", arrowprops=leader)
        taken.append(text.get_window_extent())


# Where a name may stand: (distance in points, direction), near ones first, and above a point before beside it.
AROUND = [(distance, k * pi / 4) for distance in (6, 10, 16, 24, 34, 46) for k in (1, 3, 7, 5, 2, 6, 0, 4)]


def _move(text: Annotation, around: tuple[float, float]) -> None:
    x, y = cos(around[1]), sin(around[1])
    text.set(ha="left" if x > 0.1 else "right" if x < -0.1 else "center")
    text.set(va="bottom" if y > 0.1 else "top" if y < -0.1 else "center")
    text.set_position((around[0] * x, around[0] * y))


def _cost(text: Annotation, around: tuple[float, float], taken: list[Bbox], frame: Bbox) -> float:
    """Pixels of what is taken that the text would cover or have outside of the frame, and a few for the distance."""
    _move(text, around)
    box = text.get_window_extent()
    covered = [Bbox.intersection(box, other) for other in taken]
    inside = Bbox.intersection(box, frame)
    outside = box.width * box.height - (inside.width * inside.height if inside else 0)
    return sum(b.width * b.height for b in covered if b) + outside + 4 * around[0]
