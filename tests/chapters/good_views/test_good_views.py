"""Chapter 11: the same policies measured and distilled, and no run that another chapter could share trained twice."""

import pytest

from kdlib.chapters.registry import create_study
from kdlib.lab.measurements import SpreadSpec
from kdlib.study.profiles import PROFILES
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")
OWN = {"twin", "cutout"}


def study_at(scale: str, name: str = "11_good_views", **options):
    return create_study(name, Setting.of(scale, device="cpu"), **options)


@pytest.mark.parametrize("scale", sorted(name for name, scale in PROFILES.items() if not scale.chapters))
def test_every_policy_is_measured_and_has_students(scale):
    study = study_at(scale)
    assert list(study.measurements) == list(study.arms)
    assert not study.contrasts
    for name, arm in study.arms.items():
        spec = study.measurements[name]
        assert isinstance(spec, SpreadSpec) and arm.method == "kd" and arm.policy.views == 2
        assert spec.policy == arm.policy
        assert (spec.pool, spec.passes, spec.images) == (
            study.setting.profile.spread_pool, study.setting.profile.spread_passes, 320
        )  # fmt: skip
    assert len({repr(s.model_copy(update={"policy": None})) for s in study.measurements.values()}) == 1
    assert {"twin", "weak2", "cutout", "rot2", "RandAugment", "CutMix"} < set(study.arms)
    assert {name: arm.policy.options["p"] for name, arm in study.arms.items() if name in study.series["p"]} == dict(
        study.series["p"]
    )
    assert set(study.series["p"].values()) >= {0.3, 1.0}


@pytest.mark.parametrize("scale", ["smoke", "quick", "reference", "paper"])
def test_runs_are_those_of_other_chapters(scale):
    study, known = study_at(scale), set()
    for name in ("03_blind_teacher", "05_proportion"):
        known |= {spec.key for spec in study_at(scale, name).specs_to(4)}
    assert {name for name in study.arms if study.specs(name)[0].key not in known} == OWN


def test_the_values_of_p_can_be_chosen():
    study = study_at("smoke", probabilities=[1, 0.0, 0.25, 1.0])
    assert study.series["p"] == {"JDA, p = 0.25": 0.25, "JDA, p = 1": 1.0}  # p = 0 is weak2
    for given, words in (
        ([0.1, 1.5], "p = 1.5 is not a probability"),
        (["x"], "option probabilities.0 = 'x' is not allowed"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            study_at("smoke", probabilities=given)
        assert "\n" not in str(caught.value)
