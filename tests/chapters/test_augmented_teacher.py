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
