"""Tables of chapter 22: how well the students of each arm find images, beside their teacher."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kdlib.chapters.retrieval import JDA, METRICS, label
from kdlib.study.setting import Study
from kdlib.study.stats import mean_interval
from kdlib.study.tables import span

TEACHER = "teacher"
#: Measurement by name -> its metrics, or None where it is missing, as a session has them.
Measured = Mapping[str, dict[str, Any] | None]


def found(study: Study, measured: Measured) -> dict[str, list[dict[str, Any]]]:
    """Arm -> the metrics of its measurements that are there, seed by seed."""
    names = {arm: [study.arms[arm].measurement(seed) for seed in study.measured(arm)] for arm in study.arms}
    return {arm: [metrics for name in some if (metrics := measured[name])] for arm, some in names.items()}


def table(study: Study, measured: Measured) -> pd.DataFrame:
    """One row per arm that is measured, and one for the teachers' codes: means over seeds in percent, the interval of
    mAP, and how many of the augmented views were kept. Empty where nothing is measured."""
    students = {arm: metrics for arm, metrics in found(study, measured).items() if metrics}
    rows = {arm: _row(metrics) for arm, metrics in students.items()}
    if students:
        first = next(iter(students.values()))
        rows[TEACHER] = {
            "mAP": f"{_mean(first, 'teacher_map'):.2f}",
            "precision at radius 2": f"{_mean(first, 'teacher_precision2'):.2f}",
            "n": str(len(first)),
        }
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def _row(metrics: list[dict[str, Any]]) -> dict[str, str]:
    columns = {words: f"{_mean(metrics, name):.2f}" for name, words in METRICS.items()}
    interval = span(mean_interval([some["own_map"] for some in metrics]))
    kept = f"{100 * _mean(metrics, 'kept'):.0f}"
    first = {"mAP": columns.pop("mAP"), "95 % interval": interval}
    return first | columns | {"views kept, %": kept, "n": str(len(metrics))}


def _mean(metrics: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([some[name] for some in metrics]))


def examples(study: Study, measured: Measured) -> list[Mapping[str, Any]]:
    """Those of the first measured student of the cluster check under JDA; empty where there is none."""
    students = found(study, measured)[label(JDA, "cluster")]
    return students[0]["examples"] if students else []


def kept_text(study: Study, measured: Measured) -> str:
    """How many of the augmented views the cluster check keeps, view by view, in words."""
    students = found(study, measured)
    shown = {
        arm: 100 * _mean(metrics, "kept")
        for arm, metrics in students.items()
        if metrics and arm.endswith("cluster check")
    }
    return ", ".join(f"{arm} {share:.0f} %" for arm, share in shown.items()) or "not measured"


def counts_text(study: Study, measured: Measured) -> str:
    """How many images were learnt from, searched, and searched for, in words."""
    known = [metrics for some in found(study, measured).values() for metrics in some]
    if not known:
        return "not measured"
    first = known[0]
    return f"{first['images']:,} images, {first['queries']:,} queries against {first['index_images']:,} images"
