"""Measurements as records, hashed and stored like runs: what a network says, how long a step takes, or what students of
another task than classification learn."""

from typing import Literal, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor

from kdlib.data.sampling import validation_ids
from kdlib.lab.recipe import Machine, Policy, Public
from kdlib.lab.specs import RunSpec, Spec, Teacher
from kdlib.records import Number, Record, Whole
from kdlib.views.policy import ViewPolicy

Check = Literal["none", "cluster", "shuffled", "cosine"]

CHECKS: tuple[Check, ...] = get_args(Check)


class MeasurementSpec(Spec):
    """What all measurements of a teacher have: a data set and the teacher. Nothing is trained."""

    #: name of a data set, see kdlib.data.images
    data: str
    #: a public checkpoint, or the spec of the run that trains it
    teacher: Teacher
    #: what equal bits need besides
    machine: Machine


class ViewsSpec(MeasurementSpec):
    """What a teacher says on the original and on the augmented view."""

    #: tells it from specs of other kinds
    kind: Literal["views"] = "views"
    #: makes two views, each of one image
    policy: Policy
    #: how many images of each split are looked at (a stratified draw by the seed; all if there are fewer). The training
    #: images are those that the teacher was trained on.
    images: Whole = Field(ge=1)
    #: of the draws of images and of views
    seed: Whole = Field(ge=0)

    @model_validator(mode="after")
    def _two_views(self) -> "ViewsSpec":
        policy = self.policy.create()
        if policy.views != 2:
            raise ValueError(f"policy {self.policy.name!r} makes {policy.views} views; this measurement needs 2")
        if policy.mixes:
            raise ValueError(f"policy {self.policy.name!r} mixes two images; this measurement needs views of one")
        _check_runless(policy)
        return self


class ScoresSpec(MeasurementSpec):
    """How good, and how well calibrated, a teacher is on all test images of a data set."""

    #: tells it from specs of other kinds
    kind: Literal["scores"] = "scores"


class SpreadSpec(MeasurementSpec):
    """T.stddev (Wang et al., NeurIPS 2022): how far a teacher's mean answer varies between draws of images."""

    #: tells it from specs of other kinds
    kind: Literal["spread"] = "spread"
    #: makes a clean view and one other
    policy: Policy
    #: a fixed number of the training images (see kdlib.data.sampling), or null for all
    pool: Whole | None = Field(None, ge=1)
    #: images of one draw
    images: Whole = Field(320, ge=1)
    #: how often all images of the pool are drawn
    passes: Whole = Field(10, ge=1)
    #: of the order of the images and of their views
    seed: Whole = Field(ge=0)

    @model_validator(mode="after")
    def _clean_and_one_other(self) -> "SpreadSpec":
        """The share of clean views must be the same for all policies."""
        policy = self.policy.create()
        if policy.views != 2 or policy.sources[0].ops is not None:
            raise ValueError(
                f"policy {policy.name!r} does not make a clean view and one other, which this measurement needs"
            )
        _check_runless(policy)
        return self


class TimingSpec(Spec):
    """How long an optimiser step of each of several runs takes, measured in turn on one machine. Nothing is kept."""

    #: tells it from specs of other kinds
    kind: Literal["timing"] = "timing"
    #: name of the data set of all runs
    data: str
    #: the runs, by what they are called
    runs: dict[str, RunSpec] = Field(min_length=1)
    #: timed steps of each, after a few that are not
    steps: Whole = Field(ge=1)
    #: on which all runs are timed
    machine: Machine

    @property
    def taught(self) -> tuple[Spec, ...]:
        return tuple(self.runs.values())

    @model_validator(mode="after")
    def _one_machine(self) -> "TimingSpec":
        for name, run in self.runs.items():
            if (run.data, run.machine) != (self.data, self.machine):
                raise ValueError(f"runs: {name!r} is of another data set or machine; all must have those of the timing")
        return self


class ThresholdsSpec(Spec):
    """What thresholds cost a trained student on other images, if they are chosen on a validation split and frozen."""

    #: tells it from specs of other kinds
    kind: Literal["thresholds"] = "thresholds"
    #: the run whose network is asked
    student: RunSpec
    #: name of a data set whose test images are asked about too, where its classes are named as the student's; or null
    external: str | None = None
    #: how many of the test images are looked at (a fixed stratified draw), or null for all
    images: Whole | None = Field(None, ge=1)
    #: what equal bits need besides
    machine: Machine

    @property
    def data(self) -> str:
        """Name of the data set: the student's."""
        return self.student.data

    @property
    def teacher(self) -> RunSpec:
        """The network that is asked, as other measurements ask a teacher."""
        return self.student

    @model_validator(mode="after")
    def _held_out(self) -> "ThresholdsSpec":
        run = self.student
        if not run.validation and run.pool is None and run.fraction == 1 and run.part == "all":
            raise ValueError(
                "student trains on all training images, and thresholds must be chosen on others; allowed are runs with "
                "validation = true, a pool, a part or a fraction below 1"
            )
        return self


class Hashing(Record):
    """One student of hash codes: all that decides it, beside teacher and images."""

    #: name of the network that learns, see kdlib.models.MODELS
    student: str
    #: makes the student's two views of an image
    policy: Policy
    #: what decides whether an augmented view counts, see `kdlib.elsewhere.hashing.original_shares`
    check: Check = "cluster"
    #: of a code
    bits: Whole = Field(16, ge=1)
    #: of the teacher's codes
    clusters: Whole = Field(10, ge=1)
    #: how often each image is seen, by the head of the teacher and by the student
    epochs: Whole = Field(ge=1)
    #: images of a step
    images_per_step: Whole = Field(64, ge=2)
    #: of Adam
    learning_rate: Number = Field(1e-3, gt=0)
    #: of every draw
    seed: Whole = Field(ge=0)

    @model_validator(mode="after")
    def _two_views(self) -> "Hashing":
        policy = self.policy.create()
        if policy.views != 2 or policy.mixes or policy.by_run:
            raise ValueError(
                f"policy {policy.name!r} is not possible; allowed are those of two views of one image, alike"
            )
        return self


class HashingSpec(MeasurementSpec):
    """How well a student finds images by hash codes: it is trained, with a head on its teacher, and then graded."""

    #: tells it from specs of other kinds
    kind: Literal["hashing"] = "hashing"
    #: what is trained, and how
    setup: Hashing
    #: how many training images the student learns from (a stratified draw by its seed; all if there are fewer)
    images: Whole = Field(ge=2)
    #: among how many training images it searches (a fixed stratified draw), or null for all
    index: Whole | None = Field(None, ge=1)
    #: how many test images it searches for (a fixed stratified draw), or null for all
    queries: Whole | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> "HashingSpec":
        if self.machine.precision == "float16":
            raise ValueError("machine.precision = 'float16' is too coarse; allowed are 'float32' and 'bfloat16'")
        if self.images * self.setup.epochs < self.setup.images_per_step:
            raise ValueError(
                f"images = {self.images} make no step; {self.setup.images_per_step} images of a step are needed in "
                f"{self.setup.epochs} epochs"
            )
        return self


def _check_runless(policy: ViewPolicy) -> None:
    if policy.by_run:
        does = "chooses among the images of a run" if policy.picks else "makes views of what a run says of its images"
        raise ValueError(f"policy {policy.name!r} {does}; this measurement needs one that treats all alike")


def threshold_ids(student: RunSpec, labels: Tensor) -> Tensor:
    """Ascending int64 ids of the training images on which thresholds are chosen: the fixed validation split, see
    `kdlib.data.sampling.validation_ids`, without the images that the student was trained on."""
    ids = validation_ids(labels)
    return ids[~torch.isin(ids, student.training_ids(labels))]


def seen_ids(teacher: RunSpec | Public, labels: Tensor) -> Tensor:
    """Ascending int64 ids among the training images, whose labels are int64 [N]; a public teacher saw all of them."""
    if isinstance(teacher, Public):
        return torch.arange(len(labels))
    return teacher.training_ids(labels)
