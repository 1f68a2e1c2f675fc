"""What the store holds: the result of a run or of a measurement."""

from typing import Annotated, Any

from pydantic import Field

from kdlib.measurements import ScoresSpec, SpreadSpec, TimingSpec, ViewsSpec
from kdlib.records import Record
from kdlib.specs import RunSpec

AnySpec = Annotated[RunSpec | ViewsSpec | ScoresSpec | SpreadSpec | TimingSpec, Field(discriminator="kind")]


class RunResult(Record):
    """A finished spec: what was measured, with which versions, where and how long.

    metrics: numbers and strings (see kdlib.train and kdlib.measures); evaluations: one record per evaluation of the
    test set, the last is the headline; bits: SHA-256 over weights and metrics, equal when a run is repeated.
    """

    spec: AnySpec
    key: str
    profile: str
    fingerprint: str
    metrics: dict[str, Any]
    evaluations: list[dict[str, float]] = []
    bits: str
    provenance: dict[str, Any]
