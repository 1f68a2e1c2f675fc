"""Figures of chapter 01: twins, accuracy beside what is published, and calibration."""

from collections.abc import Mapping, Sequence
from math import isnan

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from kdlib.chapters.data_and_teachers.teacher_tables import published
from kdlib.data.images import Data
from kdlib.lab.measures.scores import BINS, TEMPERATURES
from kdlib.lab.measures.twins import nearest
from kdlib.show.explorer import Explorer
from kdlib.show.figures import BLUE, CYCLE, GREY, ORANGE, legend_once, styled, tiles

GREEN = CYCLE[2]
Measured = Mapping[str, Mapping | None]  # name of a teacher -> metrics of kdlib.lab.measures.scores, or None


@styled
def closest(data: Data, count: int = 10) -> Figure:
    """The test images whose detail is most like that of a training image, each above it: twice `count` pairs."""
    rows = []
    for test, train in zip(*(ids.split(count) for ids in closest_ids(data, 2 * count)), strict=True):
        rows += [data.test.images[test], data.train.images[train]]
    return tiles.__wrapped__(rows, ["test", "training"] * (len(rows) // 2), scale=0.7)


def closest_ids(data: Data, count: int) -> tuple[Tensor, Tensor]:
    """Of that many pairs, the closest first: the test images, and the training image of each, int64 [count]."""
    correlation, _, ids = nearest(data.test.images, data.train.images)
    order = correlation.argsort(descending=True, stable=True)[:count]
    return order, ids[order]


@styled
def accuracies(measured: Measured) -> Figure:
    """One line per teacher: top-1 on test images, with and without twins, on training images, and as published."""
    marks = (
        ("train_top1", "training images", "s", ORANGE),
        ("test_top1", "test images", "o", BLUE),
        ("distinct_top1", "test images without twins", "x", "black"),
    )
    figure, axis = plt.subplots(figsize=(6.8, 0.45 * len(measured) + 1.3))
    for y, (name, metrics) in enumerate(measured.items()):
        if metrics is None:
            _say(axis, "not run", (0.02, y), ("axes fraction", "data"))
        for metric, label, marker, colour in marks if metrics else ():
            if metric in metrics:
                axis.plot(metrics[metric], y, marker, color=colour, label=label, zorder=3)
        if not isnan(published(name)):
            axis.plot(published(name), y, "|", color=GREY, ms=18, mew=2, label="published")
    axis.set_yticks(range(len(measured)), list(measured))
    axis.set(xlabel="top-1 accuracy, %", ylim=(len(measured) - 0.4, -0.6))
    legend_once(figure, [axis], loc="outside upper center", ncols=4)
    return figure


@styled
def reliability(measured: Measured, temperature: float = 1.0) -> Figure:
    """Reliability diagrams of test images: accuracy against confidence in 15 bins, and below how many images each has.

    temperature: one of kdlib.lab.measures.scores.TEMPERATURES, by which the logits are divided.
    """
    shown = {name: metrics and at(metrics, temperature) for name, metrics in measured.items()}
    shape = (max(2.2 * len(measured) + 0.8, 5.0), 3.9)
    figure, axes = plt.subplots(
        2, len(measured), figsize=shape, sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
    )
    for (upper, lower), (name, found) in zip(axes.T, shown.items(), strict=True):
        upper.plot([0, 1], [0, 1], color="black", lw=0.8, ls="--")
        upper.set(title=name.removeprefix("cifar100_"), xlim=(0, 1), ylim=(0, 1))
        lower.set(xlabel="confidence", xticks=(0, 0.5, 1))
        if found is None:
            _say(upper, "not run", (0.5, 0.75), "axes fraction")
        else:
            _bins(upper, lower, found)
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("share")
    legend_once(figure, axes[0], loc="outside upper center", ncols=int(shape[0] // 1.7))
    return figure


def _bins(upper: Axes, lower: Axes, found: Mapping) -> None:
    """The bars of one diagram. Accuracy is the top of blue and green, mean confidence that of blue and orange."""
    edges, counts = np.linspace(0, 1, BINS + 1)[:-1], np.array(found["counts"])
    some, look = counts > 0, {"width": 1 / BINS, "align": "edge", "edgecolor": "white", "lw": 0.4}
    accuracy, confidence = (np.array(found[name], dtype=float)[some] for name in ("accuracy", "confidence"))
    both = np.minimum(accuracy, confidence)
    for values, colour, label in (
        (confidence - both, ORANGE, "confidence without accuracy"),
        (accuracy - both, GREEN, "accuracy without confidence"),
    ):
        upper.bar(edges[some], values, bottom=both, color=colour, alpha=0.55, label=label, **look)
    upper.bar(edges[some], both, color=BLUE, alpha=0.75, label="accuracy and confidence", **look)
    upper.set_title(f"{upper.get_title()}\nECE {found['ece']:.3f}, NLL {found['nll']:.2f}", fontsize=9)
    lower.bar(edges, counts / counts.sum(), color=GREY, **look)


@styled
def temperatures(measured: Measured) -> Figure:
    """ECE and NLL of test images against the temperature, one line per teacher."""
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.0))
    for panel, (metric, label) in zip(panels, (("ece", "ECE"), ("nll", "NLL, nats")), strict=True):
        for (name, metrics), colour in zip(measured.items(), CYCLE, strict=False):
            if metrics is not None:
                values = [found[metric] for found in metrics["temperatures"]]
                panel.plot(TEMPERATURES, values, "o-", ms=3.5, color=colour, label=name)
        if not any(measured.values()):
            _say(panel, "not run", (0.5, 0.5), "axes fraction")
        panel.set(xlabel="temperature", ylabel=label)
    if panels[0].get_legend_handles_labels()[0]:
        panels[0].legend(fontsize=8)
    return figure


def by_temperature(measured: Measured, values: Sequence[float] = TEMPERATURES) -> Explorer | None:
    """The reliability diagrams at other temperatures; None if no teacher is measured."""
    shown = {name: metrics for name, metrics in measured.items() if metrics is not None}
    if not shown:
        return None
    about = "Reliability of each teacher on test images when its logits are divided by a temperature."
    return Explorer({"temperature": list(values)}, lambda temperature: reliability(shown, temperature), about)


def at(metrics: Mapping, temperature: float) -> Mapping:
    """The stored calibration at one temperature. Raises ValueError if it was not measured at it."""
    for found in metrics["temperatures"]:
        if found["temperature"] == temperature:
            return found
    raise ValueError(f"temperature = {temperature} was not measured; allowed are {', '.join(map(str, TEMPERATURES))}")


def _say(axis: Axes, words: str, place: tuple[float, float], coordinates: str | tuple[str, str]) -> None:
    """Words in grey in place of what is missing."""
    centred = "center" if coordinates == "axes fraction" else "left"
    axis.annotate(words, place, xycoords=coordinates, ha=centred, va="center", color=GREY)
