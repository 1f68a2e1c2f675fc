"""What a method is made of: the batch that its loss sees, the terms it returns, and its definition."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.methods.taxonomy import Taxonomy
from kdlib.models import Backbone, Output
from kdlib.models.resolution import WHOLE, Resolution
from kdlib.records import Record

Options = TypeVar("Options", bound=Record)


class Term(NamedTuple):
    """One part of the loss: a scalar tensor and the number it is multiplied with."""

    value: Tensor
    weight: float


Loss = tuple[dict[str, Term], dict[str, Tensor]]  #: terms of the loss, and scalars that are only recorded


class Step(NamedTuple):
    """The input of one optimiser step, B images with V views each."""

    #: uint8 [B, V, 3, H, W]
    views: Tensor
    #: int64 [B]
    labels: Tensor
    #: float32 [B], one uniform number per image for methods that draw
    keys: Tensor
    #: int64 [B] on the CPU, the places of the images in the run's list of training images
    index: Tensor  # type: ignore[assignment]  # a tuple's method of that name, which nobody calls on a step
    #: for draws of the whole step
    seed: int = 0
    #: the epoch of the first image, from 1
    epoch: int = 1
    #: of the whole run
    epochs: float = 1.0
    #: float32 [B, V], how much of each view is the image itself, where the policy mixes images
    shares: Tensor | None = None
    #: int64 [B], the other labels, where the policy mixes images
    partners: Tensor | None = None
    #: floating [B, V, N], the teacher's logits on the views, where they were stored before
    answers: Tensor | None = None
    #: what the method made of the teacher's survey, see `Definition.survey`
    limits: tuple[float, ...] | None = None

    def split(self, parts: int) -> "list[Step]":
        """The step in equal parts, by images; B must be a multiple of `parts`. Each part draws for itself."""
        if parts == 1:
            return [self]
        chunks = {n: v.chunk(parts) for n, v in self._asdict().items() if isinstance(v, Tensor)}
        changes: list[dict[str, Any]] = [{n: c[i] for n, c in chunks.items()} for i in range(parts)]
        return [self._replace(seed=self.seed + i, **changed) for i, changed in enumerate(changes)]


class Memory(nn.Module):
    """What a method trains, or remembers, beside the student, see `Definition.memory`."""

    def update(self) -> None:
        """Called after each step of the optimiser."""
        raise NotImplementedError


@dataclass(frozen=True)
class Batch:
    """What a method's loss sees of a step.

    student: Output on all B * V views, interleaved by image; teacher: the same without gradient (its logits alone,
    where they were stored), or None; memory: the method's own trained state, or None; network: what the student's
    outputs come from, for a loss that reads its weights, or None.
    """

    step: Step
    student: Output
    teacher: Output | None = None
    memory: Memory | None = None
    network: Backbone | None = None

    @property
    def teacher_output(self) -> Output:
        """`teacher`, for a loss that learns from one. Raises ValueError where it is None."""
        if self.teacher is None:
            raise ValueError("teacher is None: this loss learns from one; allowed is its Output on the views")
        return self.teacher

    @property
    def labels(self) -> Tensor:
        """int64 [B]"""
        return self.step.labels

    @property
    def views(self) -> int:
        """V, views of one image"""
        return self.step.views.shape[1]

    @property
    def view_labels(self) -> Tensor:
        """int64 [B * V]: each view's label is that of its image."""
        return self.labels.repeat_interleave(self.views)

    @property
    def cross_entropy(self) -> Tensor:
        """Mean cross-entropy over all B * V views; a view that mixes two images has both labels, by share."""
        shares, partners = self.step.shares, self.step.partners
        if shares is None:
            return F.cross_entropy(self.student.logits, self.view_labels)
        if partners is None:
            raise ValueError("partners is None: views are mixed by shares; allowed are the other labels, int64 [B]")
        others = partners.repeat_interleave(self.views)
        return mixed_cross_entropy(self.student.logits, self.view_labels, others, shares.flatten())

    def pair(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of original and of augmented views of [2 B, ...]."""
        return values[0::2], values[1::2]


class NoOptions(Record):
    """None."""


def mixed_cross_entropy(logits: Tensor, labels: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """The mean of share * CE(labels) + (1 - share) * CE(others), a scalar: for images mixed of two, as by CutMix.

    logits: [M, N]; labels, others: int64 [M]; share: float [M], in [0, 1].
    """
    first, second = (F.cross_entropy(logits, target, reduction="none") for target in (labels, others))
    return (share * first + (1 - share) * second).mean()


def check_logits(**named: Tensor) -> None:
    """Raises ValueError, in one sentence, unless all are floating [B, N] of one shape; the first one says which."""
    first = next(iter(named))
    for name, logits in named.items():
        if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.ndim != 2:
            raise ValueError(f"{name} is {kind_of(logits)}; allowed are floating logits [B, N]")
        if logits.shape != named[first].shape:
            raise ValueError(f"{name} has the shape {list(logits.shape)}, {first} has {list(named[first].shape)}")


def check_pairs(what: str, **named: tuple[Tensor, Tensor]) -> None:
    """Raises ValueError, in one sentence, unless all are pairs; what: of what."""
    for name, pair in named.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"{name} must be a pair: {what}")


def check_tensor(subject: str, value: Tensor, kind: Literal["floating", "int64"], *shape: int | str) -> None:
    """Raises ValueError, in one sentence that begins with the subject, such as "labels are", unless value is a tensor
    of that kind and shape; a letter stands for any number."""
    fits = isinstance(value, Tensor) and value.ndim == len(shape)
    fits = fits and (value.is_floating_point() if kind == "floating" else value.dtype == torch.int64)
    if not fits or any(n != size for n, size in zip(shape, value.shape, strict=True) if isinstance(n, int)):
        raise ValueError(f"{subject} {kind_of(value)}; allowed is {kind} [{', '.join(map(str, shape))}]")


def kind_of(value: object) -> str:
    """Type and shape of a tensor, or what something else is."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def soft_term(value: Tensor, weight: float, temperature: float) -> Term:
    """A term of divergences at a temperature: its weight has the factor T^2 of Hinton et al. (2015), which keeps
    gradients comparable across temperatures."""
    return Term(value, weight * temperature**2)


def total(terms: Mapping[str, Term]) -> Tensor:
    """The loss: the weighted sum of its terms."""
    return summed(term.value * term.weight for term in terms.values())


def summed(values: Iterable[Tensor]) -> Tensor:
    """0 + the first + the second ...; there is at least one."""
    return cast(Tensor, sum(values))


def no_numbers(epoch: int, epochs: float, options: Record) -> tuple[float, ...]:
    """None, see `Definition.numbers`."""
    return ()


@dataclass(frozen=True)
class Definition(Generic[Options]):
    """A method as data."""

    #: (Batch, options) -> Loss
    loss: Callable[[Batch, Options], Loss]
    #: their names, defaults, ranges and, as titles, symbols in the formula
    options: type[Options]
    #: the paper
    source: str
    #: LaTeX
    formula: str
    #: whether it learns from a teacher
    needs_teacher: bool = True
    #: the methods whose runs train the teacher's head, if the teacher needs one
    taught_by: tuple[str, ...] = ()
    #: False trains only a head on the teacher's own frozen backbone
    trains_student: bool = True
    #: the numbers of views per image that a policy may make (None: any)
    views: tuple[int, ...] | None = None
    #: what the method makes of each view of the policy, see kdlib.views.orientations
    spread: str = "none"
    #: whether views that mix two images make sense
    mixes: bool = False
    #: whether the teacher's logits are all that the loss reads of it, so that stored ones will do
    logits_only: bool = False
    #: whether teacher and student must have equally many stages
    pairs_stages: bool = False
    #: (backbone, options) -> a module from its Output to a tensor, needed only in training
    head: Callable[[Backbone, Options], nn.Module] | None = None
    #: (student, teacher or None, labels of the training images, options) -> a module that is trained with the student,
    #: or remembers what it said, and is needed only in training; None where these options need none
    memory: Callable[[Backbone, Backbone | None, Tensor, Options], Memory | None] | None = None
    #: options -> what the student, and what the teacher, is given of each view, in training and where they are
    #: measured; None: all of it
    resolutions: Callable[[Options], tuple[Resolution, Resolution]] | None = None
    #: (the teacher's logits float32 [n, N] on one plain crop of each training image, options) -> numbers that hold for
    #: the whole run, and that the loss finds as `Step.limits`
    survey: Callable[[Tensor, Options], tuple[float, ...]] | None = None
    #: whether a method with a survey needs it at these options; None: always
    surveys: Callable[[Options], bool] | None = None
    #: (epoch, epochs, options) -> what the loss makes of these numbers of a step, and of no others but its limits: a
    #: step that was captured (see `kdlib.lab.captured`) serves for those steps in which it is equal. None: the method
    #: reads others (the index, the seed), or does something after the step, so that no step of it is captured
    numbers: Callable[[int, float, Options], tuple[float, ...]] | None = no_numbers
    #: raised when a change alters what this method alone does in training, see `kdlib.lab.specs.RunSpec`
    revision: int = 0
    #: where it stands among the others; of every method of the project, while one of your own may do without
    taxonomy: Taxonomy | None = None

    def resolutions_of(self, options: Options) -> tuple[Resolution, Resolution]:
        """What the student, and what the teacher, is given of each view."""
        return self.resolutions(options) if self.resolutions else (WHOLE, WHOLE)

    @property
    def stacks(self) -> bool:
        """Whether runs of several seeds can be trained together: there is nothing but a student, and a teacher's
        logits, unless the options of a run ask for a survey."""
        more = self.head or self.memory or self.taught_by or self.survey and not self.surveys
        return self.trains_student and not more and (self.logits_only or not self.needs_teacher)
