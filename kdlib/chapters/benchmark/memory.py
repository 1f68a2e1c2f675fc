"""The memory that a run needs, beside what Python and torch take before it."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from kdlib.chapters.benchmark.rates import Rates
from kdlib.chapters.benchmark.runs import run_of, steps_of

STATUS = Path("/proc/self/status")


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
