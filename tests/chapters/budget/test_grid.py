"""The grid: each method on both views at equal views and rate, each cell once, and a table that leaves gaps visible."""

import numpy as np
import pandas as pd
import pytest

from kdlib.chapters.budget import CHOSEN, NO_TEACHER, label_of
from kdlib.chapters.budget.grid import CCD, JDA, KD, METHODS, PLAIN, VIEWS, ahead, cells, gain
from kdlib.chapters.budget.grid_table import grid
from kdlib.chapters.registry import create_study
from kdlib.methods.method import METHODS as KNOWN
from kdlib.study.setting import Setting
from kdlib.study.tables import COLUMNS

BUDGET = 20


@pytest.fixture(scope="module")
def study():
    return create_study("18_budget", Setting.of("full", device="cpu"))


def frame_of(tops):
    """Arm -> top-1 of each seed."""
    rows = [{"arm": arm, "seed": s, "top1": v, "precision": "float32"} for arm, vs in tops.items() for s, v in vs]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_every_method_that_reads_logits_alone_is_there():
    """Not those whose point is which terms count, or what a feature says."""
    alone = {name for name, m in KNOWN.items() if m.needs_teacher and m.logits_only}
    assert set(METHODS.values()) == alone - {"four_term"}


@pytest.mark.parametrize("cell", cells(BUDGET))
def test_a_cell_is_its_method_on_its_views_at_equal_views_and_rate(study, cell):
    method, view = cell
    runs = study.specs(cells(BUDGET)[cell])
    assert len(runs) >= 3
    for run in runs:
        assert (run.method, run.policy.name, run.recipe.views_per_image) == (METHODS[method], VIEWS[view], BUDGET)
        assert run.recipe.learning_rate == CHOSEN["logits"]
        assert run.teacher.checkpoint == "cifar100_resnet20"


def test_no_two_cells_train_the_same(study):
    keys = [run.key for label in cells(BUDGET).values() for run in study.specs(label)]
    assert len(set(keys)) == len(keys)


def test_no_contrast_of_the_grid_is_primary(study):
    names = [gain(m) for m in METHODS] + [ahead(m, v) for m in METHODS for v in VIEWS if m != KD]
    assert not any(study.contrast(name).primary for name in names)


def test_a_demonstration_has_no_grid():
    small = create_study("18_budget", Setting.of("smoke", device="cpu"))
    assert not len(grid(small, frame_of({})))


def test_differences_are_paired_and_what_is_missing_is_said(study):
    arms = cells(BUDGET)
    kd, ccd = arms[KD, JDA], arms[CCD, JDA]
    table = grid(study, frame_of({kd: [(0, 50.0), (1, 60.0)], ccd: [(0, 51.0), (1, 61.0), (2, 10.0)]}))
    assert list(table.index) == [KD, CCD]
    assert table.loc[CCD, f"minus KD, {JDA}"].startswith("+1.00")  # of the seeds that both have
    assert table.loc[CCD, f"{PLAIN}, top-1 %"] == table.loc[CCD, "gain from JDA"] == "not measured"
    assert table.loc[KD, f"{JDA}, top-1 %"].startswith("55.00")


def test_a_cell_below_its_floor_is_marked(study):
    dist, floor = cells(BUDGET)["DIST", JDA], label_of(NO_TEACHER, BUDGET)
    noise = np.linspace(0, 0.2, 3)
    table = grid(study, frame_of({dist: list(enumerate(30 + noise)), floor: list(enumerate(40 - noise))}))
    assert table.loc["DIST", f"{JDA}, top-1 %"].endswith("did not train")
