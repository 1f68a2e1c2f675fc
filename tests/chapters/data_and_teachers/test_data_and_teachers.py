"""The study of chapter 01: which teachers are measured, and how."""

import pytest

from kdlib.chapters.registry import create_study
from kdlib.lab.measurements import ScoresSpec
from kdlib.lab.recipe import Policy, Public
from kdlib.lab.runs import execute, needed
from kdlib.lab.store import Store
from kdlib.models.checkpoints import PUBLIC
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")
NAME = "01_data_and_teachers"


def measured(profile: str, **choices) -> dict[str, ScoresSpec]:
    study = create_study(NAME, Setting.of(profile, device="cpu", **choices))
    assert not study.arms and not study.contrasts
    return dict(study.measurements)


def test_every_public_checkpoint_of_the_data_is_measured():
    found = measured("reference")
    assert list(found) == [name for name in PUBLIC if name.startswith("cifar100")]
    assert len(found) == 4
    for name, spec in found.items():
        assert spec.teacher == Public(checkpoint=name)
        assert spec.data == "cifar100"


def test_teachers_of_our_own_are_those_of_the_seeds():
    paper = measured("paper", seeds=[3, 8])
    assert list(paper) == ["wrn_40_2, seed 3", "wrn_40_2, seed 8"]
    assert [spec.teacher for spec in paper.values()] == [Setting.of("paper", device="cpu").teacher(s) for s in (3, 8)]
    assert len(needed(paper.values())) == 4  # each teacher is trained before it is measured
    assert list(measured("quick", seeds=[3, 8])) == ["resnet14_tiny, seed 0"]  # one for all students


@pytest.mark.parametrize("profile", ["smoke", "quick", "reference", "paper"])
def test_they_are_the_teachers_that_students_have_measured_in_float32(profile):
    setting = Setting.of(profile, device="cpu")
    found = measured(profile)
    assert setting.teacher() in [spec.teacher for spec in found.values()]
    for spec in found.values():
        assert spec.machine.precision == "float32"
        assert spec.teacher == setting.teacher(getattr(spec.teacher, "seed", 0)) or isinstance(spec.teacher, Public)
        assert getattr(spec.teacher, "policy", Policy(name="weak1")) == Policy(name="weak1")


def test_a_measurement_is_stored_and_read_back(make_spec, tiny):
    run = make_spec()
    spec = ScoresSpec(data=tiny, teacher=run, machine=run.machine)
    for each in needed([spec]):
        execute(each, "smoke")
    result = Store("smoke").get(spec)
    assert result.metrics["test_images"] == 60
    assert result.spec == spec
    assert execute(spec, "smoke") == result
