"""What a run is: everything that decides its bits, in one frozen, hashed record."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from kdlib.data.sampling import PARTS, training_ids
from kdlib.lab.recipe import Machine, Policy, Public, Recipe
from kdlib.methods import METHODS, check_method, find_method, method_options, survey_of
from kdlib.models import create_model
from kdlib.models.checkpoints import PUBLIC
from kdlib.models.hollow import hollow
from kdlib.models.resolution import Resolution
from kdlib.records import Number, Record, Whole
from kdlib.views.policy import BY_ENERGY, ViewPolicy

# Raised when a change alters what training does, so that older results are never mistaken for new ones.
RECIPE_VERSION = 2


class Spec(Record):
    """A hashed record; `key` names the result in the store."""

    #: whether it leaves weights, which others may learn from
    trains: ClassVar[bool] = False

    #: RECIPE_VERSION; of a run, with the revision of the method on top
    version: int = RECIPE_VERSION

    @property
    def key(self) -> str:
        """16 hex digits of SHA-256 over the canonical JSON of all fields."""
        return digest(self.model_dump(mode="json"))

    @property
    def taught(self) -> "tuple[Spec, ...]":
        """The specs that name the teachers this one needs: itself."""
        return (self,)

    @property
    def prerequisites(self) -> "list[Spec]":
        """The runs whose weights this spec needs."""
        return [spec.teacher for spec in self.taught if isinstance(spec.teacher, Spec)]

    @property
    def experiment(self) -> str:
        """The same without the machine, also of the teacher: what is asked, whoever answers it; but one of a stack
        answers for no other run, nor another run for it."""
        return digest(_without_machine(self.model_dump(mode="json")))


@cache
def stages_of(name: str) -> int:
    """How many stages a network has. Raises ValueError if there is none of that name."""
    with hollow():
        return len(create_model(name, num_classes=2).stages)


def digest(content: dict | list) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of `content`."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _without_machine(fields: dict) -> dict:
    kept = {k: _without_machine(v) if isinstance(v, dict) else v for k, v in fields.items() if k != "machine"}
    stacked = fields.get("machine", {}).get("stacked")
    return kept | {"stacked": stacked} if stacked else kept


class RunSpec(Spec):
    """One training run: a teacher (method "ce") or a student."""

    trains: ClassVar[bool] = True

    #: tells it from specs of other kinds
    kind: Literal["run"] = "run"
    #: name of a data set, see kdlib.data.images
    data: str
    #: all of its training images, or a fixed half
    part: Literal[PARTS] = "all"
    #: a fixed number of those, or null
    pool: Whole | None = Field(None, ge=1)
    #: few-shot share of what remains, drawn by the seed
    fraction: Number = Field(1.0, gt=0, le=1)
    #: measure on the validation split instead of the test set, and keep it out of training
    validation: bool = False
    #: name of the network that learns, see kdlib.models.MODELS
    student: str
    #: null, a public checkpoint, or the spec of the run that trains it
    teacher: "Teacher | None" = None
    #: one of `kdlib.methods.method.METHODS`
    method: str
    #: of the method; what is not given has its default
    options: dict[str, Any] = {}
    #: makes the views, before the method spreads them
    policy: Policy
    #: how it is optimised
    recipe: Recipe
    #: of every draw of the run
    seed: Whole = Field(ge=0)
    #: the run takes its views, and its teacher's answers, from a bank of so many sets of views per image (see
    #: kdlib.lab.bank); null: fresh views in each epoch
    bank: Whole | None = Field(None, ge=1)
    #: float32 is asked for, whatever the hardware has
    exact: bool = False
    #: what equal bits need besides
    machine: Machine

    @field_validator("student")
    @classmethod
    def _known_model(cls, name: str) -> str:
        try:
            stages_of(name)
        except ValueError as error:
            raise ValueError(f"student: {error}") from None
        return name

    @model_validator(mode="before")
    @classmethod
    def _options_with_defaults(cls, fields: dict) -> dict:
        """Defaults are written out, so that the key changes if a default does."""
        if isinstance(fields, dict) and isinstance(fields.get("method"), str):
            options = method_options(fields["method"], fields.get("options", {}))
            version = RECIPE_VERSION + find_method(fields["method"]).revision
            fields = {"version": version} | fields | {"options": options.model_dump()}
        return fields

    @model_validator(mode="after")
    def _consistent(self) -> "RunSpec":
        views = self.view_policy().views
        if self.recipe.views_per_step % views:
            raise ValueError(
                f"views_per_step = {self.recipe.views_per_step} must be a multiple of the {views} views per image of "
                f"method {self.method!r} with policy {self.policy.name!r}"
            )
        images = self.recipe.views_per_step // views
        if images % self.recipe.micro_batches:
            raise ValueError(f"micro_batches = {self.recipe.micro_batches} must divide the {images} images of a step")
        self._check_bank()
        self._check_stack()
        if self.exact and self.machine.precision != "float32":
            raise ValueError(f"machine.precision = {self.machine.precision!r} of an exact run must be 'float32'")
        definition = find_method(self.method)
        taught = self.teacher.method if isinstance(self.teacher, RunSpec) else None
        if definition.taught_by and taught not in definition.taught_by:
            raise ValueError(
                f"teacher of method {self.method!r} must be a run of {' or '.join(definition.taught_by)}, "
                "which trains the head that it needs"
            )
        if definition.pairs_stages and stages_of(self.student) != stages_of(self.teacher_model):
            raise ValueError(
                f"student = {self.student!r} has {stages_of(self.student)} stages and its teacher "
                f"{self.teacher_model!r} {stages_of(self.teacher_model)}: method {self.method!r} pairs them one by one"
            )
        if not definition.trains_student and self.student != self.teacher_model:
            raise ValueError(
                f"student = {self.student!r} must be {self.teacher_model!r}: method {self.method!r} trains a head on "
                "the teacher's own backbone"
            )
        return self

    def _check_bank(self) -> None:
        if self.bank is None:
            return
        if self.teacher is None or not find_method(self.method).logits_only:
            able = ", ".join(n for n, d in METHODS.items() if d.logits_only)
            raise ValueError(
                f"bank = {self.bank} stores the teacher's logits, and method {self.method!r} "
                f"{'reads more of its teacher' if self.teacher else 'has no teacher'}; allowed are {able}"
            )
        policy = self.policy.create()
        if policy.by_batch or policy.mixes or policy.by_run:
            raise ValueError(
                f"bank = {self.bank} needs views of one image each; those of policy {self.policy.name!r} depend on "
                f"{'the teacher or the run' if policy.attends or policy.fixed else 'other images'} too"
            )

    def _check_stack(self) -> None:
        seeds = self.machine.stacked
        if seeds and self.seed not in seeds:
            raise ValueError(f"machine.stacked = {list(seeds)} must hold the run's own seed, {self.seed}")
        if seeds and (reason := self.unstackable):
            raise ValueError(f"machine.stacked = {list(seeds)} is not possible: {reason}")

    @property
    def unstackable(self) -> str:
        """Why the run cannot be trained together with those of other seeds, see kdlib.lab.stacked; empty if it can."""
        definition = find_method(self.method)
        if not definition.stacks:
            able = ", ".join(n for n, d in METHODS.items() if d.stacks)
            return f"method {self.method!r} has more than a student and logits; allowed are {able}"
        if survey_of(self.method, method_options(self.method, self.options)) is not None:
            return f"method {self.method!r} surveys the teacher first at these options, which a stack does not"
        if self.bank is not None:
            return f"bank = {self.bank} gives the run its views; allowed is null"
        if self.recipe.micro_batches > 1:
            return f"micro_batches = {self.recipe.micro_batches} cut a step; allowed is 1"
        if self.machine.precision == "float16":
            return "machine.precision = 'float16' skips steps of single seeds; allowed are 'float32' and 'bfloat16'"
        return ""

    def view_policy(self) -> ViewPolicy:
        """The views that the student sees: the policy's, spread as the method needs."""
        return check_method(self.method, self.teacher is not None, self.policy.create())

    def training_ids(self, labels: torch.Tensor, classes: Sequence[str] = ()) -> torch.Tensor:
        """Ascending int64 ids of the images that the run trains on, from int64 [N] labels of all training images.

        classes: names of the labels, for the ValueError that is raised if nothing would be left of one.
        """
        return training_ids(labels, self.seed, self.fraction, self.pool, self.validation, self.part, classes)

    @property
    def surveys(self) -> bool:
        """Whether the teacher is asked about all training images before the first step, see kdlib.lab.survey."""
        needed = survey_of(self.method, method_options(self.method, self.options)) is not None
        return needed or self.view_policy().picks in BY_ENERGY

    @property
    def passes(self) -> int:
        """How often a teacher is shown all training images before the first step: for its answers, and for its maps."""
        return self.surveys + (self.view_policy().attends is not None)

    @property
    def resolutions(self) -> tuple[Resolution, Resolution]:
        """What the student, and what the teacher, is given of each view."""
        return find_method(self.method).resolutions_of(method_options(self.method, self.options))

    @property
    def asked(self) -> list[Resolution]:
        """What a key of the teacher's answers holds besides images and teacher: nothing where it is given all of each
        view, so that answers that were kept before are found."""
        return [given for given in self.resolutions[1:] if given.scale > 1]

    @property
    def images_per_step(self) -> int:
        """Images of one optimiser step: S / V."""
        return self.recipe.views_per_step // self.view_policy().views

    @property
    def teacher_model(self) -> str | None:
        """The name of the teacher's network, if there is a teacher."""
        return None if self.teacher is None else teacher_model(self.teacher)


def teacher_model(teacher: "RunSpec | Public") -> str:
    """The name of a teacher's network."""
    return PUBLIC[teacher.checkpoint].model if isinstance(teacher, Public) else teacher.student


def backbone_source(teacher: "RunSpec | Public") -> "RunSpec | Public":
    """What made the backbone of a teacher: the teacher itself, or what it stands on if it is a run that trained only a
    head."""
    while isinstance(teacher, RunSpec) and not find_method(teacher.method).trains_student:
        teacher = teacher.teacher
    return teacher


def _teacher_kind(value: Any) -> str:
    """A run says its method; everything else is read as a public checkpoint, whose errors name what is allowed."""
    return "run" if isinstance(value, RunSpec) or isinstance(value, dict) and "method" in value else "public"


Teacher = Annotated[Annotated[RunSpec, Tag("run")] | Annotated[Public, Tag("public")], Discriminator(_teacher_kind)]
RunSpec.model_rebuild()
