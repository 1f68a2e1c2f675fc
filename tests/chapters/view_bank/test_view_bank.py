"""Chapter 14: stored views against fresh ones, equal in everything else, and sets of views that can be chosen."""

import pytest

from kdlib.chapters.registry import create_study
from kdlib.chapters.view_bank import EXACT, FRESH
from kdlib.lab.measurements import TimingSpec
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")
SCALES = ["smoke", "quick", "reference", "paper"]


def study_at(scale: str, **options):
    return create_study("14_view_bank", Setting.of(scale, device="cpu"), **options)


@pytest.mark.parametrize("scale", SCALES)
def test_arms_differ_from_fresh_views_in_the_bank_or_the_precision_alone(scale):
    study = study_at(scale)
    fresh = study.specs(FRESH)[0]
    assert (fresh.bank, fresh.exact, fresh.method, fresh.policy.name) == (None, False, "kd", "jda")
    for label, v in study.series["V"].items():
        for seed, spec in enumerate(study.specs(label)):
            assert spec == study.specs(FRESH)[seed].model_copy(update={"bank": v})
    exact = study.specs(EXACT)[0]
    assert exact.exact and exact.machine.precision == "float32"
    assert exact.model_copy(update={"exact": False, "machine": fresh.machine}) == fresh
    assert set(study.arms) == {FRESH, EXACT, *study.series["V"]}


@pytest.mark.parametrize("scale", SCALES)
def test_every_bank_is_held_against_fresh_views_and_these_against_float32(scale):
    study = study_at(scale)
    found = [dict(contrast.weights) for contrast in study.contrasts]
    assert found == [*({label: 1, FRESH: -1} for label in study.series["V"]), {FRESH: 1, EXACT: -1}]
    assert not any(contrast.primary for contrast in study.contrasts)


def test_names_do_not_depend_on_the_machine():
    """A table of results is the same wherever the page is made."""
    for contrast in study_at("reference").contrasts:
        assert "bfloat16" not in contrast.title and contrast.title == " - ".join(contrast.weights)


def test_fresh_views_and_the_largest_bank_are_timed():
    timing = study_at("reference").measurements["timing"]
    assert isinstance(timing, TimingSpec) and list(timing.runs) == [FRESH, "V = 16"]
    assert [run.bank for run in timing.runs.values()] == [None, 16]


def test_the_numbers_of_sets_can_be_chosen():
    study = study_at("smoke", sets=[3, 1, 3])
    assert study.series["V"] == {"V = 1": 1, "V = 3": 3}
    assert list(study.measurements["timing"].runs) == [FRESH, "V = 3"]


@pytest.mark.parametrize("value", [0, -1])
def test_less_than_one_set_is_refused(value):
    with pytest.raises(ValueError, match=rf"^sets = \[2, {value}\] must be numbers of sets of views, from 1 up$"):
        study_at("smoke", sets=[2, value])


@pytest.mark.parametrize("value", [1.5, True, "4", None])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match=r"^option sets\.1 = .* is not allowed: input should be a valid integer$"):
        study_at("smoke", sets=[2, value])
