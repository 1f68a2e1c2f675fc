"""Figures of what the operations do, and how many of them fire."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from kdlib.chapters.joint_data_augmentation.jda_tables import signs
from kdlib.show import pictures
from kdlib.show.explorer import Explorer, sheet
from kdlib.show.figures import BLUE, ORANGE, styled, tiles
from kdlib.views.jda import JDA
from kdlib.views.ops import OPS, apply_op
from kdlib.views.policies import create_policy


@styled
def operations(transform: JDA, images: Tensor) -> Figure:
    """Every op of a policy at its magnitude, both signs side by side, on images [n, 3, H, W]."""
    rows, names = [images], ["as stored"]
    for name, magnitude in transform.ops:
        rows.append(torch.cat([apply_op(name, images, magnitude, s) for s in signs(name)]))
        names.append(f"{name} {magnitude}")
    return tiles.__wrapped__(rows, names, scale=0.62)


@styled
def fired(counts: pd.DataFrame) -> Figure:
    """Counted shares as bars, binomial probabilities as dots; counts as `jda_tables.fired_counts` gives them."""
    figure, axis = plt.subplots(figsize=(6.4, 2.8))
    axis.bar(counts.index, counts.counted, color=BLUE, alpha=0.55, label="counted")
    axis.plot(counts.index, counts.binomial, "o", color=ORANGE, label="binomial")
    axis.set(xlabel="acting operations that fired on an image", ylabel="share of images")
    axis.legend()
    return figure


def explore_operations(images: Tensor) -> Explorer:
    """One op at each magnitude: what it makes of images uint8 [n, 3, H, W]."""

    def render(name: str, magnitude: int) -> np.ndarray:
        return sheet(apply_op(name, images, magnitude, 1))

    about = "One operation at each of its ten magnitudes (positive sign); at magnitude 0 most change nothing."
    return Explorer({"operation": list(OPS), "magnitude": list(range(10))}, render, about, scale=3)


def explore_probability(ops: str, images: Tensor) -> Explorer:
    """The policy at p = 0, 0.1, ..., 1 with the same random numbers."""

    def render(p: float, draw: int) -> np.ndarray:
        views = pictures.views_of(create_policy("jda", ops=ops, p=p), images, epoch=draw)
        return sheet(views[:, 0], views[:, 1])

    about = "Original views above, augmented views below. What fires at one p also fires at any larger p."
    return Explorer({"p": [k / 10 for k in range(11)], "draw": [0, 1, 2]}, render, about, scale=3)
