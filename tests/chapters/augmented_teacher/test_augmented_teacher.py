"""Teachers of our own with and without JDA, and the public one beside them."""

import pytest

from kdlib.chapters.registry import create_study
from kdlib.lab.recipe import Public
from kdlib.study.setting import Setting


def test_students_of_the_public_teacher_are_those_of_the_blind_teacher():
    setting = Setting.of("reference", device="cpu")
    study, blind = (create_study(name, setting) for name in ("04_augmented_teacher", "03_blind_teacher"))
    for way, arm in (("KD + weak2", "weak2"), ("KD + JDA", "JDA")):
        assert study.specs(f"{way}, public teacher") == blind.specs(arm)[: len(setting.seeds)]
    assert isinstance(setting.teacher(), Public)


def test_the_public_teacher_decides_nothing():
    study = create_study("04_augmented_teacher", Setting.of("reference", device="cpu"))
    beside = [c for c in study.contrasts if any("public" in arm for arm in c.weights)]
    assert len(beside) == 4 and not any(c.primary for c in beside)
    more = study.contrast("gain: public - plain")
    assert more.weights == {
        "KD + JDA, public teacher": 1, "KD + weak2, public teacher": -1,
        "KD + JDA, plain teacher": -1, "KD + weak2, plain teacher": 1,
    }  # fmt: skip
    assert study.contrast("KD + JDA: plain teacher - public teacher").weights == {
        "KD + JDA, plain teacher": 1, "KD + JDA, public teacher": -1,
    }  # fmt: skip


@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
def test_where_all_teachers_are_our_own_there_is_none_beside(profile: str):
    study = create_study("04_augmented_teacher", Setting.of(profile, device="cpu"))
    assert not any("public" in label for label in study.arms)


TERMS = {
    "JDA + consistency teacher": ("jda", 0.0, 1.0),
    "Lipschitz teacher": ("weak2", 1e-5, 0.0),
    "SoTeacher with JDA": ("jda", 1e-5, 1.0),
}


@pytest.mark.parametrize("profile", ["reference", "paper"])
def test_soteachers_differ_from_the_two_teachers_in_their_terms_alone(profile: str):
    study = create_study("04_augmented_teacher", Setting.of(profile, device="cpu"))
    for label, (views, lipschitz, consistency) in TERMS.items():
        base = "JDA teacher" if views == "jda" else "plain teacher"
        for one, other in zip(study.specs(label), study.specs(base), strict=False):
            assert (one.method, one.options["lipschitz_weight"], one.options["consistency_weight"]) == (
                "soteacher", lipschitz, consistency
            )  # fmt: skip
            assert one.model_copy(update={"method": "ce", "options": {}}) == other
        for way in ("KD + weak2", "KD + JDA"):
            for one, other in zip(study.specs(f"{way}, {label}"), study.specs(f"{way}, {base}"), strict=False):
                assert one.teacher in study.specs(label)
                assert one.model_copy(update={"teacher": other.teacher}) == other


def test_the_contrast_of_soteacher_was_fixed_and_comes_with_the_third_tier():
    """The mean over both ways, as of b2; before its tier no teacher of it is planned, and no measurement."""
    study = create_study("04_augmented_teacher", Setting.of("reference", device="cpu"))
    fixed = study.contrast("S1")
    assert fixed.primary and fixed.says == "better" and fixed.level == 0.95 and study.planned(fixed) == 5
    assert fixed.weights == {
        f"{way}, {teacher}": sign / 2
        for way in ("KD + weak2", "KD + JDA")
        for teacher, sign in (("JDA + consistency teacher", 1), ("JDA teacher", -1))
    }
    for tier in (1, 2):
        assert not any("soteacher" in spec.model_dump_json() for spec in study.specs_to(tier))
    third = [spec for spec in study.specs_to(3) if "soteacher" in spec.model_dump_json()]
    assert len(third) == 3 + 3 * (5 + 3 + 3)  # measurements; a teacher and two students for each seed
    assert {study.tier(label) for label in study.arms if any(name in label for name in TERMS)} == {3}


@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_demonstrations_train_no_soteacher(profile: str):
    study = create_study("04_augmented_teacher", Setting.of(profile, device="cpu"))
    assert study.contrast("S1") is None and not any(label in study.arms for label in TERMS)
