"""Numbers that are not finite: a teacher that has them is refused, and a run that meets them says where they began."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kdlib.lab.evaluate import logits_on
from kdlib.lab.task import Task

ASKED = 64  # images: enough to see whether a teacher's logits are finite
ROWS = 1000  # steps that a watch remembers before it looks


def check_weights(network: nn.Module, whose: str) -> None:
    """Raises ValueError if a weight or statistic of a network is nan or infinite; whose: how the network is called."""
    check_tensors(network.state_dict(), whose)


def check_tensors(state: Mapping[str, Tensor], whose: str) -> None:
    """As `check_weights`, of a network's state before it is loaded."""
    if bad := _not_finite(state):
        raise ValueError(f"{whose} has weights that are not finite ({named(bad)}): it cannot teach, choose another one")


def not_finite(network: nn.Module) -> list[str]:
    """Names of the weights and statistics of a network that hold nan or infinity."""
    return _not_finite(network.state_dict())


def _not_finite(state: Mapping[str, Tensor]) -> list[str]:
    return [name for name, values in state.items() if values.is_floating_point() and not values.isfinite().all()]


def named(names: list[str]) -> str:
    """The first name of some, and how many more there are."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


@dataclass
class Watch:
    """The scalars of a run's last steps: which of them was the first that is not finite is read when it is asked for,
    so that nothing waits for a GPU in between."""

    rows: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)

    def see(self, step: int, scalars: dict[str, Tensor]) -> None:
        """Remembers the loss and the other scalars of step 1, 2, ..."""
        self.rows.append((step, {name: value.detach() for name, value in scalars.items()}))

    @property
    def full(self) -> bool:
        """Whether it is time to check."""
        return len(self.rows) >= ROWS

    def take_bad(self) -> tuple[int, float, list[str]] | None:
        """Forgets the steps that were seen. The first of them whose loss is not finite, that loss, and the names of its
        terms that are not; None if all are."""
        rows, self.rows = self.rows, []
        if not rows:
            return None
        bad = (~torch.stack([scalars["loss"].float() for _, scalars in rows]).isfinite()).nonzero()
        if not len(bad):
            return None
        step, scalars = rows[int(bad[0, 0])]
        terms = [name for name, value in scalars.items() if name != "loss" and not value.isfinite().all()]
        return step, scalars["loss"].item(), terms


def check(watch: Watch, task: Task) -> None:
    """Raises ValueError where a loss is not finite since the teacher's weights or logits are not, else
    FloatingPointError, with the step, its terms, and the state of both networks."""
    if bad := watch.take_bad():
        raise failure(task, *bad)


def check_learner(watch: Watch, key: str, network: nn.Module) -> None:
    """As `check`, of another task than classification. Raises FloatingPointError."""
    if bad := watch.take_bad():
        step, loss, terms = bad
        states = ", ".join(filter(None, (parts_of(terms), state_of("network", network))))
        raise FloatingPointError(f"run {key}: the loss is {loss} at step {step}; {states}; {advice(step)}")


def parts_of(terms: list[str]) -> str:
    """Which terms of a loss are not finite, in words; empty if none is."""
    return f"of its parts {', '.join(terms)} {'is' if len(terms) == 1 else 'are'} not finite" if terms else ""


def state_of(role: str, network: nn.Module) -> str:
    """Whether a network's weights are finite, in words."""
    bad = not_finite(network)
    return f"the {role}'s weights are {f'not finite now ({named(bad)})' if bad else 'finite'}"


def advice(step: int) -> str:
    """What to do about a loss that is not finite at a step."""
    return "try a smaller learning_rate" if step > 1 else "no step was taken before, so look at images and options"


def failure(task: Task, step: int, loss: float, terms: list[str]) -> Exception:
    """What is to be said of a loss that is not finite at step 1, 2, ..., and of its terms that are not."""
    start = f"run {task.spec.key}: the loss is {loss} at step {step}"
    fault = teachers_fault(task)
    if fault:
        return ValueError(f"{start} because the teacher's {fault}: it cannot teach, choose another one")
    states = [
        parts_of(terms),
        state_of("student", task.method.student),
        "the teacher's weights and logits are finite" if task.method.teacher is not None else "",
    ]
    return FloatingPointError(f"{start}; {', '.join(filter(None, states))}; {advice(step)}")


def teachers_fault(task: Task) -> str:
    """What of a task's teacher is not finite, in words; empty if all of it is, or if there is none."""
    teacher = task.method.teacher
    if teacher is None:
        return ""
    if bad := not_finite(teacher):
        return f"weights are not finite ({named(bad)})"
    logits = logits_on(teacher, task.images[:ASKED])
    if not logits.isfinite().all():
        values = textwrap.shorten(", ".join(sorted({str(v) for v in logits[~logits.isfinite()].tolist()})), 40)
        return f"logits are not finite ({values})"
    return ""
