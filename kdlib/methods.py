"""Distillation methods: what the student's and the teacher's outputs on the views of a batch are turned into.

A method is one function from a `Batch` of outputs to named, weighted loss terms, and one entry in METHODS with its
options and their defaults. Views come from the run's view policy: any policy that makes enough views goes under any
method.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib import losses
from kdlib.models import Output
from kdlib.networks import Network
from kdlib.records import Number, Record


class Term(NamedTuple):
    """One part of the loss: a scalar tensor and the number it is multiplied with."""

    value: Tensor
    weight: float


class CEOptions(Record):
    """None."""


class KDOptions(Record):
    """Weights of the two terms; the KL term is also multiplied by temperature squared."""

    temperature: Number = Field(4.0, gt=0)
    ce_weight: Number = Field(1.0, ge=0)
    kd_weight: Number = Field(1.0, ge=0)


class CCDOptions(KDOptions):
    """weight: the method ("cosine") or one of its controls, see `losses.ccd_weights`."""

    weight: Literal[losses.CCD_WEIGHTS] = "cosine"


@dataclass(frozen=True)
class Batch:
    """What a method sees of a step.

    labels: int64 [B]; student: Output on all B * V views, interleaved by image; teacher: the same without gradient, or
    None; views: V; keys: float32 [B], one uniform number per image for methods that draw.
    """

    labels: Tensor
    student: Output
    teacher: Output | None
    views: int
    keys: Tensor

    def view(self, logits: Tensor, index: int) -> Tensor:
        """Logits [B, N] of view `index` out of all views [B * V, N]."""
        return logits[index :: self.views]

    @property
    def cross_entropy(self) -> Tensor:
        """Mean cross-entropy over all B * V views, each with the label of its image."""
        return F.cross_entropy(self.student.logits, self.labels.repeat_interleave(self.views))


Loss = tuple[dict[str, Term], dict[str, Tensor]]  # terms of the loss, and scalars that are only recorded


def _ce(batch: Batch, options: CEOptions) -> Loss:
    return {"ce": Term(batch.cross_entropy, 1.0)}, {}


def _kd(batch: Batch, options: KDOptions) -> Loss:
    kl = losses.kd_loss(batch.student.logits, batch.teacher.logits, options.temperature)
    weight = options.kd_weight * options.temperature**2
    return {"ce": Term(batch.cross_entropy, options.ce_weight), "kl": Term(kl, weight)}, {}


def _ccd(batch: Batch, options: CCDOptions) -> Loss:
    student = tuple(batch.view(batch.student.logits, v) for v in range(2))
    teacher = tuple(batch.view(batch.teacher.logits, v) for v in range(2))
    w = losses.ccd_weights(*teacher, options.weight, batch.keys)
    ccd = losses.ccd_loss(student, teacher, w, options.temperature)
    weight = options.kd_weight * options.temperature**2
    return {"ce": Term(batch.cross_entropy, options.ce_weight), "ccd": Term(ccd, weight)}, {"w": w.mean()}


@dataclass(frozen=True)
class Definition:
    """views: the numbers of views per image that the method accepts (None: any)."""

    loss: Callable[[Batch, Record], Loss]
    options: type[Record]
    source: str
    needs_teacher: bool = True
    views: tuple[int, ...] | None = None


METHODS: Mapping[str, Definition] = {
    "ce": Definition(_ce, CEOptions, "cross-entropy on the labels, no teacher", needs_teacher=False),
    "kd": Definition(_kd, KDOptions, "Hinton et al., 2015"),
    "ccd": Definition(_ccd, CCDOptions, "Cosine Confidence Distillation (Li et al., 2024)", views=(2,)),
}


def method_options(name: str, options: Mapping) -> Record:
    """The validated options of a method. Raises ValueError for anything unknown or out of range."""
    if name not in METHODS:
        raise ValueError(f"method = {name!r} is unknown; allowed are {', '.join(METHODS)}")
    if not isinstance(options, Mapping):
        raise ValueError(f"options = {options!r} of method {name!r} must be a mapping of names to values")
    return METHODS[name].options(**options)


class Method(nn.Module):
    """A student, its teacher (frozen, in eval mode), and the loss between them.

    forward: views uint8 [B, V, 3, H, W], labels int64 [B], keys float32 [B] -> (terms, records), see `Loss`.
    """

    def __init__(self, name: str, student: Network, teacher: Network | None, views: int, options: Mapping):
        super().__init__()
        self.options = method_options(name, options)
        self.loss = METHODS[name].loss
        check_method(name, teacher is not None, views)
        self.student = student
        self.views = views
        self.teacher = teacher.eval().requires_grad_(False) if teacher is not None else None

    def train(self, mode: bool = True) -> "Method":
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, views: Tensor, labels: Tensor, keys: Tensor) -> Loss:
        flat = views.flatten(0, 1)
        teacher = None
        if self.teacher is not None:
            with torch.no_grad():
                teacher = self.teacher(flat)
        return self.loss(Batch(labels, self.student(flat), teacher, self.views, keys), self.options)


def check_method(name: str, has_teacher: bool, views: int) -> None:
    """Raises ValueError if the method misses its teacher, has one too many, or does not take that many views."""
    definition = METHODS[name]
    if definition.needs_teacher != has_teacher:
        raise ValueError(
            f"teacher of method {name!r} must be {'given' if definition.needs_teacher else 'absent (null)'}"
        )
    if definition.views is not None and views not in definition.views:
        allowed = " or ".join(map(str, definition.views))
        raise ValueError(
            f"method {name!r} needs a policy with {allowed} views per image; the policy given makes {views}"
        )


def create_method(name: str, student: Network, teacher: Network | None = None, views: int = 2, **options) -> Method:
    """The method called `name` for a student and a teacher. Raises ValueError for anything unknown or out of range."""
    return Method(name, student, teacher, views, options)


def total(terms: Mapping[str, Term]) -> Tensor:
    """The loss: the weighted sum of its terms."""
    return sum(term.value * term.weight for term in terms.values())
