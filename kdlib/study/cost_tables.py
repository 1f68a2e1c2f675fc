"""What methods cost beside what they reach, and what they train before the student."""

import math
from collections.abc import Mapping

import pandas as pd

from kdlib.lab.forecasts import run_cost, run_extras
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.methods import find_method
from kdlib.study.setting import Study
from kdlib.study.tables import arm_intervals, digits


def parts_table(study: Study) -> pd.DataFrame:
    """One row per arm, counted without any run: what training keeps beside the two networks, and what is deployed."""
    rows = {}
    for arm in study.arms:
        spec = study.specs(arm)[0]
        cost, first = run_cost(spec), head_run(spec)
        rows[arm] = {
            "teacher + student, parameters": f"{cost.teacher_parameters + cost.student_parameters:,}",
            "extra parameters": f"{cost.extra_parameters:,}",
            "bank MB": f"{run_extras(spec).bank_bytes / 1e6:.2f}",
            "training MB": f"{cost.training_bytes / 1e6:.2f}",
            "student's TMACs": digits(cost.run_macs / 1e12),
            "first stage TMACs": digits(run_cost(first).run_macs / 1e12) if first else "–",
            "deployed MB": f"{cost.deployed_bytes / 1e6:.2f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def cost_points(study: Study, frame: pd.DataFrame, timing: Mapping | None) -> pd.DataFrame:
    """By arm: mean top-1, its 95 % interval (from three seeds on), megabytes kept in training, GMACs, seconds a step.

    timing: the metrics of a `TimingSpec`, or None where it is missing; what is not known is nan.
    """
    rows = {}
    for arm, interval in arm_intervals(study, frame).items():
        cost = run_cost(study.specs(arm)[0])
        low, high = (interval.low, interval.high) if interval.shown else (math.nan, math.nan)
        rows[arm] = {
            "top1": interval.mean, "low": low, "high": high,
            "megabytes": cost.training_bytes / 1e6, "gigamacs": cost.step_macs / 1e9,
            "seconds": (timing or {}).get(f"{arm}_seconds", math.nan),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def head_run(spec: RunSpec) -> RunSpec | None:
    """The run that trains the head that a method needs on its teacher, if it needs one."""
    return spec.teacher if find_method(spec.method).taught_by else None


def branches(study: Study, store: Store) -> str:
    """How often the last of HSAKD's branches on the teacher named class and turn, over its training, in percent."""
    runs = [head_run(spec) for arm in study.arms for spec in study.specs(arm)]
    heads = [run for run in runs if run and run.method == "hsakd_teacher"]
    result = store.get(heads[0]) if heads else None
    return f"{100 * result.metrics['mean_pretext']:.1f} %" if result else "not measured"
