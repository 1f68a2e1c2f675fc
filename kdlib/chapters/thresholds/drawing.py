"""Figures of chapter 23: the corrupted images, and scores against the strength of a corruption."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from kdlib.chapters.thresholds.shift_table import COLUMNS, Found, interval
from kdlib.data.images import ImageSet
from kdlib.data.thumbnails import UNKNOWN
from kdlib.lab.measures.frozen_thresholds import INTERNAL
from kdlib.show.explorer import Explorer
from kdlib.show.figures import CYCLE, empty, legend_once, styled, tiles
from kdlib.show.series import interval_line
from kdlib.views.corruptions import KINDS, STRENGTHS, corrupt


def corrupted(images: ImageSet, count: int = 8) -> Figure:
    """Some test images as they are, and below them under each corruption, from weak to strong."""
    known = (images.labels != UNKNOWN).nonzero().squeeze(1)
    ids = known[torch.linspace(0, len(known) - 1, count).long()]
    plain = images.evaluated[ids]
    rows = {f"{kind} {s}": corrupt(plain, kind, s, ids) for kind in KINDS for s in STRENGTHS}
    return tiles([plain, *rows.values()], ["test image", *rows], scale=0.62)


@styled
def by_strength(students: Found, columns: tuple[str, ...] = ("AUC", "threshold loss")) -> Figure:
    """A row of panels for each column of the tables, a panel for each corruption; strength 0 are the test images."""
    size = (3.0 * len(KINDS), 2.4 * len(columns) + 0.6)
    figure, axes = plt.subplots(len(columns), len(KINDS), figsize=size, sharex=True, sharey="row", squeeze=False)
    measured = {arm: metrics for arm, metrics in students.items() if metrics}
    for row, column in zip(axes, columns, strict=True):
        row[0].set_ylabel(column)
        for axis, kind in zip(row, KINDS, strict=True):
            sets = {0: INTERNAL} | {s: f"{kind} {s}" for s in STRENGTHS}
            for colour, (arm, metrics) in zip(CYCLE, measured.items(), strict=False):
                interval_line(axis, {s: interval(metrics, one, column) for s, one in sets.items()}, colour, arm)
            if not measured:
                empty(axis, "not measured")
            axis.set_xticks(list(sets))
    for axis, kind in zip(axes[0], KINDS, strict=True):
        axis.set_title(kind)
    for axis in axes[-1]:
        axis.set_xlabel("strength")
    legend_once(figure, axes.flat, loc="outside lower center", ncols=3)
    return figure


def by_measure(students: Found) -> Explorer:
    """The same by another measure."""

    def render(column: str) -> Figure:
        return by_strength(students, (column,))

    about = "Means over seeds, with 95 % intervals from three seeds on. Strength 0: the test images as they are."
    return Explorer({"measure": list(COLUMNS)}, render, about)
