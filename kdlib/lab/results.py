"""What the store holds: the result of a run or of a measurement."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, SerializeAsAny, Tag
from torch import Tensor

from kdlib.lab.measurements import HashingSpec, ScoresSpec, SpreadSpec, ThresholdsSpec, TimingSpec, ViewsSpec
from kdlib.lab.specs import RunSpec
from kdlib.lab.tasks import TASKS, TaskSpec, read_task
from kdlib.records import Record

# The files in the folder of a run; CHECKPOINT, and OLDER, the one before it, are there while it is not finished.
RESULT, WEIGHTS, HEAD, CHECKPOINT = "result.json", "weights.safetensors", "head.safetensors", "checkpoint.pt"
OLDER = "checkpoint.old.pt"
# What to do where they cannot be written: the last checkpoint stays as it is.
REMEDY = (
    "make room, or point KDLIB_RUNS at a copy on another disk, and run the same again: it goes on from its checkpoint"
)
#: Those of a finished run, in the order in which they are placed: a result says that all is there.
FINISHED = (WEIGHTS, HEAD, RESULT)

Known = Annotated[
    RunSpec | ViewsSpec | ScoresSpec | SpreadSpec | TimingSpec | ThresholdsSpec | HashingSpec,
    Field(discriminator="kind"),
]


def _kind(spec: Any) -> str:
    """Whether a spec, or the fields of one, are of another task than image classification."""
    return "task" if isinstance(spec, TaskSpec) or isinstance(spec, dict) and spec.get("kind") in TASKS else "known"


AnySpec = Annotated[
    Annotated[Known, Tag("known")] | Annotated[SerializeAsAny[TaskSpec], BeforeValidator(read_task), Tag("task")],
    Discriminator(_kind),
]


class RunResult(Record):
    """A finished spec: what was measured, with which versions, where and how long."""

    model_config = ConfigDict(ser_json_inf_nan="constants")  # as they were, so that the bits stay those of the metrics

    #: a run or a measurement
    spec: AnySpec
    #: that of the spec
    key: str
    #: name of the profile under which it was made
    profile: str
    #: of the training images and their labels, see `kdlib.data.images.ImageSet`
    fingerprint: str
    #: numbers and strings (see kdlib.lab.train and kdlib.lab.measures)
    metrics: dict[str, Any]
    #: one record per evaluation of the test set, the last is the headline; none of a measurement
    evaluations: list[dict[str, float]] = []
    #: SHA-256 over weights and metrics, equal when a run is repeated (16 hex digits)
    bits: str
    #: versions, hardware, date, commit and seconds: never part of the bits
    provenance: dict[str, Any]


SEAL = "sha256"  # in a result's file, beside its fields: the `seal` of all of them


def seal(content: Mapping[str, Any]) -> str:
    """SHA-256 of the fields of a result, in hexadecimal digits, however their JSON is laid out.

    >>> seal({"b": 1, "a": [0.5]}) == seal({"a": [0.5], "b": 1}) != seal({"a": [0.5], "b": 2})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(result: RunResult) -> str:
    """The text of a result's file."""
    content = json.loads(result.model_dump_json())
    return json.dumps(content | {SEAL: seal(content)}, indent=1) + "\n"


def bits(tensors: Mapping[str, Tensor], metrics: Mapping[str, Any]) -> str:
    """16 hex digits of SHA-256 over weights and metrics: equal exactly when a run was repeated exactly."""
    digest = hashlib.sha256(repr(sorted(metrics.items())).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def of_one_precision(used: Mapping[int, Iterable[str]]) -> list[int]:
    """The seeds whose runs have one precision, that of most seeds; used: seed -> the precisions of its runs."""
    kinds = {seed: tuple(sorted(set(precisions))) for seed, precisions in used.items()}
    pure = [precisions for precisions in kinds.values() if len(precisions) < 2]
    most = max(sorted(set(pure)), key=pure.count, default=None)
    return [seed for seed, precisions in kinds.items() if precisions == most]
