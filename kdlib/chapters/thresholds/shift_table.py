"""Tables of chapter 23: what each set of images says of students whose thresholds were chosen on another."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kdlib.chapters.thresholds import MEASURED, name_of
from kdlib.lab.measures.frozen_thresholds import EXTERNAL, INTERNAL, STRONGEST
from kdlib.study.setting import Study
from kdlib.study.stats import Interval, mean_interval
from kdlib.views.corruptions import KINDS

#: Column -> (score of a set, its factor, how it is printed).
COLUMNS: Mapping[str, tuple[str, float, str]] = {
    "top-1 %": ("top1", 1, ".2f"),
    "AUC": ("auc", 1, ".3f"),
    "sensitivity %": ("sensitivity", 100, ".1f"),
    "specificity %": ("specificity", 100, ".1f"),
    "precision %": ("precision", 100, ".1f"),
    "F1 %": ("f1", 100, ".1f"),
    "F1 %, re-chosen": ("best_f1", 100, ".1f"),
    "threshold loss": ("threshold_loss", 100, ".2f"),
    "ECE": ("ece", 1, ".3f"),
    "NLL": ("nll", 1, ".3f"),
    "overconfidence, points": ("overconfidence", 100, "+.1f"),
    "|mean score - base rate|, points": ("score_gap", 100, ".2f"),
}
#: Arm -> the metrics of its measured students, seed by seed.
Found = Mapping[str, list[dict[str, Any]]]


def found(study: Study, measured: Mapping[str, dict[str, Any] | None]) -> Found:
    """measured: metrics by the names of the study's measurements, or None, as a session has them."""
    names = {arm: [name_of(arm, spec.seed) for spec in study.specs(arm)] for arm in MEASURED}
    return {arm: [metrics for name in some if (metrics := measured[name])] for arm, some in names.items()}


def interval(metrics: list[dict[str, Any]], one: str, column: str) -> Interval:
    """The 95 % interval over seeds of a column of COLUMNS on one set."""
    score, factor, _ = COLUMNS[column]
    return mean_interval([factor * some["sets"][one][score] for some in metrics])


def sets_table(students: Found) -> pd.DataFrame:
    """One row per set and arm, means over seeds: the test images, the strongest corruptions, the external set if there
    is one. Empty where nothing is measured."""
    measured = {arm: metrics for arm, metrics in students.items() if metrics}
    known = {one for metrics in measured.values() for some in metrics for one in some["sets"]}
    order = [one for one in (INTERNAL, *(f"{kind} {STRONGEST}" for kind in KINDS), EXTERNAL) if one in known]
    rows = {
        (one, arm): {name: f"{interval(metrics, one, name).mean:{spec}}" for name, (_, _, spec) in COLUMNS.items()}
        for one in order
        for arm, metrics in measured.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def split_text(students: Found) -> str:
    """On how many images thresholds were chosen, in words."""
    counts = sorted({some["threshold_images"] for metrics in students.values() for some in metrics})
    if not counts:
        return "not measured"
    return f"{counts[0]:,} images" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,} images"


def chance_text(students: Found) -> str:
    """The threshold loss without any shift, arm by arm, in words: what re-choosing gains by fitting a sample."""
    means = {
        arm: np.mean([some["test_threshold_loss"] for some in metrics]) for arm, metrics in students.items() if metrics
    }
    return ", ".join(f"{arm} {mean:.2f}" for arm, mean in means.items()) or "not measured"
