"""Numbers that papers or released programs give, and that no other test would miss."""

from inspect import signature

import pytest

from kdlib.elsewhere import brcd, detecting, hashing
from kdlib.elsewhere.boxes import relations
from kdlib.elsewhere.translation import SPEC, spec
from kdlib.elsewhere.translation.spec import Terms


@pytest.mark.parametrize(
    ("found", "given"),
    [
        pytest.param(brcd.ALPHA, 0.8, id="BRCD: the least weight of the original view"),
        pytest.param(signature(hashing.cibhash_loss).parameters["weight"].default, 0.001, id="CIBHash: bottleneck"),
        pytest.param(signature(hashing.cibhash_loss).parameters["temperature"].default, 0.3, id="CIBHash: contrast"),
        pytest.param((Terms().k, Terms().tau), (64, 100.0), id="kNN-KD: neighbours and temperature of small sets"),
        pytest.param(SPEC.model_fields["smoothing"].default, 0.1, id="translation: label smoothing"),
        pytest.param(spec.BEAM, 4, id="sequence KD: width of the beam"),
        pytest.param(Terms().average, 0.999, id="text without translations: moving average"),
        pytest.param(relations.MEMORY, 0.9, id="gate: moving average"),
        pytest.param(detecting.CLIP, 10.0, id="detectors: norm of a gradient"),
    ],
)
def test_defaults_are_the_given_numbers(found: object, given: object) -> None:
    assert found == given
