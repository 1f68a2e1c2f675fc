"""Sets of four turned views, and pictures whose class and orientation can be read: from the policy to the label."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kdlib.methods import METHODS, Batch, Step, check_method
from kdlib.views.policies import create_policy

from .conftest import CLASSES

BRANCHES = 3
JOINT = (BRANCHES, 4 * CLASSES)


def sets(values: Tensor) -> np.ndarray:
    """[4 M, ...] -> [M, 4, ...] by explicit places."""
    rows = values.detach().double().numpy()
    return np.array([[rows[4 * m + r] for r in range(4)] for m in range(len(rows) // 4)])


def label_of_set(batch: Batch, m: int) -> int:
    return int(batch.labels[m // (batch.views // 4)])


def picture(label: int) -> Tensor:
    """uint8 [3, 32, 32]: the upper half is light in red; the green level says the class. A flip changes nothing."""
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[0, :16] = 255
    image[1] = 40 * (label + 1)
    return image


def read(view: Tensor) -> tuple[int, int]:
    """(class, quarter turns counter-clockwise) of one view, whose border may be black from cropping."""
    red, green = view[0].double(), view[1]
    sides = [red[:16].mean(), red[:, :16].mean(), red[16:].mean(), red[:, 16:].mean()]  # turning left: top to left
    return int(green.max()) // 40 - 1, int(torch.stack(sides).argmax())


def reading(views: Tensor, width: Callable[[int, int], tuple[int, int]]) -> Tensor:
    """[rows, size] with 50 at the place that `width(class, turns)` -> (place, size) says."""
    places = [width(*read(view)) for view in views.flatten(0, 1)]
    out = torch.zeros(len(places), places[0][1])
    for row, (place, _) in enumerate(places):
        out[row, place] = 50.0
    return out


def readable_step(name: str, policy: str) -> Step:
    """Views as training makes them, of one picture for each class."""
    chosen = check_method(name, METHODS[name].needs_teacher, create_policy(policy))
    labels = torch.tensor([3, 0, 4, 1])
    draws = {
        role: torch.rand(len(labels), n, generator=torch.Generator().manual_seed(i))
        for i, (role, n) in enumerate(chosen.roles.items())
    }
    views = chosen(torch.stack([picture(int(y)) for y in labels]), draws)
    assert views.shape[1] == 4 * create_policy(policy).views
    return Step(views, labels, torch.rand(4), torch.arange(4))
