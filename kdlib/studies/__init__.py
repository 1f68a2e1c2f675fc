"""Studies: the runs that answer one question, and the contrasts that were fixed before any result.

One file per chapter says what is compared; `create_study` builds it for a setting, and everything else follows.
"""

import inspect
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kdlib.profiles import PROFILES, Profile
from kdlib.records import check_values
from kdlib.studies import (
    another_student,
    augmented_teacher,
    benchmark,
    blind_teacher,
    budget,
    ccd_versus_hsakd,
    compatibility,
    cosine_confidence,
    data_and_teachers,
    few_shot,
    good_views,
    imagenet,
    joint_data_augmentation,
    proportion,
    sizing,
    tour,
    view_bank,
    your_own,
)  # fmt: skip
from kdlib.studies.base import Arm, Contrast, OwnTeacher, Setting, Study, by_label

__all__ = [
    "STUDIES", "Arm", "Contrast", "OwnTeacher", "Setting", "Study", "by_label", "command_line",
    "create_study", "own_options",
]  # fmt: skip


def _verdicts(setting: Setting) -> Study:
    """Exactly the arms of the primary contrasts of the other studies, and their floors.

    Not those of 18_budget, which decide no claim, and may be those of another profile.
    """
    studies = [create_study(name, setting) for name in STUDIES if name not in ("12_verdicts", "18_budget")]
    arms = {
        f"{study.name}: {label}": replace(study.arms[label], floor=None)
        for study in studies
        for label in study.arms
        if label in study.deciding
    }
    return Study("12_verdicts", setting, arms)


#: Chapter name -> the function that builds its study from a setting and the chapter's own options.
STUDIES: Mapping[str, Callable[..., Study]] = {
    "00_tour": tour.create,
    "01_data_and_teachers": data_and_teachers.create,
    "02_joint_data_augmentation": joint_data_augmentation.create,
    "03_blind_teacher": blind_teacher.create,
    "04_augmented_teacher": augmented_teacher.create,
    "05_proportion": proportion.create,
    "06_few_shot": few_shot.create,
    "07_compatibility": compatibility.create,
    "08_cosine_confidence": cosine_confidence.create,
    "09_ccd_versus_hsakd": ccd_versus_hsakd.create,
    "10_imagenet": imagenet.create,
    "11_good_views": good_views.create,
    "12_verdicts": _verdicts,
    "13_your_own": your_own.create,
    "14_view_bank": view_bank.create,
    "15_benchmark": benchmark.create,
    "16_sizing": sizing.create,
    "17_another_student": another_student.create,
    "18_budget": budget.create,
}


def own_options(name: str) -> dict[str, tuple[Any, Any]]:
    """The options that only this study has: name -> (type, default)."""
    parameters = list(inspect.signature(STUDIES[name]).parameters.values())
    return {p.name: (p.annotation, p.default) for p in parameters[1:]}


def create_study(name: str, setting: Setting, **options: Any) -> Study:
    """The study called `name`. Raises ValueError for an unknown study, or an option of a wrong name, type or value."""
    if name not in STUDIES:
        raise ValueError(f"study = {name!r} is unknown; allowed are {', '.join(STUDIES)}")
    allowed = own_options(name)
    for option in options:
        if option not in allowed:
            raise ValueError(f"{name} has no option {option!r}; allowed are {', '.join(allowed) or 'none'}")
    _check_profile(name, setting.profile)
    return STUDIES[name](setting, **check_values("option", allowed, options))


def _check_profile(name: str, scale: Profile) -> None:
    """Raises ValueError for a profile that belongs to other chapters."""
    if scale.chapters and name not in scale.chapters:
        allowed = [other.name for other in PROFILES.values() if not other.chapters or name in other.chapters]
        raise ValueError(
            f"profile = {scale.name!r} belongs to chapter {', '.join(scale.chapters)}; {name} has {', '.join(allowed)}"
        )


def command_line(name: str, given: Mapping[str, Any]) -> str:
    """The shell command that trains what a study needs at these choices; defaults ("auto", none) may be left out."""
    words = ["python", "-m", "kdlib", "run", name, "--profile", given["profile"]]
    for field in ("pair", "device", "data"):
        if given.get(field, "auto") != "auto":
            words += [f"--{field}", given[field]]
    if given.get("seeds"):
        words += ["--seeds", *map(str, given["seeds"])]
    for option, (_, default) in own_options(name).items():
        if given.get(option) not in (None, [], default):
            words += ["--option", f"{option}={json.dumps(given[option])}"]
    return shlex.join(words)
