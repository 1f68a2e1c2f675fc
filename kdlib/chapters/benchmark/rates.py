"""Rates: work per second, of arms that take turns."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from kdlib.lab.clock import Tell, nobody, seconds_of, turns
from kdlib.models.network import PRECISIONS

Arms = Mapping[str, Callable[[int], float]]  #: name -> what measures a rate, given the number of the round
Rates = dict[str, list[float]]  #: name -> its rate in each round


def in_turn(arms: Arms, rounds: int, tell: Tell = nobody) -> Rates:
    """Each arm measures its own rate, round after round; the first round is not counted."""
    return turns(arms, rounds, 1, tell)


def rate(work: float, task: Callable[[int], object], repeats: int = 1, device: str = "cpu") -> float:
    """Work per second of task(0), task(1), ..., which do `work` each."""

    def all_of_them(_: int) -> None:
        for number in range(repeats):
            task(number)

    return repeats * work / seconds_of(all_of_them, 0, device)


def products(precision: str, size: int = 2048, device: str = "cpu") -> Callable[[int], float]:
    """An arm: GFLOP/s of the product of two square matrices."""
    a = torch.randn(size, size, device=device).to(PRECISIONS[precision])
    return lambda _: rate(2 * size**3 / 1e9, lambda _: a @ a, 3, device)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for each operation, and then again as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
