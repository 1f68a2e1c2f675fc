"""What is measured in processes of its own: runs side by side against one after another, and the memory of a run."""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdlib.chapters.benchmark.rates import Rates
from kdlib.chapters.benchmark.runs import IMAGES, run_of, steps_of
from kdlib.lab.clock import Tell, in_turn, nobody

STATUS = Path("/proc/self/status")
WAIT = 300  # seconds at most, until the other process is ready


def parallel_runs(rounds: int, tell: Tell = nobody, steps: int = 20) -> Rates:
    """Image pairs per second, of both runs together, of ResNet-56 to ResNet-8; and of one run alone with one thread."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(2, mp_context=context) as pool:

        def pairs(threads: int, runs: int) -> float:
            start = manager.Barrier(runs)
            working = [pool.submit(clock_of_a_run, threads, steps, start) for _ in range(runs)]
            return IMAGES * rate_together([run.result() for run in working])

        return in_turn(
            {
                "side by side": lambda _: pairs(threads=1, runs=2),
                "in turn": lambda _: pairs(threads=2, runs=1),
                "one thread": lambda _: pairs(threads=1, runs=1),
            },
            rounds,
            tell=tell,
        )


def clock_of_a_run(threads: int, steps: int, start: Any) -> list[float]:
    """The clock, which all processes share, before the first of so many steps and after each of them.

    start: a barrier: the steps begin once all processes that wait at it are ready. Raises BrokenBarrierError if one of
    them is not.
    """
    torch.set_num_threads(threads)
    run = steps_of(run_of("resnet"))
    for number in range(2):
        run.take(number)
    start.wait(WAIT)
    clock = [time.monotonic()]
    for number in range(2, 2 + steps):
        run.take(number)
        clock.append(time.monotonic())
    return clock


def rate_together(clocks: Sequence[Sequence[float]]) -> float:
    """Steps per second of all runs together, while all of them work: what one does before and after does not count.

    clocks: as `clock_of_a_run` gives them; a step that lies half in the common time counts half.
    """
    first, last = max(clock[0] for clock in clocks), min(clock[-1] for clock in clocks)
    done = [np.diff(np.interp((first, last), clock, range(len(clock)))).item() for clock in clocks]
    return sum(done) / (last - first)


def memory(pair: str = "wrn") -> Rates:
    """Gigabytes (1e9) that ten steps of a run add, at most, to a new process that has imported kdlib. Empty where the
    system does not say (Linux does)."""
    if not STATUS.exists():
        return {}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return {"most": [pool.submit(_of_a_run, pair).result() / 1e9]}


def peak_bytes() -> int:
    """The most memory that this process has held. Not by `getrusage`, which would count that of its parent too."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _of_a_run(pair: str) -> int:
    before = peak_bytes()
    torch.set_num_threads(1)
    run = steps_of(run_of(pair))
    for number in range(10):
        run.take(number)
    return peak_bytes() - before
