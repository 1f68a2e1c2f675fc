"""Teachers with and without the terms of SoTeacher, and what their students reach: one row for each teacher."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kdlib.chapters.augmented_teacher import AUGMENTED, BOTH, CONSISTENT, PLAIN, SEEN, SMOOTH
from kdlib.study.setting import Study
from kdlib.study.tables import by_seed

MISSING = "not measured"


def terms_table(study: Study, frame: pd.DataFrame, measured: Mapping[str, Mapping[str, Any] | None]) -> pd.DataFrame:
    """One row for each teacher of the study that was trained here.

    Top-1 (percent) and ECE on test images, means over the finished seeds; mean w (see `kdlib.methods.ccd`) of the
    teacher of the first seed on test images, of a crop and a JDA view, and of two plain crops: 2 is a teacher whose
    answers keep their direction; top-1 of its students by the views that they see. measured: what a session has under
    the same name.
    """
    teachers = (PLAIN, AUGMENTED, CONSISTENT, SMOOTH, BOTH)
    rows = {name: _row(study, frame, measured.get(name), name) for name in teachers if by_seed(frame, name)}
    return pd.DataFrame.from_dict(rows, orient="index")


def _row(study: Study, frame: pd.DataFrame, views: Mapping[str, Any] | None, teacher: str) -> dict[str, str]:
    students = {f"student of {seen}, top-1 %": f"KD + {seen}, {teacher}" for seen in SEEN}
    return {
        "top-1 %": _mean(frame, teacher, "top1", ".2f"),
        "ECE": _mean(frame, teacher, "ece", ".3f"),
        "w, JDA view": f"{views['test_w_mean']:.3f}" if views else MISSING,
        "w, plain crop": f"{views['test_floor_mean']:.3f}" if views else MISSING,
        **{
            title: _mean(frame, arm, "top1", ".2f") for title, arm in students.items() if arm in study.arms
        },
        "n": str(len(by_seed(frame, teacher))),
    }  # fmt: skip


def _mean(frame: pd.DataFrame, arm: str, metric: str, spec: str) -> str:
    values = by_seed(frame, arm, metric).values()
    return f"{sum(values) / len(values):{spec}}" if values else MISSING
