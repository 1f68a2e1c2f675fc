"""Where the time of a whole step goes, by kind of operation."""

import os
import re
from collections.abc import Mapping

from torch.profiler import ProfilerActivity, profile

from kdlib.chapters.benchmark.runs import run_of, steps_of

VIEWS, REST = "making views", "rest"
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
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # or the profiler writes to the terminal that there is no GPU
    run = steps_of(run_of("wrn"))
    for number in range(2):
        run.take(number)
    found = dict.fromkeys((*KINDS, VIEWS, REST), 0.0)
    for number in range(2, 2 + steps):
        with profile(activities=[ProfilerActivity.CPU]) as making:
            made = run.task.batch(number)
        with profile(activities=[ProfilerActivity.CPU]) as learning:
            run.optimisation.step(run.method, made, 0.0)
        found[VIEWS] += sum(event.self_cpu_time_total for event in making.key_averages())
        for event in learning.key_averages():
            found[kind_of(event.key)] += event.self_cpu_time_total
    whole = sum(found.values())
    return {kind: time / whole for kind, time in found.items()}


def kind_of(operation: str) -> str:
    """The kind of an operation of a step, the making of views aside."""
    return next((kind for kind, names in KINDS.items() if re.search(names, operation, re.IGNORECASE)), REST)
