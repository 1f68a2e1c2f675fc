"""Tables of chapter 27: how well the students of each arm classify after fine-tuning, their teachers, and the cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kdlib.chapters.masked import ALONE
from kdlib.lab.store import Store
from kdlib.study.arms import Contrast
from kdlib.study.setting import Study
from kdlib.study.stats import mean_interval
from kdlib.study.tables import contrast_interval, digits, span


def found(study: Study, store: Store) -> dict[str, list[dict[str, Any]]]:
    """Arm -> the metrics of its runs that are there, seed by seed; arms without any are left out."""
    there = {
        arm: [
            result.metrics | {"training_bytes": spec.training_bytes}
            for spec in study.measured(arm).values()
            if (result := store.get(spec))
        ]
        for arm in study.arms
    }
    return {arm: metrics for arm, metrics in there.items() if metrics}


def table(study: Study, store: Store, frame: pd.DataFrame) -> pd.DataFrame:
    """One row per arm that has runs: top-1, what it is above students without distillation, and the cost of a run."""
    rows = {arm: _row(study, arm, metrics, frame) for arm, metrics in found(study, store).items()}
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")


def _row(study: Study, arm: str, metrics: Sequence[Mapping[str, Any]], frame: pd.DataFrame) -> dict[str, str]:
    first = metrics[0]
    own = {} if arm == ALONE else {f"minus {ALONE}": _above(arm, frame)}
    return {
        "top-1 %": f"{mean(metrics, 'top1'):.2f}",
        "95 % interval": span(mean_interval([some["top1"] for some in metrics])),
        **own,
        "kept cells": "–" if arm == ALONE else f"{100 * first['kept']:g} %",
        "views": f"{first['views']:,}",
        "steps": f"{first['steps']:,}",
        "TMACs": digits(first["macs"] / 1e12),
        "training MB": f"{first['training_bytes'] / 1e6:.2f}",
        "n": f"{len(metrics)} of {len(study.measured(arm))}",
    }


def _above(arm: str, frame: pd.DataFrame) -> str:
    interval = contrast_interval(Contrast.of("", arm, ALONE), frame)
    return f"{interval.mean:+.2f} {span(interval, '+.2f')}".strip() if interval.n else ""


def mean(metrics: Sequence[Mapping[str, Any]], name: str) -> float:
    """Of a metric over seeds."""
    return float(np.mean([some[name] for some in metrics]))


def teachers(study: Study, store: Store) -> str:
    """How good the teachers are that were trained, in words."""
    specs = {spec.teacher.key: spec.teacher for spec in study.measurements.values() if spec.teacher}
    values = [result.metrics["top1"] for spec in specs.values() if (result := store.get(spec))]
    if not values:
        return "not measured"
    return f"{np.mean(values):.1f} %" + (f", a mean over {len(values)} teachers" if len(values) > 1 else "")


def labels(study: Study, store: Store) -> str:
    """How many images are learnt from, and how many of them with labels, in words."""
    known = [metrics for some in found(study, store).values() for metrics in some]
    if not known:
        return "not measured"
    return f"{known[0]['images']:,} images, of which {known[0]['labelled']:,} have labels"
