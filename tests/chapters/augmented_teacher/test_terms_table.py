"""The table of teachers with terms holds their means, and gaps where nothing is measured."""

import pytest

from kdlib.chapters.augmented_teacher import LATER
from kdlib.chapters.augmented_teacher.terms_table import terms_table
from kdlib.chapters.registry import create_study
from kdlib.lab.store import Store
from kdlib.study.setting import Setting, Study
from kdlib.study.tables import runs_frame

pytestmark = pytest.mark.usefixtures("isolated")


def table(study: Study, measured: dict):
    return terms_table(study, runs_frame(study, Store(study.setting.profile.name)), measured)


def test_a_row_has_the_means_of_a_teacher_and_of_its_students(invented):
    study = create_study("04_augmented_teacher", Setting.of("reference", device="cpu"))
    store, teacher = Store("reference"), "JDA + consistency teacher"
    for arm, first in ((teacher, 60.0), (f"KD + weak2, {teacher}", 40.0), (f"KD + JDA, {teacher}", 45.0)):
        for number, spec in enumerate(study.specs(arm)[:3]):
            store.put(invented(spec, "reference", top1=first + number, ece=0.1 * (number + 1)))
    store.put(invented(study.specs("Lipschitz teacher")[0], "reference", top1=55.0))
    found = table(study, {teacher: {"test_w_mean": 1.7504, "test_floor_mean": 1.9}, "Lipschitz teacher": None})
    assert list(found.index) == [teacher, "Lipschitz teacher"]  # the others are not trained
    assert found.loc[teacher].to_dict() == {
        "top-1 %": "61.00", "ECE": "0.200", "w, JDA view": "1.750", "w, plain crop": "1.900",
        "student of weak2, top-1 %": "41.00", "student of JDA, top-1 %": "46.00", "n": "3",
    }  # fmt: skip
    assert set(found.loc["Lipschitz teacher"]) == {"55.00", "0.050", "not measured", "1"}


def test_demonstrations_have_the_two_teachers_and_one_kind_of_student(invented):
    study = create_study("04_augmented_teacher", Setting.of("quick", device="cpu"))
    for name in ("plain teacher", "JDA teacher"):
        Store("quick").put(invented(study.specs(name)[0], "quick"))
    found = table(study, {})
    assert list(found.index) == ["plain teacher", "JDA teacher"] and "student of weak2, top-1 %" not in found
    assert set(found["student of JDA, top-1 %"]) == {"not measured"}


def test_what_later_teachers_say_is_measured_with_them():
    study = create_study("04_augmented_teacher", Setting.of("reference", device="cpu"))
    assert study.later == {
        name: LATER for name in ("JDA + consistency teacher", "Lipschitz teacher", "SoTeacher with JDA")
    }
    assert set(study.later) <= set(study.measurements)
