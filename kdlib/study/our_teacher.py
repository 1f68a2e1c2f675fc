"""The control for the teacher: one that we train on plain crops, in place of a public checkpoint."""

from kdlib.lab.recipe import Policy, Public
from kdlib.study.arms import OwnTeacher
from kdlib.study.setting import Setting

OURS = "our teacher"
GAIN = f"gain: {OURS}"  # the contrast that asks of it what a primary one asks of the public teacher


def our_teacher(setting: Setting) -> OwnTeacher | None:
    """That teacher, the plain one of 04_augmented_teacher; None where the setting has no public teacher to replace."""
    return OwnTeacher(Policy(name="weak2")) if isinstance(setting.teacher(), Public) else None
