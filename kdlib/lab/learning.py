"""How a run of another task than image classification goes through the loop."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.lab.checkpoints import save_checkpoint, whole, write_tensors
from kdlib.lab.loop import State, checkpoint_of, go_through, stops_of
from kdlib.lab.progress import Progress
from kdlib.lab.results import WEIGHTS, bits
from kdlib.lab.soundness import Watch, check_learner
from kdlib.lab.stopping import NEVER, Stop
from kdlib.lab.tasks import TaskSpec, task_of


class Learner(ABC):
    """A run at work.

    Every draw of a step must follow from the spec's seed and the number of the step alone (see `kdlib.randomness`; for
    layers that draw by themselves, as dropout, enter `seeded`), and all that changes from step to step must lie in
    `module` and `optimiser`: then a run that was stopped goes on to the same bits.
    """

    #: all that a checkpoint keeps beside the optimiser's state: weights, moving averages, counters as buffers
    module: nn.Module
    #: of what is trained
    optimiser: torch.optim.Optimizer
    #: optimiser steps of the run
    steps: int
    #: how often it is evaluated, at most 10
    evaluations: int = 1
    #: of the data: 16 hex digits
    fingerprint: str

    @property
    def network(self) -> nn.Module:
        """What is kept of `module` when the run is finished."""
        return self.module

    @abstractmethod
    def step(self, number: int) -> dict[str, Tensor]:
        """Step 0, 1, 2, ... with the optimiser. The loss as "loss" and whatever else is recorded, scalars."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Scores on the test data, by name."""

    def measure(self) -> dict[str, Any]:
        """What is measured at the end beside the last evaluation: what JSON can hold."""
        return {}


@dataclass
class Fitting:
    """A learner in the loop, see `kdlib.lab.loop`."""

    spec: TaskSpec
    learner: Learner
    folder: Path
    state: State = field(default_factory=lambda: State(0, 0.0, {}, []))

    def __post_init__(self) -> None:
        self.key, self.steps = self.spec.key, self.learner.steps
        self.stops, self.watch = stops_of(self.steps, self.learner.evaluations), Watch()
        self.belongs = {"key": self.key, "fingerprint": self.learner.fingerprint}

    def advance(self) -> list[dict[str, Tensor]]:
        return [self.learner.step(self.state.step)]

    def check(self) -> None:
        check_learner(self.watch, self.key, self.learner.module)

    def evaluate(self) -> None:
        loss = (self.state.sums["loss"] / self.state.step).item()
        self.state.evaluations.append({"step": self.state.step, "loss": loss, **self.learner.evaluate()})

    def save(self) -> None:
        states = {"module": self.learner.module.state_dict(), "optimiser": self.learner.optimiser.state_dict()}
        save_checkpoint({**self.belongs, **states, "state": vars(self.state)}, self.folder)

    def resume(self) -> None:
        """Goes on from the newest good checkpoint, if there is one."""
        content = checkpoint_of(self.folder, self.spec.machine.device, self.belongs)
        if content is not None:
            self.learner.module.load_state_dict(content["module"])
            self.learner.optimiser.load_state_dict(content["optimiser"])
            self.state = State(**content["state"])


def fit(
    spec: TaskSpec, folder: Path, known: list[Any], progress: Progress | None = None, stop: Stop = NEVER
) -> dict[str, Any]:
    """Runs a spec to its end, or on from the checkpoint in `folder`, and writes weights.safetensors there.

    known: of each of `spec.taught` what its teacher learnt, see `kdlib.lab.runs.load_teacher`. stop: once it is due no
    further step is begun: a checkpoint is written, and StoppedError raised.

    Returns {"metrics", "evaluations", "bits", "fingerprint", "seconds"}. metrics: the last evaluation, what the learner
    measures, steps, views, macs, and mean_NAME of every recorded scalar. Raises ValueError if the checkpoint belongs to
    other data or another spec, FloatingPointError if the loss is not finite.
    """
    learner = task_of(spec.kind).learner(spec, *known)
    run = Fitting(spec, learner, folder)
    run.resume()
    go_through(run, progress, stop)
    state = run.state
    last = {name: value for name, value in state.evaluations[-1].items() if name not in ("step", "loss")}
    means = {f"mean_{name}": (value / run.steps).item() for name, value in state.sums.items()}
    counts = {"steps": run.steps, "views": spec.views, "macs": spec.macs}
    metrics = last | learner.measure() | counts | means
    tensors = whole(learner.network.state_dict())
    write_tensors(tensors, folder / WEIGHTS)
    return {
        "metrics": metrics, "evaluations": state.evaluations, "bits": bits(tensors, metrics),
        "fingerprint": learner.fingerprint, "seconds": state.seconds,
    }  # fmt: skip
