"""Which verdicts the runs of the other chapters give: nothing is trained for this chapter alone."""

from dataclasses import replace

from kdlib.chapters import CHAPTERS
from kdlib.chapters.registry import create_study
from kdlib.study.arms import MeasuredArm
from kdlib.study.setting import Setting, Study


def create(setting: Setting) -> Study:
    """Exactly the arms of the primary contrasts of the other studies, and their floors.

    Not those of 18_budget, which decide no claim, and may be those of another profile; nor those that are measured,
    which have no runs.
    """
    studies = [create_study(name, setting) for name in CHAPTERS if name not in ("12_verdicts", "18_budget")]
    arms = {
        f"{study.name}: {label}": replace(study.arms[label], floor=None)
        for study in studies
        for label in study.arms
        if label in study.deciding and not isinstance(study.arms[label], MeasuredArm)
    }
    return Study("12_verdicts", setting, arms)
