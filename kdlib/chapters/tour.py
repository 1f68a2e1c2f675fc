"""A first look: no teacher, a teacher, a teacher and augmented views."""

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import NO_TEACHER, with_floor


def create(setting: Setting) -> Study:
    """The study of chapter 00_tour."""
    arms = by_label(
        *with_floor([Arm("distilled", Policy(name="weak2")), Arm("distilled, augmented", Policy(name="jda"))])
    )
    contrasts = (
        Contrast.of("distillation", "distilled", NO_TEACHER),
        Contrast.of("augmentation", "distilled, augmented", "distilled"),
    )
    return Study("00_tour", setting, arms, contrasts, {"JDA": setting.views(Policy(name="jda"))})
