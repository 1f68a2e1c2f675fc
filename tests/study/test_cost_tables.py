"""Costs beside accuracy, from invented results."""

import math

import pytest

from kdlib.chapters.registry import create_study
from kdlib.lab import forecasts
from kdlib.lab.store import Store
from kdlib.study import cost_tables, tables
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")


def test_cost_points_stand_beside_accuracy_and_leave_gaps(invented):
    setting = Setting.of("quick", seeds=[0, 1, 2], device="cpu")
    study = create_study("09_ccd_versus_hsakd", setting)
    store = Store("quick")
    for spec, top1 in zip(study.specs("CCD"), (60.0, 61.0, 63.0), strict=True):
        store.put(invented(spec, "quick", top1=top1))
    points = cost_tables.cost_points(study, tables.runs_frame(study, store), {"CCD_seconds": 0.25})
    assert list(points.index) == list(study.arms)
    ccd, hsakd = points.loc["CCD"], points.loc["HSAKD, frozen teacher"]
    assert ccd.top1 == pytest.approx(61.333, abs=1e-3) and ccd.low < 60 and ccd.seconds == 0.25
    cost = forecasts.run_cost(study.specs("CCD")[0])
    assert (ccd.megabytes, ccd.gigamacs) == (cost.training_bytes / 1e6, cost.step_macs / 1e9)
    assert all(math.isnan(hsakd[name]) for name in ("top1", "low", "high", "seconds"))
    assert hsakd.megabytes > ccd.megabytes


def test_the_branches_of_the_teacher_are_found(invented):
    study, store = create_study("09_ccd_versus_hsakd", Setting.of("reference", device="cpu")), Store("reference")
    assert cost_tables.branches(study, store) == "not measured"
    store.put(invented(study.specs("HSAKD, frozen teacher")[0].teacher, "reference", mean_pretext=0.25))
    assert cost_tables.branches(study, Store("reference")) == "25.0 %"
