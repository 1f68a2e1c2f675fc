"""Rates: work per second, of arms that take turns."""

from collections.abc import Callable

import torch

from kdlib.lab.clock import timed
from kdlib.models.network import PRECISIONS

Rates = dict[str, list[float]]  #: name -> its rate in each round


def rate(work: float, task: Callable[[int], object], repeats: int = 1, device: str = "cpu") -> Callable[[int], float]:
    """An arm: work per second of the next `repeats` of task(0), task(1), ..., which do `work` each, in every round."""

    def of_a_round(number: int) -> None:
        for k in range(repeats):
            task(repeats * number + k)

    seconds = timed(of_a_round, device)
    return lambda number: repeats * work / seconds(number)


def products(precision: str, size: int = 2048, device: str = "cpu") -> Callable[[int], float]:
    """An arm: GFLOP/s of the product of two square matrices."""
    a = torch.randn(size, size, device=device).to(PRECISIONS[precision])
    return rate(2 * size**3 / 1e9, lambda _: a @ a, 3, device)
