"""Timing: everything that is compared takes its turn, round after round, so that what slows the machine slows all."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

Tell = Callable[[float], None]  #: is told which share of a measurement is done, after each turn


def nobody(share: float) -> None:
    """Is told, and does nothing."""


def in_turn(
    tasks: Mapping[str, Callable[[int], Any]], rounds: int, warm_up: int = 1, tell: Tell = nobody
) -> dict[str, list]:
    """Name -> what the task gave in each round. Each is called with the number of the round, which counts on from the
    `warm_up` rounds whose values are left out."""
    found: dict[str, list] = {name: [] for name in tasks}
    for number in range(warm_up + rounds):
        for place, (name, task) in enumerate(tasks.items(), 1):
            value = task(number)
            if number >= warm_up:
                found[name].append(value)
            tell((number + place / len(tasks)) / (warm_up + rounds))
    return found


def timed(task: Callable[[int], object], device: str = "cpu") -> Callable[[int], float]:
    """What calls a task with a number, and gives its seconds; a GPU is waited for before the clock is read."""

    def seconds(number: int) -> float:
        started = time.perf_counter()
        task(number)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return seconds


def summary(values: list[float]) -> dict[str, float]:
    """The median, and the first and third quartile."""
    first, median, third = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "first_quartile": first, "third_quartile": third}
