"""Runs of masked views: a transformer that is pretrained and becomes a teacher, and a student that it teaches.

Both have two stages, in one run each. Counts of epochs are of the images that a stage learns from.
"""

from functools import cache
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdlib.elsewhere.masked import material
from kdlib.elsewhere.masked.mae import MAE
from kdlib.elsewhere.masked.masks import cells_of, kept_count
from kdlib.elsewhere.masked.student import Student
from kdlib.elsewhere.masked.vit import PATCH, ViT
from kdlib.lab.cost import macs, parameters
from kdlib.lab.tasks import TaskSpec
from kdlib.records import Number, Whole

View = Literal["crop", "jda"]
Fill = Literal["sparse", "grey"]
Tokens = Literal["masked", "all"]
Sees = Literal["all", "kept cells"]
# How much longer an operation takes than in the convolutions that forecasts are made for: one core did 40 GMAC/s.
SLOWNESS = 3.5


class _Spec(TaskSpec):
    """What both have in common."""

    slowness: ClassVar[float] = SLOWNESS

    #: name of a data set of small square images, see kdlib.data.images
    data: str
    #: how many of its training images are learnt from: a fixed draw, the same for every seed
    images: Whole = Field(ge=1)
    #: of an optimiser step, each in one view
    images_per_step: Whole = Field(64, ge=1)
    #: of AdamW
    weight_decay: Number = Field(0.05, ge=0)

    @property
    def _epochs(self) -> tuple[int, int]:
        """Of each stage."""
        raise NotImplementedError(f"{type(self).__name__} does not say its epochs")

    @property
    def _counts(self) -> tuple[int, int]:
        """Images of each stage."""
        raise NotImplementedError(f"{type(self).__name__} does not say its counts")

    @property
    def stages(self) -> tuple[int, int]:
        """Optimiser steps of each stage."""
        first, second = (n * k // self.images_per_step for n, k in zip(self._epochs, self._counts, strict=True))
        return first, second

    @property
    def views(self) -> int:
        return sum(self.stages) * self.images_per_step

    def check(self) -> None:
        material.check(self.data, self.images)
        for epochs, steps in zip(self._epochs, self.stages, strict=True):
            if epochs and not steps:
                raise ValueError(
                    f"images_per_step = {self.images_per_step} makes no step in {epochs} epochs of a stage: it has too "
                    "few images"
                )

    def _checked(self) -> None:
        if self.machine.precision == "float16":
            raise ValueError("machine.precision = 'float16' is too coarse; allowed are 'float32' and 'bfloat16'")


class TeacherSpec(_Spec):
    """A transformer: masked autoencoding on all images, then a few epochs with their labels."""

    #: tells it from specs of other kinds
    kind: Literal["masked teacher"] = "masked teacher"
    #: it has none
    teacher: None = None
    #: of a token
    width: Whole = Field(96, ge=8)
    #: blocks
    depth: Whole = Field(4, ge=1)
    #: of attention, in each block, and in that of the decoder
    heads: Whole = Field(4, ge=1)
    #: the share of patches that the autoencoder is not shown
    ratio: Number = Field(0.6, gt=0, lt=1)
    #: of masked autoencoding
    pretraining: Whole = Field(ge=1)
    #: with labels
    epochs: Whole = Field(ge=1)
    #: the highest of both stages, in each of which it rises and falls to zero
    learning_rate: Number = Field(1e-3, gt=0)

    @model_validator(mode="after")
    def _possible(self) -> "TeacherSpec":
        self._checked()
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width = {self.width} must be a multiple of 2 heads = {2 * self.heads}: a decoder has half"
            )
        if not 0 < kept_count(self.tokens, self.ratio) < self.tokens:
            raise ValueError(f"ratio = {self.ratio} masks none or all of {self.tokens} patches")
        return self

    @property
    def tokens(self) -> int:
        """Of an image."""
        return (material.side_of(self.data) // PATCH) ** 2

    @property
    def _epochs(self) -> tuple[int, int]:
        return self.pretraining, self.epochs

    @property
    def _counts(self) -> tuple[int, int]:
        count = material.count_of(self.data, self.images)
        return count, count

    @property
    def macs(self) -> int:
        network, pretraining = self._sizes
        first, second = self.stages
        return 3 * self.images_per_step * (first * pretraining.macs + second * network.macs)

    @property
    def view_macs(self) -> int:
        """Of one view, forward, all patches of it."""
        return self._sizes[0].macs

    @property
    def parameters(self) -> int:
        return self._sizes[0].parameters

    @property
    def trained(self) -> int:
        """With the decoder of the autoencoder."""
        return self._sizes[1].parameters

    @property
    def _sizes(self) -> "tuple[Size, Size]":
        return teacher_sizes(self.width, self.depth, self.heads, self.side, self.classes, self.ratio)

    @property
    def side(self) -> int:
        """Pixels of a side of an image."""
        return material.side_of(self.data)

    @property
    def classes(self) -> int:
        """That the data set has."""
        return len(material.facts(self.data).class_sizes)

    @property
    def network(self) -> str:
        return f"ViT of width {self.width}"


class MaskedSpec(_Spec):
    """A student: it is taught the teacher's features without labels, then learns from the labels of a few images."""

    #: tells it from specs of other kinds
    kind: Literal["masked"] = "masked"
    #: null, or the run that it learns from
    teacher: TeacherSpec | None = None
    #: channels of the first layer; the last map has 8 times as many
    width: Whole = Field(16, ge=2)
    #: what the network is shown, before anything is masked
    view: View = "crop"
    #: the share of cells that are masked
    ratio: Number = Field(0.0, ge=0, lt=1)
    #: what stands in a masked cell: nothing, in a sparse network, or grey, in a dense one
    fill: Fill = "sparse"
    #: which of the teacher's tokens are taught; where nothing is masked, all
    tokens: Tokens = "all"
    #: what the teacher is shown of a masked view: all of it, or the kept cells on grey
    teacher_sees: Sees = "all"
    #: of distillation; 0 without a teacher
    epochs: Whole = Field(ge=0)
    #: the share of images of each class whose labels are learnt from, drawn by the seed
    labelled: Number = Field(0.1, gt=0, le=1)
    #: of fine-tuning, on plain crops of these
    tuning: Whole = Field(ge=1)
    #: the highest of distillation; it rises, and falls to zero
    learning_rate: Number = Field(1e-3, gt=0)
    #: the highest of fine-tuning, the same way
    tuning_rate: Number = Field(1e-3, gt=0)

    @model_validator(mode="after")
    def _possible(self) -> "MaskedSpec":
        self._checked()
        if (self.teacher is None) != (self.epochs == 0):
            raise ValueError(f"epochs = {self.epochs} of distillation: allowed is 0 without a teacher, else 1 and up")
        if self.teacher is None and (self.view, self.ratio) != ("crop", 0):
            raise ValueError(f"view = {self.view!r} at ratio = {self.ratio} needs a teacher; without one 'crop' at 0")
        if self.teacher is not None and self.teacher.data != self.data:
            raise ValueError(f"teacher.data = {self.teacher.data!r} must be that of the student, {self.data!r}")
        cells = cells_of(material.side_of(self.data))
        kept = kept_count(cells, self.ratio)
        if kept == 0 or self.ratio and kept == cells:
            raise ValueError(f"ratio = {self.ratio} keeps {kept} of {cells} cells; allowed are ratios that mask some")
        if not self.ratio and (self.fill, self.tokens, self.teacher_sees) != ("sparse", "all", "all"):
            raise ValueError(
                "ratio = 0 masks nothing: allowed are fill = 'sparse', tokens = 'all' and teacher_sees = 'all'"
            )
        return self

    @property
    def _epochs(self) -> tuple[int, int]:
        return self.epochs, self.tuning

    @property
    def _counts(self) -> tuple[int, int]:
        return material.count_of(self.data, self.images), material.count_of(self.data, self.images, self.labelled)

    @property
    def macs(self) -> int:
        """A masked convolution costs what a dense one does."""
        first, second = (steps * self.images_per_step for steps in self.stages)
        tuned, taught = self._sizes
        return first * (3 * taught.macs + (self.teacher.view_macs if self.teacher else 0)) + 3 * second * tuned.macs

    @property
    def parameters(self) -> int:
        return self._sizes[0].parameters

    @property
    def trained(self) -> int:
        """With the decoder, which learns the teacher's features."""
        return self._sizes[1].parameters

    @property
    def _sizes(self) -> "tuple[Size, Size]":
        tokens = self.teacher.width if self.teacher else 1
        classes = len(material.facts(self.data).class_sizes)
        return student_sizes(self.width, tokens, material.side_of(self.data), classes)

    @property
    def network(self) -> str:
        return f"ResNet-8 with one stage more, width {self.width}"


class Size(NamedTuple):
    """Of a network: multiply-accumulates of one view, forward, and parameters."""

    macs: int
    parameters: int

    @classmethod
    def of(cls, module: nn.Module, side: int) -> "Size":
        """For images of side x side pixels."""
        return cls(macs(module, (1, 3, side, side)), parameters(module))


@cache
def teacher_sizes(width: int, depth: int, heads: int, side: int, classes: int, ratio: float) -> tuple[Size, Size]:
    """Of the transformer, and of the autoencoder around it, in which few patches go through the transformer. What is
    trained is both: the classifier of the transformer is part of each."""
    vit = ViT(side, width, depth, heads, classes)
    return Size.of(vit, side), Size.of(_Drawing(MAE(vit, heads, ratio)), side)


@cache
def student_sizes(width: int, tokens: int, side: int, classes: int) -> tuple[Size, Size]:
    """Of the encoder with its classifier, and of it with the decoder."""
    student = Student(width, tokens, (0.5,) * 3, (0.5,) * 3, classes, "float32").eval()
    return Size.of(student.network.backbone, side), Size.of(student, side)


class _Drawing(nn.Module):
    """An autoencoder that is shown the first patches."""

    def __init__(self, mae: MAE) -> None:
        super().__init__()
        self.mae = mae

    def forward(self, images: Tensor) -> Tensor:
        seen = torch.arange(self.mae.kept, device=images.device).expand(len(images), -1)
        return self.mae.drawn(images, seen)
