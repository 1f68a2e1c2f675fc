"""Views that are made where the teacher looks: sides that differ in the place alone, at equal views."""

import pytest

from kdlib.chapters import few_shot as chapter
from kdlib.chapters.registry import create_study
from kdlib.lab.specs import RunSpec
from kdlib.study.setting import Setting, Study

SMALLEST = {"smoke": "0.167 %", "quick": "2 %", "reference": "5 %", "paper": "25 %"}


def study_at(scale: str, **options) -> Study:
    return create_study("06_few_shot", Setting.of(scale, device="cpu"), **options)


def without_place(spec: RunSpec) -> dict:
    fields = spec.model_dump()
    del fields["policy"]["options"]["by"]
    return fields


@pytest.mark.parametrize("scale", SMALLEST)
def test_sides_of_the_primary_contrast_differ_in_the_place_alone(scale):
    study, group = study_at(scale), SMALLEST[scale]
    primary = study.contrast("P1")
    assert primary.weights == {f"{group}: attention drop": 1, f"{group}: random drop": -1}
    assert (
        primary.primary
        and primary.level == 0.95
        and study.setting.profile.few_shot[0] == min(study.arms[arm].fraction for arm in study.arms)
    )
    for one, other in zip(*(study.specs(arm) for arm in primary.weights), strict=True):
        assert without_place(one) == without_place(other)
        assert (one.policy.options["by"], other.policy.options["by"]) == ("teacher", "random")
        assert (one.policy.name, one.policy.options["share"]) == ("attention_drop", 0.25)
    assert study.planned(primary) == (5 if study.setting.profile.verdicts else 1)
    assert {study.tier(arm) for arm in primary.weights} == {3}


def test_labels_say_which_view_is_made_where():
    study = study_at("reference")
    places = {"attention": "teacher", "random": "random", "untrained": "untrained", "central": "centre"}
    for label, policy in chapter.ATTENDED.items():
        place, kind = label.removesuffix(", anew").split()
        own = "fresh" if label.endswith(", anew") else places[place]
        (spec, *_) = study.specs(f"5 %: {label}")
        assert spec.policy == policy and (policy.name, policy.options["by"]) == (f"attention_{kind}", own)
        assert spec.method == "kd" and study.arms[f"5 %: {label}"].floor == "5 %: no teacher"


def test_arms_of_one_fraction_have_equal_views_and_steps():
    study = study_at("reference")
    specs = [spec for label in study.arms if label.startswith("5 %: ") for spec in study.specs(label)]
    assert {spec.view_policy().views for spec in specs} == {spec.view_policy().distinct for spec in specs} == {2}
    assert len({(s.recipe.views_per_image, s.recipe.views_per_step, s.fraction) for s in specs}) == 1


def test_every_contrast_of_these_views_names_two_arms_of_the_smallest_fraction_once():
    study = study_at("reference")
    found = [c for c in study.contrasts if any(label.endswith(tuple(chapter.ATTENDED)) for label in c.weights)]
    assert all(label.startswith("5 %: ") for contrast in found for label in contrast.weights)
    pairs = [tuple(contrast.weights) for contrast in found]
    assert len(set(pairs)) == len(pairs) == len(found) and [c.name for c in found if c.primary] == ["P1"]
    against = {label for contrast in found for label, weight in contrast.weights.items() if weight < 0}
    controls = {"random drop", "random drop, anew", "untrained drop", "central drop", "random crop", "central crop"}
    assert against == {f"5 %: {name}" for name in (*controls, "weak2", "JDA")}


def test_demonstrations_have_the_two_that_decide_with_one_seed():
    for scale in ("smoke", "quick"):
        study = study_at(scale)
        arms = [arm for arm in study.arms if "drop" in arm or "crop" in arm]
        assert arms == [f"{SMALLEST[scale]}: attention drop", f"{SMALLEST[scale]}: random drop"]
        assert [len(study.specs(arm)) for arm in arms] == [1, 1]


def test_another_choice_of_fractions_moves_no_primary_contrast():
    """Where the smallest is left out there is none."""
    study = study_at("reference", fractions=[0.02, 0.5])
    assert study.contrast("P1") is None and not any("attention" in label for label in study.arms)
    study = study_at("reference", fractions=[0.02, 0.05])
    assert set(study.contrast("P1").weights) == {"5 %: attention drop", "5 %: random drop"}
