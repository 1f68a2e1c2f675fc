"""The grid as a table: accuracy of methods by views, what JDA adds, the lead over KD, and what it costs."""

import pandas as pd

from kdlib.chapters.budget.grid import JDA, KD, METHODS, VIEWS, ahead, cell, cells, gain
from kdlib.lab.forecasts import run_cost
from kdlib.study.setting import Study
from kdlib.study.stats import mean_interval
from kdlib.study.tables import above_floor, by_seed, contrast_interval, digits, signed, span, untrained


def grid(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """One row per method that has runs: top-1 in percent by views, paired differences in points, cost of a run.

    Empty where the study has no grid or none of its runs. A cell without runs is "not measured"; one whose whole 95 %
    interval against the same student without a teacher lies below zero says that it did not train.
    """
    budget = study.setting.profile.budgets[1]
    if not set(cells(budget).values()) <= set(study.arms):
        return pd.DataFrame()
    rows = {method: _row(study, frame, method, budget) for method in METHODS if _measured(frame, method, budget)}
    return pd.DataFrame.from_dict(rows, orient="index")


def _measured(frame: pd.DataFrame, method: str, budget: int) -> bool:
    return bool(frame.arm.isin([cell(method, view, budget) for view in VIEWS]).any())


def _row(study: Study, frame: pd.DataFrame, method: str, budget: int) -> dict[str, str]:
    tops = {f"{view}, top-1 %": _top1(study, frame, cell(method, view, budget)) for view in VIEWS}
    leads = {f"minus {KD}, {view}": _difference(study, frame, ahead(method, view)) for view in VIEWS if method != KD}
    cost = run_cost(study.specs(cell(method, JDA, budget))[0])
    return {
        **tops,
        "gain from JDA": _difference(study, frame, gain(method)),
        **leads,
        "TMACs": digits(cost.run_macs / 1e12),
        "training MB": f"{cost.training_bytes / 1e6:.2f}",
    }


def _top1(study: Study, frame: pd.DataFrame, arm: str) -> str:
    interval = mean_interval(list(by_seed(frame, arm).values()))
    if not interval.n:
        return "not measured"
    low = ", did not train" if untrained(above_floor(study, frame, [arm])) else ""
    return f"{interval.mean:.2f} {span(interval)}{low}"


def _difference(study: Study, frame: pd.DataFrame, name: str) -> str:
    interval = contrast_interval(study.contrast(name), frame)
    return f"{signed(interval)} {span(interval, '+.2f')}" if interval.n else "not measured"
