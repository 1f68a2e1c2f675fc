"""The floor of arms: one for all, or a refusal."""

import pytest

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, OwnTeacher
from kdlib.study.shared_arms import with_floor

JDA = Policy(name="jda")


def test_the_floor_comes_first_and_has_the_images_and_views_of_the_arms():
    own = {"fraction": 0.1, "student": "resnet8", "recipe": {"views_per_image": 7, "learning_rate": 0.01}}
    floor, *arms = with_floor([Arm("x", JDA, "ccd", seeds="few", tier=3, **own), Arm("y", JDA, tier=2, **own)], "none")
    assert (floor.label, floor.method, floor.policy, floor.teacher) == ("none", "ce", Policy(name="weak2"), None)
    assert (floor.fraction, floor.student, floor.recipe) == (0.1, "resnet8", {"views_per_image": 7})
    assert (floor.seeds, floor.tier, floor.floor) == ("usual", 2, None)
    assert [arm.floor for arm in arms] == ["none", "none"]


def test_arms_without_a_teacher_have_no_floor():
    teacher = Arm("teacher", JDA, "ce", teacher=OwnTeacher(JDA), is_teacher=True)
    floor, *arms = with_floor([teacher, Arm("labels", JDA, "ce"), Arm("x", JDA, seeds="few")])
    assert [arm.floor for arm in arms] == [None, None, "no teacher"]
    assert floor.seeds == "few"


@pytest.mark.parametrize("arms", [[Arm("x", JDA, "ce")], [Arm("x", JDA), Arm("y", JDA, fraction=0.1)]])
def test_arms_that_have_no_floor_in_common_are_refused(arms):
    with pytest.raises(ValueError, match=r"^arms .* have [02] floors; allowed are arms of one student"):
        with_floor(arms)
