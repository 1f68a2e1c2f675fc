"""What several chapters have in common: the floor of their arms, controls for teacher and learning rate, and weights of
methods that were published for single pairs of networks.

The floor of an arm is the same student without a teacher, from labels alone, on two plain crops.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kdlib.lab.recipe import Policy, Public
from kdlib.methods import find_method
from kdlib.study.arms import Arm, OwnTeacher
from kdlib.study.setting import Setting

NO_TEACHER = "no teacher"
OURS = "our teacher"
GAIN = f"gain: {OURS}"  # the contrast that asks of it what a primary one asks of the public teacher
SLOWER, SLOWLY = 4, "a quarter of the rate"
#: Divisor of the profile's learning rate -> what it is called.
RATES = {SLOWER: SLOWLY, 16: "a sixteenth of the rate"}
# The weight of DKD's non-target part by pair of networks, as published; other pairs take the method's default, as the
# paper's other pairs do. Of the smaller student of profile reference the nearest published pair is ResNet-56 -> 20.
DKD_BETA = {
    ("wrn_40_2", "wrn_16_2"): 6.0, ("wrn_40_2", "wrn_40_1"): 6.0, ("vgg13", "vgg8"): 6.0, ("vgg13", "mobilenetv2"): 6.0,
    ("resnet56", "resnet20"): 2.0, ("cifar100_resnet56", "resnet8"): 2.0,
}  # fmt: skip

# CRLD's published weights, halved: labels then weigh what they do in every other arm, a mean over views.
CRLD_WEIGHTS: Mapping[str, float] = {"ce_weight": 0.5, "kd_weight": 1.0, "cross_weight": 0.25}


def with_floor(arms: Iterable[Arm], label: str = NO_TEACHER) -> list[Arm]:
    """The floor that arms have in common, and the arms. Teachers, and arms without a teacher, have none.

    It has the arms' network, images and number of views, and the profile's learning rate. ValueError if the arms differ
    in these, or if none of them learns from a teacher.
    """
    arms = list(arms)
    taught = [arm for arm in arms if find_method(arm.method).needs_teacher and not arm.is_teacher]
    each = list(map(_no_teacher, taught))
    floors = [floor for k, floor in enumerate(each) if floor not in each[:k]]
    if len(floors) != 1:
        names = ", ".join(arm.label for arm in arms)
        raise ValueError(f"arms {names} have {len(floors)} floors; allowed are arms of one student, images and views")
    seeds = "few" if all(arm.seeds in ("few", "one") for arm in taught) else "usual"
    floor = replace(*floors, label=label, seeds=seeds, tier=min(arm.tier for arm in taught))
    return [floor, *(replace(arm, floor=label) if arm in taught else arm for arm in arms)]


def _no_teacher(like: Arm) -> Arm:
    recipe = {field: value for field, value in like.recipe.items() if field != "learning_rate"}
    return Arm(
        NO_TEACHER, Policy(name="weak2"), "ce", fraction=like.fraction, student=like.student, part=like.part,
        recipe=recipe, validation=like.validation,
    )  # fmt: skip


def our_teacher(setting: Setting) -> OwnTeacher | None:
    """That teacher, the plain one of 04_augmented_teacher; None where the setting has no public teacher to replace."""
    return OwnTeacher(Policy(name="weak2")) if isinstance(setting.teacher(), Public) else None


def slowed(arm: Arm, label: str, setting: Setting, divisor: int = SLOWER) -> Arm:
    """The arm under another label, at a fraction of the profile's learning rate. It is explored, with few seeds."""
    rate = setting.profile.recipe.learning_rate / divisor
    return replace(arm, label=label, recipe={**arm.recipe, "learning_rate": rate}, seeds="few", tier=3)


def dkd_options(setting: Setting) -> dict[str, Any]:
    """The options of DKD for the pair of a setting."""
    beta = DKD_BETA.get(setting.networks)
    return {"beta": beta} if beta else {}
