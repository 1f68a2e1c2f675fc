"""Seconds of one optimiser step of several runs, which take steps in turn."""

from pathlib import Path

from kdlib.lab import distributed
from kdlib.lab.clock import in_turn, summary, timed
from kdlib.lab.measurements import TimingSpec
from kdlib.lab.optimisation import Optimisation
from kdlib.lab.specs import RunSpec
from kdlib.lab.task import Task
from kdlib.models.network import Network


def measure_timing(spec: TimingSpec, *teachers: Network | None) -> dict:
    """NAME_seconds, NAME_quartiles: median and quartiles of whole steps: views, teacher, student, loss, optimiser.

    The networks start from scratch; an arm's teacher is its own. teachers: of each of the spec's runs, in order. Under
    torchrun the processes share each step, as in training.
    """
    pairs = zip(spec.runs.items(), teachers, strict=True)
    steps = {name: timed(Steps(run, teacher).take, spec.machine.device) for (name, run), teacher in pairs}
    metrics: dict = {"steps": spec.steps}
    for name, seconds in in_turn(steps, spec.steps, warm_up=3).items():
        found = summary(seconds)
        metrics[f"{name}_seconds"] = found["median"]
        metrics[f"{name}_quartiles"] = [found["first_quartile"], found["third_quartile"]]
    return metrics


class Steps:
    """A run that takes single steps, as training does."""

    def __init__(self, run: RunSpec, teacher: Network | None, banks: Path | None = None):
        self.task = Task.of(run, teacher, banks)
        self.method = self.task.method.train()
        self.module = distributed.parallel(self.method)
        self.optimisation = Optimisation.of(self.task)

    def take(self, number: int) -> None:
        """Step 0, 1, 2, ..."""
        self.optimisation.step(self.module, self.task.batch(number), done=0.0)
        self.method.after_step()
