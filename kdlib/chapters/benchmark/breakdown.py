"""Where the time of a whole step goes, by kind of operation."""

import os
import re
from collections.abc import Mapping

from torch.profiler import ProfilerActivity, profile

from kdlib.chapters.benchmark.runs import run_of, steps_of
from kdlib.lab.measures.timing import Steps

VIEWS, OPTIMISER, REST = "making views", "optimiser", "rest"
#: Kind -> the names of its operations, as torch's profiler writes them.
KINDS: Mapping[str, str] = {
    "convolutions, forward": r"conv(2d|olution)(?!_?backward)",
    "convolutions, backward": r"convolution_?backward",
    "batch norm": r"batch_?norm",
    "activations": r"relu|clamp_min|threshold",
    "sums": r"aten::add_?$",
    "copies": r"aten::(copy_|clone|fill_|zero_|cat|stack|contiguous|_?to|_to_copy)$",
}


def breakdown(steps: int = 5) -> dict[str, float]:
    """Kind -> its share of the self time of all operations in steps of WRN-40-2 to WRN-16-2; shares add up to 1.

    Self time is that of an operation without those it calls, on the thread that calls: with several threads, the time
    until all are done.
    """
    return shares_of(steps_of(run_of("wrn")), steps)


def shares_of(run: Steps, steps: int = 5, views: bool = True) -> dict[str, float]:
    """The same of any run; views: whether the time in which they are made counts."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # or the profiler writes to the terminal that there is no GPU
    for number in range(2):
        run.take(number)
    found = dict.fromkeys((*KINDS, *[VIEWS] * views, OPTIMISER, REST), 0.0)
    for number in range(2, 2 + steps):
        with _watched() as making:
            made = run.task.batch(number)
        with _watched() as learning:
            run.optimisation.begin(0.0)
            run.optimisation.gradients(run.method, made)
        with _watched() as moving:
            run.optimisation.move()
        for kind, seen in ((VIEWS, making), (OPTIMISER, moving)):
            if kind in found:
                found[kind] += sum(event.self_cpu_time_total for event in seen.key_averages())
        for event in learning.key_averages():
            found[kind_of(event.key)] += event.self_cpu_time_total
    whole = sum(found.values())
    return {kind: time / whole for kind, time in found.items()}


def _watched() -> profile:
    return profile(activities=[ProfilerActivity.CPU])


def kind_of(operation: str) -> str:
    """The kind of an operation of a step, the making of views aside."""
    return next((kind for kind, names in KINDS.items() if re.search(names, operation, re.IGNORECASE)), REST)
