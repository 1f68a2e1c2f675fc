"""Teacher-only measurements: nothing is trained. One file per kind of spec."""

from collections.abc import Callable, Mapping

from kdlib.measure.views import measure_views
from kdlib.networks import Network
from kdlib.specs import Spec

#: Kind of spec -> (spec, teacher) -> {"metrics", "evaluations", "bits", "fingerprint"}.
MEASURES: Mapping[str, Callable[[Spec, Network], dict]] = {"views": measure_views}
