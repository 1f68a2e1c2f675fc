"""The loop of everything that is trained: steps, with evaluations, checkpoints and looks at the clock between them.

What a step is, and what is measured, is said by who is trained; a checkpoint holds that and the `State`.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from kdlib.lab import distributed
from kdlib.lab.checkpoints import newest_checkpoint
from kdlib.lab.progress import Progress
from kdlib.lab.soundness import Watch
from kdlib.lab.stopping import Stop

CHECKPOINT_SECONDS = 60.0


@dataclass
class State:
    """What changes while a run runs, and what a checkpoint holds."""

    step: int
    seconds: float
    sums: dict[str, Tensor]  # of each recorded scalar since the start, on the device
    evaluations: list[Any]


class Trained(Protocol):
    """What goes through the loop."""

    #: of the run
    key: str
    #: in all
    steps: int
    #: after which it is evaluated
    stops: Collection[int]
    #: how far it is
    state: State
    #: what its last steps were like
    watch: Watch

    def advance(self) -> list[dict[str, Tensor]]:
        """Makes the next step; `state.step` counts those before it. The loss and other scalars of its equal parts."""

    def check(self) -> None:
        """Raises ValueError or FloatingPointError if a loss since the last look was not finite."""

    def evaluate(self) -> None:
        """Adds to `state.evaluations`."""

    def save(self) -> None:
        """Writes a checkpoint."""


def go_through(run: Trained, progress: Progress | None, stop: Stop) -> None:
    """All steps that are left. Once `stop` is due no further one is begun: a checkpoint is written, and StoppedError
    raised."""
    state, first_process = run.state, distributed.rank() == 0
    started, saved = time.monotonic() - state.seconds, time.monotonic()
    first = state.step + 1
    while state.step < run.steps:
        parts = run.advance()
        state.step += 1
        for scalars in parts:
            add(state.sums, scalars, len(parts))
            run.watch.see(state.step, scalars)
        due = state.step in run.stops or time.monotonic() - saved > CHECKPOINT_SECONDS
        if state.step == first or due or run.watch.full:
            run.check()
        if state.step in run.stops and first_process:
            run.evaluate()
        if due and first_process:
            state.seconds, saved = time.monotonic() - started, time.monotonic()
            run.save()
        if progress:
            progress(state.step, run.steps)
        if state.step < run.steps and distributed.agreed(stop.is_due()):
            run.check()
            if first_process:
                state.seconds = time.monotonic() - started
                run.save()
            raise stop.error(f"run {run.key} stopped at step {state.step} of {run.steps}")


def stops_of(steps: int, evaluations: int) -> set[int]:
    """After which of so many steps a run is evaluated: at equal distances, the last one among them.

    >>> sorted(stops_of(100, 4))
    [25, 50, 75, 100]
    """
    return {steps * (i + 1) // evaluations for i in range(evaluations)}


def add(sums: dict[str, Tensor], scalars: dict[str, Tensor], parts: int) -> None:
    """Adds one of the equal parts of a step, on the device, in float64: nothing waits for the GPU."""
    for name, value in scalars.items():
        value = (value.detach() / parts).double()
        sums[name] = sums[name] + value if name in sums else value


def checkpoint_of(folder: Path, device: str, belongs: dict[str, Any]) -> dict[str, Any] | None:
    """What the newest good checkpoint in a folder holds, or None where there is none.

    belongs: what it must share with the run that goes on from it; else ValueError is raised, as for a damaged one.
    """
    found = newest_checkpoint(folder, device)
    if found is None:
        return None
    path, content = found
    for name, value in belongs.items():
        if content.get(name) != value:
            raise ValueError(
                f"{name} of the checkpoint {path} is {content.get(name)}, the run's is {value}: delete it to start anew"
            )
    return content
