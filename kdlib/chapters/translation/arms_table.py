"""Tables of chapter 25: how well the students of each arm translate, and what they wrote."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kdlib.chapters.translation import KD, METRICS, SPELT, label
from kdlib.elsewhere.translation.spec import TranslationSpec
from kdlib.lab.store import Store
from kdlib.study.setting import Study
from kdlib.study.stats import mean_interval
from kdlib.study.tables import digits, span

TEACHER = "teacher"


def found(study: Study, store: Store) -> dict[str, list[dict[str, Any]]]:
    """Arm -> the metrics of its runs that are there, seed by seed; and those of the teacher, if it is there."""
    runs = {arm: list(study.measured(arm).values()) for arm in study.arms}
    runs[TEACHER] = [next(spec.teacher for specs in runs.values() for spec in specs if spec.teacher)]
    return {
        arm: [result.metrics | _costs(spec) for spec in specs if (result := store.get(spec))]
        for arm, specs in runs.items()
    }


def _costs(spec: TranslationSpec) -> dict[str, int]:
    return {"prepared_macs": spec.prepared_macs, "training_bytes": spec.training_bytes}


def table(study: Study, store: Store) -> pd.DataFrame:
    """One row per arm that has runs, and one for the teacher: means over seeds, and what a run cost."""
    rows = {arm: _row(metrics) for arm, metrics in found(study, store).items() if metrics}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def _row(metrics: list[dict[str, Any]]) -> dict[str, str]:
    means = {
        words: f"{np.mean([some[name] for some in metrics]):.2f}"
        for name, words in METRICS.items()
        if all(name in some for some in metrics)
    }
    interval = span(mean_interval([some["bleu"] for some in metrics]))
    first = metrics[0]
    steps = np.mean([some["mean_gmacs"] * some["steps"] for some in metrics])
    cost = {
        "pairs": f"{first['pairs']:,}", "views": f"{first['views']:,}",
        "TMACs": digits(steps / 1e3 + first["prepared_macs"] / 1e12),
        "training MB": f"{first['training_bytes'] / 1e6:.2f}", "n": str(len(metrics)),
    }  # fmt: skip
    return {"BLEU": means.pop("BLEU"), "95 % interval": interval} | means | cost


def examples(study: Study, store: Store) -> pd.DataFrame:
    """What the first student of another spelling with KD wrote for some test sentences; empty where there is none."""
    students: list[Mapping[str, Any]] = found(study, store)[label(SPELT, KD)]
    return pd.DataFrame(students[0]["examples"] if students else [])
