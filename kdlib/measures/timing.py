"""Seconds of one optimiser step: the arms take steps in turn, so that what slows the machine slows all of them."""

import time

import numpy as np
import torch

from kdlib.measurements import TimingSpec
from kdlib.networks import Network
from kdlib.specs import RunSpec
from kdlib.task import Task
from kdlib.train import Optimisation

WARM_UP = 3  # steps of each arm that are not timed


def measure_timing(spec: TimingSpec, *teachers: Network | None) -> dict:
    """NAME_seconds, _quartiles: median and quartiles of whole steps: views, teacher, student, loss, optimiser.

    The networks start from scratch; an arm's teacher is its own. teachers: of each of the spec's runs, in order.
    """
    arms = {name: _Arm(run, teacher) for (name, run), teacher in zip(spec.runs.items(), teachers, strict=True)}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(WARM_UP + spec.steps):
        for name, arm in arms.items():
            took = arm.step(turn)
            if turn >= WARM_UP:
                seconds[name].append(took)
    metrics: dict = {"steps": spec.steps}
    for name, values in seconds.items():
        first, median, third = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        metrics |= {f"{name}_seconds": median, f"{name}_quartiles": [first, third]}
    return metrics


class _Arm:
    """A run that takes single steps."""

    def __init__(self, run: RunSpec, teacher: Network | None):
        self.task = Task.of(run, teacher)
        self.method = self.task.method.train()
        self.optimisation = Optimisation.of(self.task)

    def step(self, number: int) -> float:
        """Takes a step; its seconds, until the device is done."""
        started = time.perf_counter()
        self.optimisation.step(self.method, self.task.batch(number), done=0.0)
        self.method.after_step()
        if self.task.spec.machine.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started
