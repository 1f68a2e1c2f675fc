"""Figures of chapter 24: boxes before and after an operation, how loose they get, and the grid of arms."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import Tensor

from kdlib.chapters.detection import METRICS, TERMS, VIEWS, label
from kdlib.data.images import FASHION_CLASSES
from kdlib.elsewhere.boxes.pictures import FRAME
from kdlib.elsewhere.boxes.scenes import SEED, scene
from kdlib.elsewhere.boxes.tensors import area
from kdlib.elsewhere.boxes.views import GEOMETRIC, looseness, moved_corners
from kdlib.show.explorer import Explorer
from kdlib.show.explorers import measures
from kdlib.show.figures import BLUE, CYCLE, grouped_bars, legend_once, styled
from kdlib.study.tables import by_seed
from kdlib.views.ops import apply_op

#: Title -> operation and magnitude.
SHOWN: Mapping[str, tuple[str, int] | None] = {
    "as it is": None,
    "sheared": ("shearX", 9),
    "turned by 30°": ("rotate", 9),
    "moved up": ("translateY", 3),
    "solarised": ("solarize", 5),
}
ANGLES = np.linspace(0, 30, 61)
MAGNITUDES = range(10)  # of JDA's turn: 0 to 30 degrees


@styled
def before_and_after(index: int = 2) -> Figure:
    """A scene and its boxes, as it is and after single operations: the label in blue, and dashed where the box itself
    went."""
    image, corners, _ = scene(SEED, "train", index, FRAME)
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(2.0 * len(SHOWN), 2.3))
    for axis, (title, operation) in zip(axes, SHOWN.items(), strict=True):
        pixels = image if operation is None else apply_op(operation[0], image[None], operation[1])[0]
        labels, outlines = corners, outline(corners)
        if operation and operation[0] in GEOMETRIC:
            labels = moved_corners(corners, *operation)
            outlines = moved_corners(outlines.repeat(1, 1, 2), *operation)[..., :2]
        axis.imshow(pixels.permute(1, 2, 0).numpy(), interpolation="none")
        axis.set(title=title, xticks=[], yticks=[], xlim=(0, FRAME), ylim=(FRAME, 0))
        axis.grid(False)
        for box, points in zip(labels, outlines, strict=True):
            axis.add_patch(Polygon(outline(box).numpy(), fill=False, edgecolor=BLUE, lw=1.5))
            axis.add_patch(Polygon(points.numpy(), fill=False, edgecolor="white", lw=1, ls="--"))
    return figure


@styled
def scenes(count: int = 5) -> Figure:
    """Composed scenes, the labels of their objects beside the boxes."""
    figure, axes = plt.subplots(1, count, figsize=(2.0 * count, 2.2))
    for index, axis in enumerate(axes):
        image, corners, labels = scene(SEED, "train", index, FRAME)
        axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="none")
        axis.set(xticks=[], yticks=[], xlim=(0, FRAME), ylim=(FRAME, 0))
        axis.grid(False)
        for box, kind in zip(corners, labels.tolist(), strict=True):
            axis.add_patch(Polygon(outline(box).numpy(), fill=False, edgecolor=BLUE, lw=1.5))
            x, y = box[:2].tolist()
            axis.text(x, y - 2, FASHION_CLASSES[kind], color="white", fontsize=6, va="bottom", clip_on=True)
    return figure


def outline(corners: Tensor) -> Tensor:
    """float [..., 4, 2]: the four corners of boxes [..., 4], one after the other."""
    x1, y1, x2, y2 = corners.unbind(-1)
    points = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    return torch.stack([torch.stack(point, -1) for point in points], -2)


@styled
def loose_boxes() -> Figure:
    """How many times larger a box gets when its image is turned: the closed form as lines, and torchvision's boxes at
    the magnitudes of JDA's turn as dots."""
    figure, axis = plt.subplots(figsize=(6.0, 3.0))
    for ratio, colour in zip((1, 2, 4), CYCLE, strict=False):
        axis.plot(ANGLES, [looseness(ratio, 1, a) for a in ANGLES], color=colour, label=f"sides {ratio} : 1")
        box = torch.tensor([[60.0, 60.0, 60 + 10 * ratio, 70.0]])
        moved = [float(area(moved_corners(box, "rotate", m)) / area(box)) for m in MAGNITUDES]
        axis.plot([30 * m / 9 for m in MAGNITUDES], moved, "o", ms=4, color=colour)
    axis.axhline(1 / 0.75, color="black", lw=0.8, ls="--")
    axis.set(xlabel="turned by, degrees", ylabel="area, new box / old box")
    legend_once(figure, [axis], loc="outside lower center", ncols=3)
    return figure


def grid(frame: pd.DataFrame, metric: str = "ap75") -> Figure:
    """Bars by what is done to the second view, side by side for what it learns from."""
    cells = {(v, t): list(by_seed(frame, label(v, t), metric).values()) for v in VIEWS for t in TERMS}
    return grouped_bars(cells, VIEWS, dict(zip(TERMS, CYCLE, strict=False)), f"{METRICS[metric]}, %")


def by_metric(frame: pd.DataFrame) -> Explorer:
    """The same by another metric."""
    return measures(METRICS, lambda metric: grid(frame, metric))
