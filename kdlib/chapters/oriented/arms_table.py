"""Tables of chapter 26: how well turned boxes are found, on which angles, and what that cost."""

from typing import Any

import numpy as np
import pandas as pd

from kdlib.chapters.oriented import METRICS
from kdlib.lab.store import Store
from kdlib.study.setting import Study
from kdlib.study.stats import mean_interval
from kdlib.study.tables import digits, span

TEACHER, SIGHTED = "blind teacher", "sighted teacher"


def found(study: Study, store: Store) -> dict[str, list[dict[str, Any]]]:
    """Arm, or kind of teacher -> the metrics of its runs that are there, seed by seed; without any it is left out."""
    runs: dict[str, dict[str, Any]] = {TEACHER: {}, SIGHTED: {}}
    for arm in study.arms:
        specs = study.measured(arm).values()
        runs[arm] = {spec.key: spec for spec in specs}
        for teacher in (spec.teacher for spec in specs if spec.teacher):
            runs[TEACHER if teacher.second == "weak2" else SIGHTED][teacher.key] = teacher
    there = {
        name: [r.metrics | {"training_bytes": s.training_bytes} for s in specs.values() if (r := store.get(s))]
        for name, specs in runs.items()
    }
    return {name: metrics for name, metrics in there.items() if metrics}


def table(study: Study, store: Store) -> pd.DataFrame:
    """One row per kind of teacher and per arm that has runs: average precision in percent on all angles, on those that
    were learnt from and on the others, the median error of angles, means over seeds; views, steps, operations and
    bytes of a run. Empty where there is none."""
    rows = {arm: _row(metrics) for arm, metrics in found(study, store).items()}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def _row(metrics: list[dict[str, Any]]) -> dict[str, str]:
    scores = {words: mean for name, words in METRICS.items() if (mean := _mean(metrics, name))}
    cost = {
        "views": f"{metrics[0]['views']:,}",
        "steps": f"{metrics[0]['steps']:,}",
        "TMACs": digits(metrics[0]["macs"] / 1e12),
        "training MB": f"{metrics[0]['training_bytes'] / 1e6:.2f}",
    }
    interval = {"95 % interval": span(mean_interval([some["ap50"] for some in metrics]))}
    return {"AP50": scores.pop("AP50")} | interval | scores | {"n": str(len(metrics))} | cost


def _mean(metrics: list[dict[str, Any]], name: str) -> str:
    """Over the seeds that have it; empty if none has."""
    values = [some[name] for some in metrics if name in some]
    return f"{np.mean(values):.2f}" if values else ""


def boxes_text(study: Study, store: Store) -> str:
    """How many boxes are to be found in each test, in words."""
    known = [metrics for some in found(study, store).values() for metrics in some]
    return ", ".join(f"{count} boxes {name}" for name, count in known[0]["boxes"].items()) if known else "not measured"
