"""What the store holds: the result of a run or of a measurement."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from kdlib.lab.measurements import ScoresSpec, SpreadSpec, ThresholdsSpec, TimingSpec, ViewsSpec
from kdlib.lab.specs import RunSpec
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

AnySpec = Annotated[
    RunSpec | ViewsSpec | ScoresSpec | SpreadSpec | TimingSpec | ThresholdsSpec, Field(discriminator="kind")
]


class RunResult(Record):
    """A finished spec: what was measured, with which versions, where and how long."""

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


def of_one_precision(used: Mapping[int, Iterable[str]]) -> list[int]:
    """The seeds whose runs have one precision, that of most seeds; used: seed -> the precisions of its runs."""
    kinds = {seed: tuple(sorted(set(precisions))) for seed, precisions in used.items()}
    pure = [precisions for precisions in kinds.values() if len(precisions) < 2]
    most = max(sorted(set(pure)), key=pure.count, default=None)
    return [seed for seed, precisions in kinds.items() if precisions == most]
