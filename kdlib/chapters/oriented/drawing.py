"""Figures of chapter 26: a scene in four views with its turned boxes, labels of angles, and the grid of arms."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from kdlib.chapters.oriented import METRICS, TERMS, VIEWS, label
from kdlib.elsewhere.boxes.pictures import FRAME
from kdlib.elsewhere.oriented.angles import angle_of, bin_of, window
from kdlib.elsewhere.oriented.boxes import TurnedBoxes
from kdlib.elsewhere.oriented.geometry import outline
from kdlib.elsewhere.oriented.scenes import RANGES, SEED, SEEN, turned_scene
from kdlib.elsewhere.oriented.views import roles, two_views
from kdlib.randomness import draws_of
from kdlib.show.explorer import Explorer
from kdlib.show.explorers import measures
from kdlib.show.figures import BLUE, CYCLE, grouped_bars, legend_once, styled
from kdlib.study.tables import by_seed

INDEX = 2  # of the scene that is shown
DRAWN = 7  # the seed of its views
SHOWN: Mapping[str, str] = {name: words for name, words in METRICS.items() if name.endswith(("ap50", "ap75", "ap"))}


@styled
def four_views(index: int = INDEX) -> Figure:
    """The second view of a scene under each policy, with the boxes that are its labels; the thick side is the upper one
    of a box whose angle is 0."""
    image, boxes, labels = turned_scene(SEED, "train", index, FRAME, RANGES[SEEN])
    frames = TurnedBoxes.stack([(boxes, labels)])
    at = torch.zeros(1, dtype=torch.int64)
    figure, axes = plt.subplots(1, len(VIEWS), figsize=(2.3 * len(VIEWS), 2.6))
    for axis, (second, title) in zip(axes, VIEWS.items(), strict=True):
        _, (pixels, moved) = two_views(image[None], frames, second, draws_of(DRAWN, roles(), at, at, 1))
        axis.imshow(pixels[0].permute(1, 2, 0).numpy(), interpolation="none")
        side = pixels.shape[-1]
        axis.set(title=title, xticks=[], yticks=[], xlim=(0, side), ylim=(side, 0))
        axis.grid(False)
        for points in outline(moved.turned[0][moved.kept[0]]).numpy():
            axis.add_patch(Polygon(points, fill=False, edgecolor=BLUE, lw=1.5))
            axis.plot(*points[:2].T, color=BLUE, lw=3)
    return figure


@styled
def angle_labels() -> Figure:
    """The weights of the bins for three angles: they go on across the seam."""
    figure, axis = plt.subplots(figsize=(6.4, 2.4))
    middles = angle_of(torch.arange(len(window(torch.tensor(0)))))
    for angle, colour in zip((0.0, 60.0, -88.0), CYCLE, strict=False):
        axis.plot(middles, window(bin_of(torch.tensor(angle))), ".-", color=colour, label=f"{angle:g}°")
    axis.set(xlabel="angle of the bin, degrees", ylabel="weight", xlim=(-92, 92), xticks=range(-90, 91, 30))
    legend_once(figure, [axis], loc="outside lower center", ncols=3)
    return figure


def grid(frame: pd.DataFrame, metric: str = "ap50") -> Figure:
    """Bars by what is done to the second view, side by side for what it learns from."""
    cells = {(v, t): list(by_seed(frame, label(v, t), metric).values()) for v in VIEWS for t in TERMS}
    return grouped_bars(cells, VIEWS, dict(zip(TERMS, CYCLE, strict=False)), f"{METRICS[metric]}, %")


def by_metric(frame: pd.DataFrame) -> Explorer:
    """The same by another metric, of those that contrasts ask for."""
    shown = {name: words for name, words in SHOWN.items() if name in frame and frame[name].notna().any()}
    return measures(shown or {"ap50": SHOWN["ap50"]}, lambda metric: grid(frame, metric))
