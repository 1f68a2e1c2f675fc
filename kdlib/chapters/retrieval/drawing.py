"""Figures of chapter 22: what a query finds, and the grid of view strength by check."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from kdlib.chapters.retrieval import CHECKS, METRICS, VIEWS, label
from kdlib.data.images import Data
from kdlib.data.thumbnails import UNKNOWN
from kdlib.show.explorer import Explorer
from kdlib.show.explorers import measures
from kdlib.show.figures import BLUE, CYCLE, grouped_bars, styled
from kdlib.study.tables import by_seed

INDICES = {"own": "own index", "old": "old index"}  # of the examples of a measurement -> what they are called


def found_images(data: Data, examples: list[Mapping[str, Any]], count: int = 3) -> Figure | None:
    """Of some queries what they find first, in the student's own index and in the teacher's; those of the query's class
    are framed. None without examples, or if one of the images is not on this machine."""
    shown = examples[:count]
    asked = torch.tensor([e["query"] for e in shown], dtype=torch.int64)
    answers = torch.tensor([[e[name] for name in INDICES] for e in shown], dtype=torch.int64)
    if not shown or UNKNOWN in data.test.labels[asked] or UNKNOWN in data.train.labels[answers]:
        return None
    return _rows_of_images(data, asked, answers)


@styled
def _rows_of_images(data: Data, asked: torch.Tensor, answers: torch.Tensor) -> Figure:
    """asked: int64 [q], test images; answers: int64 [q, indices, k], training images."""
    size = (0.8 * (answers.shape[2] + 1) + 1.4, 0.8 * answers.shape[:2].numel() + 0.2)
    figure, axes = plt.subplots(answers.shape[:2].numel(), answers.shape[2] + 1, figsize=size, squeeze=False)
    for k, (query, both) in enumerate(zip(asked.tolist(), answers, strict=True)):
        for row, name, ids in zip(axes[len(INDICES) * k :], INDICES.values(), both, strict=False):
            _tile(row[0], data.test.evaluated[query], framed=False)
            row[0].set_ylabel(name, rotation=0, ha="right", va="center")
            for axis, i in zip(row[1:], ids.tolist(), strict=True):
                _tile(axis, data.train.evaluated[i], data.train.labels[i] == data.test.labels[query])
    axes[0, 0].set_title("query", fontsize=8)
    axes[0, 1].set_title("nearest", fontsize=8)
    return figure


def _tile(axis: plt.Axes, image: torch.Tensor, framed: bool) -> None:
    """An image, with a frame or without."""
    axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="none")
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for side in axis.spines.values():
        side.set(visible=bool(framed), color=BLUE, linewidth=3)


def grid(frame: pd.DataFrame, metric: str = "own_map") -> Figure:
    """Bars of the measured checks, side by side for all views."""
    cells = {(c, v): list(by_seed(frame, label(v, c), metric).values()) for v in VIEWS for c in CHECKS}
    return grouped_bars(cells, CHECKS, dict(zip(VIEWS, CYCLE, strict=False)), f"{METRICS[metric]}, %")


def by_metric(frame: pd.DataFrame) -> Explorer:
    """The same by another metric."""
    return measures(METRICS, lambda metric: grid(frame, metric))
