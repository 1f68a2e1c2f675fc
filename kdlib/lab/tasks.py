"""Other tasks than image classification, on the same lab: what one of their runs is.

A task is a module of `kdlib.elsewhere`. It has a kind of spec, a `TaskSpec` that it calls SPEC, and a function
`learner` that makes of it, and of the weights of the runs that it learns from, a `kdlib.lab.learning.Learner`. All else
is as for any run: it is hashed, stored, stopped, resumed to the same bits, published, and compared by seeds.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

from pydantic import Field

from kdlib.lab.cost import BYTES
from kdlib.lab.recipe import Machine
from kdlib.lab.specs import Spec
from kdlib.records import Whole

#: Kind of spec -> the module of kdlib.elsewhere that has it. That room lies above this one: it is found by name when it
#: is asked for, as chapters are.
TASKS: Mapping[str, str] = {
    "detection": "detection",
    "oriented": "oriented",
    "translation": "translation",
    "masked teacher": "masked.teaching",
    "masked": "masked.training",
}


AVERAGES = 2  # that Adam and AdamW keep of each parameter's gradient


class TaskSpec(Spec):
    """A run of another task: all that decides its bits."""

    trains: ClassVar[bool] = True
    #: how much longer an operation takes than in what forecasts are made for: convolutions of small networks
    slowness: ClassVar[float] = 1.0

    #: tells it from specs of other kinds; a subclass says which, as a Literal with a default
    kind: str
    #: what it learns from; names mean what the task says
    data: str
    #: null, or the run that it learns from: a subclass says of which kind
    teacher: Any = None
    #: of every draw of the run
    seed: Whole = Field(ge=0)
    #: what equal bits need besides
    machine: Machine

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the run: all networks, forward and backward."""
        raise NotImplementedError(f"{type(self).__name__} does not say its macs")

    @property
    def parameters(self) -> int:
        """Of the network that the run leaves."""
        raise NotImplementedError(f"{type(self).__name__} does not say its parameters")

    @property
    def trained(self) -> int:
        """Parameters that are trained: those of the network, and of what is thrown away after the run."""
        return self.parameters

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept in training beside networks and optimiser: answers, memory."""
        return 0

    @property
    def training_bytes(self) -> int:
        """Bytes that a run keeps in training beside activations, in float32: what is trained, its gradients and the two
        averages of AdamW; the teacher; and `kept_bytes`."""
        taught = self.teacher.parameters if isinstance(self.teacher, TaskSpec) else 0
        return BYTES * ((1 + 1 + AVERAGES) * self.trained + taught) + self.kept_bytes

    @property
    def views(self) -> int:
        """Inputs that the student is trained on, each as often as it is."""
        raise NotImplementedError(f"{type(self).__name__} does not say its views")

    @property
    def network(self) -> str:
        """What is trained, in a few words."""
        return self.kind

    def check(self) -> None:
        """Raises ValueError, or FileNotFoundError, if the run cannot be made of its data: before any work."""


def task_of(kind: str) -> Any:
    """The module of a task. Raises ValueError for a kind that none has."""
    if kind not in TASKS:
        raise ValueError(f"kind = {kind!r} of a spec is unknown; allowed are {', '.join(TASKS)}")
    return import_module(f"kdlib.elsewhere.{TASKS[kind]}")


def read_task(fields: Any) -> TaskSpec:
    """The spec that a result holds, of the kind that it says."""
    return fields if isinstance(fields, TaskSpec) else task_of(fields["kind"]).SPEC.model_validate(fields)
