"""What all detectors have in common, of upright boxes and of turned ones: what a run is, and how it learns.

Each step has two views of every image. The first is plain, and always learns from the labels and, where there is one,
from the teacher. Of the second it is said what is done to it, whether its boxes are labels, and whether the teacher's
answer counts: so it can be asked whether an answer repairs what a moved label has lost.
"""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdlib.data.sampling import Order
from kdlib.elsewhere.boxes.detector import Detector
from kdlib.elsewhere.boxes.load import WHOLE
from kdlib.elsewhere.boxes.losses import LD, Form
from kdlib.elsewhere.boxes.pictures import SIDE, BoxData, Fixed
from kdlib.elsewhere.boxes.trees import WINDOW
from kdlib.elsewhere.rates import rate
from kdlib.lab.cost import macs, parameters
from kdlib.lab.evaluate import eval_mode
from kdlib.lab.learning import Learner
from kdlib.lab.tasks import TaskSpec
from kdlib.randomness import draws_of, seeded
from kdlib.records import Number, Whole

TOGETHER = 64  # images that are tested at once
CLIP = 10.0  # the largest norm of a gradient
VIEWS = 2


class DetectorSpec(TaskSpec):
    """The training of a detector, of upright boxes or of turned ones."""

    #: how many there are for training and for the test, of scenes; else as it is
    scenes: tuple[Whole, Whole] = WHOLE
    #: pixels of a picture that a view shows, of your own pictures; else as it is
    window: Whole = Field(WINDOW, ge=32)
    #: channels of the first layer
    width: Whole = Field(ge=4)
    #: whether the second view learns from its boxes
    labels: bool = True
    #: whether it learns from the teacher
    kd: bool = True
    #: of the divergence of classes, beside the labels' terms
    kd_weight: Number = Field(1.0, ge=0)
    #: of the divergence of sides, as published
    ld_weight: Number = Field(LD, ge=0)
    #: how classes are compared, see `kdlib.elsewhere.boxes.losses.class_divergence`
    form: Form = "bernoulli"
    #: optimiser steps
    steps: Whole = Field(ge=1)
    #: each in two views
    images_per_step: Whole = Field(16, ge=1)
    #: the highest; of AdamW, whose learning rate falls as a cosine to zero
    learning_rate: Number = Field(2e-3, gt=0)
    #: of AdamW
    weight_decay: Number = Field(1e-4, ge=0)
    #: how often it is tested, evenly over the run
    evaluations: Whole = Field(4, ge=1, le=10)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.machine.precision == "float16":
            raise ValueError("machine.precision = 'float16' is too coarse; allowed are 'float32' and 'bfloat16'")
        if min(self.scenes) < 1:
            raise ValueError(f"scenes = {list(self.scenes)} must be two whole numbers from 1 up")
        if self.teacher is not None and self.teacher.data != self.data:
            raise ValueError(f"teacher.data = {self.teacher.data!r} must be that of the student, {self.data!r}")
        if self.evaluations > self.steps:
            raise ValueError(f"evaluations = {self.evaluations} must be at most steps = {self.steps}")
        return self

    @property
    def views(self) -> int:
        return VIEWS * self.images_per_step * self.steps

    @property
    def macs(self) -> int:
        teacher = 0 if self.teacher is None else self.teacher.view_macs
        return self.views * (3 * self.view_macs + teacher)

    @property
    def view_macs(self) -> int:
        """Multiply-accumulates of one view through the detector."""
        return self._size[0]

    @property
    def parameters(self) -> int:
        return self._size[1]

    @property
    def _size(self) -> tuple[int, int]:
        """That of its network, see `size`."""
        raise NotImplementedError(f"{type(self).__name__} does not say its size")

    @property
    def network(self) -> str:
        return f"detector of width {self.width}"


@cache
def size(width: int, classes: int, network: type[Detector] = Detector, *more: Any) -> tuple[int, int]:
    """Multiply-accumulates of one view through a detector, and its parameters; more: what its network takes besides."""
    detector = network(width, classes, *more)
    return macs(detector, (1, 3, SIDE, SIDE)), parameters(detector)


class Detecting(Learner):
    """The training of a detector, see `DetectorSpec`. taught: the weights of the teacher."""

    def __init__(self, spec: Any, taught: Mapping[str, Tensor] | None):
        self.spec, self.steps, self.evaluations = spec, spec.steps, spec.evaluations
        self.data = self.loaded()
        self.fingerprint = self.data.fingerprint
        classes, device = len(self.data.classes), spec.machine.device
        with seeded(spec.seed, "student init"):
            self.detector = self.made(spec, classes).to(device)
        self.module: nn.Module = self.detector
        self.teacher = None
        if spec.teacher is not None:
            self.teacher = self.made(spec.teacher, classes).to(device).requires_grad_(False).eval()
            self.teacher.load_state_dict(dict(taught))
        self.optimiser = torch.optim.AdamW(
            self.detector.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay
        )
        count = self.data.frames.count
        self.order = Order(tuple(range(count)), count, spec.images_per_step, spec.seed)

    @property
    def network(self) -> nn.Module:
        return self.detector

    @abstractmethod
    def made(self, spec: Any, classes: int) -> Detector:
        """The network of a spec."""

    @abstractmethod
    def loaded(self) -> BoxData:
        """What it learns from and is tested on."""

    @abstractmethod
    def roles(self) -> dict[str, int]:
        """Of the draws that `changed` needs."""

    @abstractmethod
    def changed(self, images: Tensor, boxes: Any, draws: Mapping[str, Tensor]) -> list[tuple[Tensor, Any]]:
        """Both views of some frames."""

    @abstractmethod
    def terms(self, own: Any, teacher: Any, boxes: Any, labels: bool) -> dict[str, Tensor]:
        """Those of one view: of its boxes, if they count, and of what the teacher says, if it says something."""

    @abstractmethod
    def finding(self, said: Any) -> list[Any]:
        """What an answer to some images says is there."""

    @abstractmethod
    def scores(self, test: Fixed) -> dict[str, Any]:
        """Average precisions of the network as it is now on some test images."""

    def step(self, number: int) -> dict[str, Tensor]:
        terms = self.losses(number)
        loss = self.added(terms, number)
        for group in self.optimiser.param_groups:
            group["lr"] = self.spec.learning_rate * rate(number, self.steps)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.detector.parameters(), CLIP)
        self.optimiser.step()
        return {"loss": loss, **terms}

    def added(self, terms: dict[str, Tensor], number: int) -> Tensor:
        """The loss of a step, of its terms; what else is to be recorded is put beside them."""
        return torch.stack(list(terms.values())).sum()

    def losses(self, number: int) -> dict[str, Tensor]:
        """The terms of a step, each the mean over both views; what is switched off counts as zero."""
        views, terms = self.views_of(number), {}
        pixels = torch.cat([pixels for pixels, _ in views])
        student = self.said(self.detector, pixels)
        with torch.no_grad():
            teacher = None if self.teacher is None else self.said(self.teacher, pixels)
        for k, (_, boxes) in enumerate(views):
            part = slice(k * len(boxes), (k + 1) * len(boxes))
            own, other = (said and type(said)(*(x[part] for x in said)) for said in (student, teacher))
            taught = other if k == 0 or self.spec.kd else None
            found = self.terms(own, taught, boxes.to(pixels.device), k == 0 or self.spec.labels)
            for name, value in found.items():
                terms[name] = terms.get(name, 0) + value / VIEWS
        return terms

    def views_of(self, number: int) -> list[tuple[Tensor, Any]]:
        """Both views of a step: (pixels, on the device, and boxes)."""
        ids, epochs = self.order.at(number)
        frames = self.data.frames
        draws = draws_of(self.spec.seed, {**self.roles(), **frames.roles}, epochs, ids, frames.count)
        views = self.changed(*frames(ids, draws), draws)
        return [(pixels.to(self.spec.machine.device), boxes) for pixels, boxes in views]

    def said(self, network: Detector, pixels: Tensor) -> Any:
        """What a network says, computed in the run's precision."""
        machine = self.spec.machine
        low = machine.precision != "float32"
        with torch.autocast(machine.device, getattr(torch, machine.precision) if low else None, enabled=low):
            return network(pixels)

    def evaluate(self) -> dict[str, float]:
        """ap50, ap75 and ap on the first test, see `average_precisions`."""
        return self.scores(next(iter(self.data.tests.values())))

    def measure(self) -> dict[str, Any]:
        """The same of the other tests, each behind its name; what places they are, and how many boxes each has."""
        first, *others = self.data.tests
        scores = {f"{name}: {score}": v for name in others for score, v in self.scores(self.data.tests[name]).items()}
        return scores | {"boxes": {name: int(test.boxes.kept.sum()) for name, test in self.data.tests.items()}}

    def found(self, test: Fixed) -> list[Any]:
        """What it finds in each of them."""
        found = []
        with torch.no_grad(), eval_mode(self.detector):
            for pixels in test.images.split(TOGETHER):
                found += self.finding(self.said(self.detector, pixels.to(self.spec.machine.device)))
        return found
