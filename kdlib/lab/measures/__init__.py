"""Measurements: each kind of spec has one function from (spec, its teachers) to metrics."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from kdlib.data.images import load_data
from kdlib.lab.measurements import HashingSpec, ScoresSpec, SpreadSpec, ThresholdsSpec, TimingSpec, ViewsSpec
from kdlib.lab.measures.frozen_thresholds import measure_thresholds
from kdlib.lab.measures.scores import measure_scores
from kdlib.lab.measures.t_stddev import measure_spread
from kdlib.lab.measures.timing import measure_timing
from kdlib.lab.measures.views import measure_views
from kdlib.lab.results import bits
from kdlib.lab.specs import Spec
from kdlib.models.network import Network


def _elsewhere(module: str) -> Callable[..., dict]:
    """`measure` of a task of kdlib.elsewhere. That room lies above this one: it is found by name when it is asked for,
    as chapters are."""

    def measured(*asked: Any) -> dict:
        return import_module(f"kdlib.elsewhere.{module}").measure(*asked)

    return measured


#: Kind of spec -> its measurement. Teachers are on the spec's device.
MEASURES: Mapping[type[Spec], Callable[..., dict]] = {
    ViewsSpec: measure_views,
    ScoresSpec: measure_scores,
    SpreadSpec: measure_spread,
    TimingSpec: measure_timing,
    ThresholdsSpec: measure_thresholds,
    HashingSpec: _elsewhere("brcd"),
}


def measure(spec: Spec, *teachers: Network | None) -> dict:
    """{"metrics", "evaluations", "bits", "fingerprint"} of a measurement, as a run has them.

    teachers: of each of `spec.taught`. Times are no part of the bits.
    """
    metrics = MEASURES[type(spec)](spec, *(t.to(spec.machine.device) if t is not None else None for t in teachers))
    repeatable = {} if isinstance(spec, TimingSpec) else metrics
    fingerprint = load_data(spec.data).train.fingerprint
    return {"metrics": metrics, "evaluations": [], "bits": bits({}, repeatable), "fingerprint": fingerprint}
