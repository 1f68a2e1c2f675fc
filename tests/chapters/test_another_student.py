"""Two students side by side: the same views and teachers, each gain paired with its own zero point."""

import pytest

from kdlib.chapters.registry import create_study
from kdlib.lab.answers import question
from kdlib.study.setting import Setting

WAYS = ("weak2", "JDA", "CCD")


def study_at(scale: str, pair: str = "auto", **options):
    return create_study("17_another_student", Setting.of(scale, pair, device="cpu"), **options)


@pytest.mark.parametrize("scale", ["smoke", "quick", "reference", "paper"])
def test_only_the_student_differs(scale):
    study = study_at(scale)
    first, second = dict.fromkeys(label.split(": ")[0] for label in study.arms)
    assert (first, second) == (study.setting.networks[1], study.setting.profile.second_student)
    for way in WAYS:
        one, other = (study.specs(f"{network}: {way}") for network in (first, second))
        assert [spec.student for spec in one] == [first] * len(one)
        assert [spec.model_copy(update={"student": second}) for spec in one] == other
        assert [question(spec) for spec in one] == [question(spec) for spec in other]  # the teacher is asked once


def test_the_first_ones_runs_are_those_of_the_claims():
    study = study_at("reference")
    headline = create_study("08_cosine_confidence", study.setting)
    for way, label in (("weak2", "weak2"), ("JDA", "w = 1 (KD + JDA)"), ("CCD", "CCD")):
        assert study.specs(f"resnet8: {way}") == headline.specs(label)[:3]
    assert study.specs("resnet20: JDA")[0].student == "resnet20"


def test_the_interaction_is_the_difference_of_both_gains():
    contrasts = {c.name: c.weights for c in study_at("reference").contrasts}
    gains = [contrasts[f"JDA - weak2, {network}"] for network in ("resnet20", "resnet8")]
    labels = set().union(*gains)
    expected = {label: gains[0].get(label, 0) - gains[1].get(label, 0) for label in labels}
    assert contrasts["interaction of JDA - weak2"] == expected
    assert not any(c.primary for c in study_at("reference").contrasts)


def test_the_second_student_may_be_chosen():
    assert "resnet32: CCD" in study_at("quick", student="resnet32").arms
    # where the pair's own student is the profile's second, that of the first pair stands beside it
    assert {label.split(": ")[0] for label in study_at("paper", "wrn_40_2-wrn_40_1").arms} == {"wrn_40_1", "wrn_16_2"}


@pytest.mark.parametrize("student", ["resnet8_tiny", "resnet9", ""])
def test_another_must_be_another(student):
    with pytest.raises(
        ValueError, match=rf"student = '{student}' is no second student beside resnet8_tiny; allowed are auto, "
    ):
        study_at("quick", student=student)
