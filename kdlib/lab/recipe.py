"""What a spec is put together from: the schedule, the machine, the view policy, a public teacher."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from kdlib.lab.machine import resolve_device, resolve_precision, resolve_threads
from kdlib.models.checkpoints import PUBLIC
from kdlib.records import Number, Record, Whole
from kdlib.views.policies import create_policy, policy_options
from kdlib.views.policy import ViewPolicy


class Recipe(Record):
    """The optimisation schedule: SGD with momentum, a fixed number of student views per step and per image."""

    #: S, student views of one optimiser step, so images per step = S / V
    views_per_step: Whole = Field(ge=1)
    #: V times the epochs, equal for the arms of a comparison
    views_per_image: Whole = Field(ge=1)
    #: the highest of the run, see `schedule`
    learning_rate: Number = Field(gt=0)
    #: SGD's, of all weights that are trained
    weight_decay: Number = Field(ge=0)
    #: SGD's; above 0 where it is Nesterov's
    momentum: Number = Field(0.9, ge=0, lt=1)
    #: whether the momentum is Nesterov's
    nesterov: bool = True
    #: "steps" multiplies the learning rate by 0.1 at the milestones; "one-cycle" warms up linearly for 20 % of the run
    #: and then follows a cosine to zero
    schedule: Literal["steps", "one-cycle"] = "one-cycle"
    #: fractions of the run, between 0 and 1, ascending
    milestones: tuple[Annotated[Number, Field(gt=0, lt=1)], ...] = ()
    #: how often the student is evaluated, evenly over the run; the last time at its end
    evaluations: Whole = Field(4, ge=1, le=10)
    #: gradients are scaled down to this norm, if given
    clip_norm: Number | None = Field(None, gt=0)
    #: a step is computed in so many parts, whose gradients are added up (BatchNorm and the methods see one part at a
    #: time)
    micro_batches: Whole = Field(1, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.nesterov and not self.momentum:
            raise ValueError("momentum = 0 does not go with nesterov = true; allowed are 0 < momentum < 1")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones = {list(self.milestones)} must rise from one to the next")
        return self


class Machine(Record):
    """What equal bits need besides the spec: device kind, precision and threads, resolved before hashing."""

    #: kind of device
    device: Literal["cpu", "cuda"]
    #: in which networks compute; if it is not float32, under autocast
    precision: Literal["float32", "bfloat16", "float16"]
    #: of torch, in one run
    threads: Whole = Field(1, ge=1)
    #: the seeds that were trained together with this one, itself among them, ascending (see kdlib.lab.stacked); empty,
    #: and then no part of what is stored, for a run that was trained alone
    stacked: tuple[Annotated[Whole, Field(ge=0)], ...] = ()

    def without_float16(self) -> "Machine":
        """The same, in float32 where only float16 would be left, which is too coarse for some losses."""
        return self.model_copy(update={"precision": "float32"}) if self.precision == "float16" else self

    @field_validator("stacked")
    @classmethod
    def _several(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(seeds) == 1 or list(seeds) != sorted(set(seeds)):
            raise ValueError(f"stacked = {list(seeds)} must be two or more seeds that rise from one to the next")
        return seeds

    @model_serializer(mode="wrap")
    def _without_an_empty_stack(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that the keys of runs that were trained alone are what they were before there were stacks."""
        fields = handler(self)
        return fields if fields.get("stacked") else {n: value for n, value in fields.items() if n != "stacked"}

    @classmethod
    def of(cls, device: str = "auto", threads: int | None = None) -> "Machine":
        """This machine. device: auto, cpu or cuda; threads: None stands for what `resolve_threads` says."""
        kind = resolve_device(device)
        return cls(device=kind, precision=resolve_precision(kind), threads=threads or resolve_threads())


class Policy(Record):
    """A view policy by name, with its options."""

    #: one of `kdlib.views.policies.POLICIES`
    name: str
    #: of the policy; what is not given has its default
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _options_with_defaults(cls, fields: dict) -> dict:
        """Defaults are written out, so that the key changes if a default does."""
        if isinstance(fields, dict) and isinstance(fields.get("name"), str):
            fields = fields | {"options": policy_options(fields["name"], fields.get("options", {})).model_dump()}
        return fields

    def create(self) -> ViewPolicy:
        """The policy itself."""
        return create_policy(self.name, **self.options)

    @property
    def views(self) -> int:
        """Views per image, before a method spreads them."""
        return self.create().views


class Public(Record):
    """A public checkpoint as teacher."""

    #: one of `kdlib.models.checkpoints.PUBLIC`
    checkpoint: str
    #: the hash of its weights, part of every key; empty stands for that of the named checkpoint
    sha256: str = ""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            raise ValueError(
                f"teacher = {fields!r} must be a run or Public(checkpoint=NAME); NAMEs are {', '.join(PUBLIC)}"
            )
        name = fields.get("checkpoint")
        if not isinstance(name, str) or name not in PUBLIC:
            raise ValueError(f"checkpoint = {name!r} is unknown; allowed are {', '.join(PUBLIC)}")
        return fields | {"sha256": fields.get("sha256") or PUBLIC[name].identity}
