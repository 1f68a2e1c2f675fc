"""Figures. Each function draws one, from data, and returns it; none reads a store or trains."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import wraps

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from kdlib.study.stats import MARGIN, Interval, mean_interval

STYLE = {
    "figure.dpi": 120, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.alpha": 0.25, "axes.axisbelow": True, "axes.titlesize": 11, "legend.frameon": False,
    "figure.constrained_layout.use": True,
}  # fmt: skip
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#7f7f7f"  # told apart by colour-blind readers
LARGEST = 5  # of the answers of a teacher, however many classes there are
CYCLE = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")


def styled(draw):
    """Draws with the book's style and closes the figure, so that a notebook shows it once."""

    @wraps(draw)
    def wrapper(*args, **kwargs) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*args, **kwargs)
        plt.close(figure)
        return figure

    return wrapper


def as_vectors() -> None:
    """From here on this notebook shows figures as SVG, the same bytes for the same figure; nothing outside of one."""
    from IPython import get_ipython
    from matplotlib_inline.config import InlineBackend

    if (shell := get_ipython()) is None:
        return
    plt.rcParams["svg.hashsalt"] = "kdlib"  # the names of its parts would be random
    shown = InlineBackend.instance(parent=shell)
    shown.shell, shown.figure_formats = shell, {"svg"}
    shown.print_figure_kwargs = {"bbox_inches": "tight", "metadata": {"Date": None}}


def empty(axis: Axes, words: str = "not run") -> None:
    """Words where there is nothing to draw."""
    axis.annotate(words, (0.5, 0.5), xycoords="axes fraction", ha="center", color=GREY)


def legend_once(figure: Figure, axes: Iterable[Axes], **look) -> None:
    """What the marks of all axes mean, each once; nothing where there are none."""
    once = {text: mark for axis in axes for mark, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    if once:
        figure.legend(once.values(), once, fontsize=8, **look)


@styled
def grouped_bars(
    cells: Mapping[tuple[str, str], Sequence[float]], groups: Mapping[str, str], colours: Mapping[str, str], axis: str
) -> Figure:
    """Bars of the mean of each (group, name), side by side for the names of a group; with 95 % intervals from three
    seeds on, and seeds as dots. Groups without a value are left out.

    cells: the values of seeds; groups: group -> its label, in order; colours: of each name, in order; axis: label of y.
    """
    figure, plot = plt.subplots(figsize=(6.8, 3.0))
    shown = [group for group in groups if any(cells[group, name] for name in colours)]
    width = 0.8 / max(1, len(colours))
    for k, (name, colour) in enumerate(colours.items()):
        for x, group in enumerate(shown):
            values = cells[group, name]
            if not values:
                continue
            interval, at = mean_interval(values), x + (k - (len(colours) - 1) / 2) * width
            plot.bar(at, interval.mean, 0.9 * width, color=colour, alpha=0.55, label=name)
            plot.plot([at] * len(values), values, ".", color="black", ms=4, zorder=3)
            if interval.shown:
                plot.vlines(at, interval.low, interval.high, color="black", lw=1.5)
    plot.set_xticks(range(len(shown)), [groups[group] for group in shown])
    plot.set(ylabel=axis, xlim=(-0.6, max(1, len(shown)) - 0.4))
    if not shown:
        empty(plot, "not measured")
    else:
        legend_once(figure, [plot], loc="outside lower center", ncols=len(colours))
    return figure


@styled
def tiles(
    rows: Sequence[Tensor], names: Sequence[str], titles: Sequence[str] | None = None, scale: float = 0.85
) -> Figure:
    """A grid of images: each row uint8 [n, 3, H, W] with its name on the left; titles above the columns."""
    columns = max(len(row) for row in rows)
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(scale * columns + 1.2, scale * len(rows) + 0.2), squeeze=False
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        for side in axis.spines.values():
            side.set_visible(False)
    for r, (row, name) in enumerate(zip(rows, names, strict=True)):
        axes[r, 0].set_ylabel(name, rotation=0, ha="right", va="center")
        for c, image in enumerate(row):
            axes[r, c].imshow(image.permute(1, 2, 0).numpy(), interpolation="none")
    for c, title in enumerate(titles or ()):
        axes[0, c].set_title(title, fontsize=8)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    return figure


@styled
def arms(
    frame: pd.DataFrame,
    order: Sequence[str],
    metric: str = "top1",
    label: str = "top-1 accuracy, %",
    floor: str = "no teacher",
) -> Figure:
    """One line per arm that has the metric: each seed a dot, the mean a bar, its 95 % interval a line.

    floor: the arm whose mean is a dashed line, below which others did not train; nothing if it has no runs.
    """
    known = {arm: frame[frame.arm == arm][metric].dropna().astype(float).to_numpy() for arm in order}
    order = [arm for arm, values in known.items() if len(values)]
    figure, axis = plt.subplots(figsize=(6.4, 0.45 * max(2, len(order)) + 0.9))
    if not order:
        empty(axis)
    if floor in order:
        axis.axvline(known[floor].mean(), color=GREY, ls="--", lw=1, zorder=1)
    for y, arm in enumerate(order):
        axis.plot(known[arm], np.full(len(known[arm]), y), ".", ms=9, color=BLUE, alpha=0.55, mew=0, zorder=3)
    intervals = dict(enumerate(mean_interval(known[arm]) for arm in order))
    axis.plot([i.mean for i in intervals.values()], list(intervals), "|", ms=16, mew=2.5, color=ORANGE, zorder=4)
    _bars(axis, intervals, color=ORANGE, lw=1.6, zorder=2)
    axis.set_yticks(range(len(order)), order)
    axis.set(xlabel=label, ylim=(len(order) - 0.4, -0.6))
    return figure


def _bars(axis: Axes, intervals: Mapping[int, Interval], **look) -> None:
    """A line from end to end at the height of each interval that is shown; one artist, which draws fast."""
    shown = {y: i for y, i in intervals.items() if i.shown}
    axis.hlines(list(shown), [i.low for i in shown.values()], [i.high for i in shown.values()], **look)


@styled
def forest(
    rows: Mapping[str, Interval],
    margin: float = MARGIN,
    label: str = "difference, points of top-1",
    words: Mapping[str, str] | None = None,
    pale: Collection[str] = (),
) -> Figure:
    """One paired difference per line with its interval (from three seeds on), zero, and the band of the margin.

    words: row -> what stands at its right; pale: the rows that are drawn grey and hollow.
    """
    figure, axis = plt.subplots(figsize=(9.6 if words else 6.8, 0.42 * len(rows) + 0.9))
    ends = [end for i in rows.values() if i.n for end in ((i.low, i.high) if i.shown else (i.mean,))]
    low, high = min([*ends, -1.0]), max([*ends, 1.0])
    if not rows:
        empty(axis, "not measured")
    axis.axvspan(-margin, margin, color=GREY, alpha=0.15, lw=0)
    axis.axvline(0, color="black", lw=0.8)
    for y in (y for y, interval in enumerate(rows.values()) if not interval.n):
        axis.annotate("not measured", (0.02, y), xycoords=("axes fraction", "data"), va="center", color=GREY)
    measured = {y: (name, interval) for y, (name, interval) in enumerate(rows.items()) if interval.n}
    for drawn_pale, colour, face in ((False, BLUE, BLUE), (True, GREY, "white")):
        here = {y: interval for y, (name, interval) in measured.items() if (name in pale) == drawn_pale}
        _bars(axis, here, color=colour, lw=1.8)
        axis.scatter([i.mean for i in here.values()], list(here), color=colour, facecolors=face, s=34, zorder=3)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set(xlabel=label, ylim=(len(rows) - 0.4, -0.6), xlim=(low - (high - low) / 20, high + (high - low) / 20))
    if words:
        beside = axis.secondary_yaxis("right")
        beside.set_yticks(range(len(rows)), [words.get(name, "") for name in rows], fontsize=9)
        beside.spines["right"].set_visible(False)
        beside.tick_params(length=0)
    return figure


@styled
def curves(frame: pd.DataFrame, order: Sequence[str], metric: str = "top1", label: str = "test top-1, %") -> Figure:
    """The metric against student views, mean over seeds, one line per arm."""
    figure, axis = plt.subplots(figsize=(7.6, 3.8))
    looks = [(colour, style) for style in ("-", "--", ":") for colour in CYCLE]
    for (colour, style), arm in zip(looks, [a for a in order if (frame.arm == a).any()], strict=False):
        mean = frame[frame.arm == arm].groupby("views")[metric].mean()
        axis.plot(mean.index, mean, marker="o", ms=3.5, color=colour, ls=style, label=arm)
    if len(frame):
        figure.legend(loc="outside right upper", fontsize=8, handlelength=3)
    else:
        empty(axis)
    axis.set(xlabel="views seen by the student", ylabel=label)
    return figure


@styled
def weight_histograms(metrics: Mapping[str, list] | None, split: str = "test") -> Figure:
    """The distribution of w on JDA views, and its floor: w between two plain crops of one image."""
    figure, axis = plt.subplots(figsize=(6.4, 3.0))
    if metrics is None:
        empty(axis)
    else:
        edges = np.linspace(0, 2, len(metrics[f"{split}_w_histogram"]) + 1)
        for name, colour, text in (("floor", GREY, "two plain crops"), ("w", BLUE, "crop and JDA view")):
            share = np.array(metrics[f"{split}_{name}_histogram"]) / metrics[f"{split}_images"]
            axis.stairs(share, edges, fill=True, color=colour, alpha=0.55, label=text)
            axis.axvline(metrics[f"{split}_{name}_mean"], color=colour, lw=1.6, ls="--")
        axis.legend(loc="upper left")
    axis.set(xlabel="w = cosine + 1", ylabel=f"share of {split} images", xlim=(0, 2))
    return figure


@styled
def teacher_on_views(measured: Mapping[str, Mapping | None], split: str = "test") -> Figure:
    """Top-1, entropy and cosine to the original: the teacher on original and augmented views, a group per policy.

    In the panel of cosines the grey bar is the cosine between two plain crops of one image.
    """
    figure, panels = plt.subplots(1, 3, figsize=(8.6, 0.55 * len(measured) + 1.4), sharey=True)
    names = {"top-1, %": "{view}_top1", "entropy, nats": "{view}_entropy", "cosine of logits": "{cosine}_mean"}
    views = ((-0.18, "original", "floor", GREY), (0.18, "augmented", "w", BLUE))
    for panel, (label, name) in zip(panels, names.items(), strict=True):
        for y, metrics in enumerate(measured.values()):
            if metrics is None:
                panel.annotate("not run", (0.02, y), xycoords=("axes fraction", "data"), va="center", color=GREY)
                continue
            for offset, view, cosine, colour in views:
                value = metrics[f"{split}_{name.format(view=view, cosine=cosine)}"] - (name == "{cosine}_mean")
                panel.barh(y + offset, value, 0.34, color=colour, label=view)
        panel.set(xlabel=label, ylim=(len(measured) - 0.4, -0.6))
        panel.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(measured)), list(measured))
    legend_once(figure, panels[:1], loc="outside upper center", ncols=2)
    return figure


@styled
def answers(images: Tensor, hard: Sequence[str], soft: np.ndarray, classes: Sequence[str]) -> Figure:
    """Images [n, 3, H, W] above what a teacher says about each: of probabilities float [n, classes] the largest."""
    shape = (max(1.75 * len(images) + 1, 5.6), 3.9)
    figure, axes = plt.subplots(2, len(images), figsize=shape, height_ratios=(1, 1.25), squeeze=False)
    for c, image in enumerate(images):
        axes[0, c].imshow(image.permute(1, 2, 0).numpy(), interpolation="none")
        axes[0, c].set(xticks=[], yticks=[])
        axes[0, c].set_title(hard[c], fontsize=9)
        axes[0, c].grid(False)
        largest = np.argsort(-soft[c], kind="stable")[:LARGEST]
        axes[1, c].barh(range(len(largest)), soft[c][largest], color=BLUE, alpha=0.55)
        axes[1, c].set(xlim=(0, 1), ylim=(len(largest) - 0.4, -0.6), xticks=(0, 1), yticks=())
        axes[1, c].grid(axis="y", visible=False)
        for y, k in enumerate(largest):
            axes[1, c].text(0.03, y, f"{classes[k].replace('_', ' ')} {soft[c][k]:.2f}", va="center", fontsize=8)
    figure.supxlabel("probability that the teacher gives", fontsize=9)
    return figure
