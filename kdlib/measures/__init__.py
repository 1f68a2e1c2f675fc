"""Teacher-only measurements: each kind of spec has one function from (spec, teacher) to metrics. Nothing is trained."""

from collections.abc import Callable, Mapping

from kdlib.data import load_data
from kdlib.measurements import MeasurementSpec, SpreadSpec, ViewsSpec
from kdlib.measures.spread import measure_spread
from kdlib.measures.views import measure_views
from kdlib.networks import Network
from kdlib.train import bits

#: Kind of spec -> its measurement. The teacher is on the spec's device.
MEASURES: Mapping[type[MeasurementSpec], Callable[..., dict]] = {
    ViewsSpec: measure_views,
    SpreadSpec: measure_spread,
}


def measure(spec: MeasurementSpec, teacher: Network) -> dict:
    """{"metrics", "evaluations", "bits", "fingerprint"} of a measurement, as a run has them."""
    metrics = MEASURES[type(spec)](spec, teacher.to(spec.machine.device))
    fingerprint = load_data(spec.data).train.fingerprint
    return {"metrics": metrics, "evaluations": [], "bits": bits({}, metrics), "fingerprint": fingerprint}
