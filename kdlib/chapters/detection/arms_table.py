"""Tables of chapter 24: how well the students of each arm find what they should, and what that cost."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kdlib.chapters.detection import MARGIN, METRICS
from kdlib.lab.store import Store
from kdlib.study.setting import Study
from kdlib.study.stats import mean_interval
from kdlib.study.tables import digits, span

#: Measurement by name -> its metrics, or None where it is missing, as a session has them.
Measured = Mapping[str, dict[str, Any] | None]
LITTLE = 5 * MARGIN  # percent, below which a metric leaves little room for differences
#: Score at a frozen threshold -> its column.
AT_FROZEN: Mapping[str, str] = {"precision": "precision %", "recall": "recall %", "f1": "F1 %"}


def found(study: Study, measured: Measured) -> dict[str, list[dict[str, Any]]]:
    """Arm -> the metrics of its runs that are there, seed by seed; arms without any are left out."""
    there = {
        arm: [
            metrics | {"training_bytes": spec.training_bytes}
            for seed, spec in study.measured(arm).items()
            if (metrics := measured[study.arms[arm].measurement(seed)])
        ]
        for arm in study.arms
    }
    return {arm: metrics for arm, metrics in there.items() if metrics}


def table(study: Study, measured: Measured) -> pd.DataFrame:
    """One row per arm that has runs: average precision in percent, a mean over seeds, with the interval of AP50; views,
    steps, operations and bytes of a run. Empty where there is none."""
    rows = {arm: _row(metrics) for arm, metrics in found(study, measured).items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def _row(metrics: list[dict[str, Any]]) -> dict[str, str]:
    scores = {words: f"{_mean(metrics, name):.2f}" for name, words in METRICS.items()}
    interval = span(mean_interval([some["ap50"] for some in metrics]))
    cost = {
        "views": f"{metrics[0]['views']:,}",
        "steps": f"{metrics[0]['steps']:,}",
        "TMACs": digits(metrics[0]["macs"] / 1e12),
        "training MB": f"{metrics[0]['training_bytes'] / 1e6:.2f}",
    }
    return {"AP50": scores.pop("AP50"), "95 % interval": interval} | scores | {"n": str(len(metrics))} | cost


def places_table(study: Study, measured: Measured) -> pd.DataFrame:
    """One row per arm that was tested elsewhere too: AP50 there, a mean over seeds. Empty where there is none."""
    rows = {
        arm: {place: f"{_mean(metrics, f'{place}: ap50'):.2f}" for place in list(metrics[0]["boxes"])[1:]}
        for arm, metrics in found(study, measured).items()
    }
    return pd.DataFrame.from_dict({arm: row for arm, row in rows.items() if row}, orient="index")


def thresholds_table(study: Study, measured: Measured) -> pd.DataFrame:
    """One row per arm that was tested elsewhere too and place: precision, recall and F1 at the threshold of the first
    test, F1 at one that is chosen there, and what lies between; means over seeds. Empty where there is none."""
    rows = {
        (arm, place): _at_frozen(metrics, f"{place}: " if number else "")
        for arm, metrics in found(study, measured).items()
        if len(metrics[0]["boxes"]) > 1
        for number, place in enumerate(metrics[0]["boxes"])
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _at_frozen(metrics: list[dict[str, Any]], place: str) -> dict[str, str]:
    """place: what stands before the names of its scores."""
    row = {words: f"{_mean(metrics, place + name):.2f}" for name, words in AT_FROZEN.items()}
    row["F1 %, re-chosen"] = f"{_mean(metrics, f'{place}best_f1'):.2f}" if place else row["F1 %"]
    row["threshold loss"] = f"{_mean(metrics, f'{place}threshold_loss'):.2f}" if place else "0.00"
    return row | {"overconfidence, points": f"{_mean(metrics, f'{place}overconfidence'):+.1f}"}


def teachers_text(study: Study, store: Store) -> str:
    """How well the teachers find boxes by themselves, in words; empty where none is there."""
    specs = {spec.teacher.key: spec.teacher for spec in study.measurements.values() if spec.teacher}
    values = [result.metrics["ap50"] for spec in specs.values() if (result := store.get(spec))]
    return f"The AP50 of the teachers themselves is {np.mean(values):.2f} %, n = {len(values)}." if values else ""


def room_text(study: Study, measured: Measured) -> str:
    """A sentence where AP75 is so low in all arms that its differences are bound to be small; else nothing."""
    values = [_mean(metrics, "ap75") for metrics in found(study, measured).values()]
    if not values or max(values) >= LITTLE:
        return ""
    return f"No arm has an AP75 above {max(values):.2f} %, so D2 has little room to be seen in."


def boxes_text(study: Study, measured: Measured) -> str:
    """How many boxes are to be found in each test, in words."""
    known = [metrics for some in found(study, measured).values() for metrics in some]
    if not known:
        return "not measured"
    return ", ".join(f"{count} boxes in {place}" for place, count in known[0]["boxes"].items())


def _mean(metrics: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([some[name] for some in metrics]))
