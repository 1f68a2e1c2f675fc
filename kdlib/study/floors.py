"""The floor of an arm: the same student without a teacher, from labels alone, on two plain crops."""

from collections.abc import Iterable
from dataclasses import replace

from kdlib.lab.recipe import Policy
from kdlib.methods import find_method
from kdlib.study.arms import Arm

NO_TEACHER = "no teacher"


def with_floor(arms: Iterable[Arm], label: str = NO_TEACHER) -> list[Arm]:
    """The floor that arms have in common, and the arms. Teachers, and arms without a teacher, have none.

    It has the arms' network, images and number of views, and the profile's learning rate. ValueError if the arms differ
    in these, or if none of them learns from a teacher.
    """
    arms = list(arms)
    taught = [arm for arm in arms if find_method(arm.method).needs_teacher and not arm.is_teacher]
    floors = {_as_key(floor): floor for floor in map(_no_teacher, taught)}
    if len(floors) != 1:
        names = ", ".join(arm.label for arm in arms)
        raise ValueError(f"arms {names} have {len(floors)} floors; allowed are arms of one student, images and views")
    seeds = "few" if all(arm.seeds in ("few", "one") for arm in taught) else "usual"
    floor = replace(*floors.values(), label=label, seeds=seeds, tier=min(arm.tier for arm in taught))
    return [floor, *(replace(arm, floor=label) if arm in taught else arm for arm in arms)]


def _no_teacher(like: Arm) -> Arm:
    recipe = {field: value for field, value in like.recipe.items() if field != "learning_rate"}
    return Arm(
        NO_TEACHER, Policy(name="weak2"), "ce", fraction=like.fraction, student=like.student, part=like.part,
        recipe=recipe, validation=like.validation,
    )  # fmt: skip


def _as_key(arm: Arm) -> tuple:
    return (arm.fraction, arm.student, arm.part, tuple(sorted(arm.recipe.items())), arm.validation)
