"""Timing: everything that is compared takes its turn, round after round, so that what slows the machine slows all."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch


def in_turn(
    tasks: Mapping[str, Callable[[int], object]], rounds: int, warm_up: int = 3, device: str = "cpu"
) -> dict[str, list[float]]:
    """Name -> seconds of each round. Each task is called with the number of the round, which counts on from the
    `warm_up` rounds that are not timed; a GPU is waited for before the clock is read."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(warm_up + rounds):
        for name, task in tasks.items():
            started = time.perf_counter()
            task(number)
            if device == "cuda":
                torch.cuda.synchronize()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def summary(seconds: list[float]) -> dict[str, float]:
    """The median, and the first and third quartile."""
    first, median, third = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "first_quartile": first, "third_quartile": third}
