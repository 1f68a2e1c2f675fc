"""A first look: no teacher, a teacher, a teacher and augmented views."""

from kdlib.specs import Policy
from kdlib.studies.base import Arm, Contrast, Setting, Study, by_label


def create(setting: Setting) -> Study:
    """The study of chapter 00_tour."""
    arms = by_label(
        Arm("no teacher", Policy(name="weak2"), "ce"),
        Arm("distilled", Policy(name="weak2")),
        Arm("distilled, augmented", Policy(name="jda")),
    )
    contrasts = (
        Contrast.of("distillation", "distilled", "no teacher"),
        Contrast.of("augmentation", "distilled, augmented", "distilled"),
    )
    return Study("00_tour", setting, arms, contrasts, {"JDA": setting.views(Policy(name="jda"))})
