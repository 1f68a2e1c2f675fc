"""The runs that are timed, and small versions of every measurement."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdlib.chapters.benchmark import runs, scaling, steps
from kdlib.chapters.benchmark.rates import products, rate
from kdlib.lab import clock
from kdlib.lab.cost import model_size

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture(autouse=True)
def _bundled(monkeypatch):
    monkeypatch.setattr(runs, "data_name", lambda: runs.BUNDLED)


def small(monkeypatch) -> None:
    """Steps of few images by small networks; banks of few images."""
    monkeypatch.setattr(runs, "PAIRS", {"wrn": ("wrn_16_1", "resnet8"), "resnet": ("resnet8", "resnet8")})
    monkeypatch.setattr(runs, "POOL", 20)
    monkeypatch.setattr(steps, "run_of", lambda pair, **fields: runs.run_of(pair, images=4, **fields))
    monkeypatch.setattr(steps, "alone", lambda student: runs.alone(student, images=4))


def test_a_rate_is_work_per_second_and_goes_on_from_round_to_round(monkeypatch):
    """Each round of three calls takes 2 seconds: 3 times 10 in 2 s."""
    calls, times = [], itertools.count(0, 2)
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    arm = rate(10.0, calls.append, repeats=3)
    assert [arm(0), arm(1)] == [15.0, 15.0]
    assert calls == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("pair", runs.PAIRS)
def test_runs_of_a_pair_differ_only_in_what_is_asked(pair):
    run = runs.run_of(pair, images=8)
    assert (run.teacher.student, run.student) == runs.PAIRS[pair]
    assert run.view_policy().views == 2 and run.images_per_step == 8 and run.pool == runs.POOL
    exact = runs.run_of(pair, images=8, exact=True)
    assert exact.machine.precision == "float32"
    both = [r.model_dump(exclude={"exact", "machine", "teacher"}) for r in (run, exact)]
    assert both[0] == both[1]
    assert runs.run_of(pair, bank=3).bank == 3


def test_operations_of_a_pair_are_those_of_both_networks():
    """Two views, of which the student goes forward and backward (three times forward), the teacher forward."""
    sizes = [model_size(name, 10, 32)[1] for name in runs.PAIRS["wrn"]]
    expected = 2 * 2 * (sizes[0] + 3 * sizes[1]) / 1e9
    assert runs.gigaflops_of_a_pair(runs.run_of("wrn")) == pytest.approx(expected, rel=1e-3)


def test_steps_train_the_student_and_never_the_teacher():
    taking = runs.steps_of(runs.run_of("resnet", images=4))
    before = [p.clone() for p in taking.method.parameters()]
    taking.take(0)
    moved = {n for (n, p), old in zip(taking.method.named_parameters(), before, strict=True) if not torch.equal(p, old)}
    assert moved and all(name.startswith("student") for name in moved)


def test_small_versions_of_all_comparisons(monkeypatch, tmp_path):
    small(monkeypatch)
    monkeypatch.setattr(steps, "_plain_rate", lambda run: 1.0)
    monkeypatch.setattr(steps, "products", lambda name: products(name, size=64))
    monkeypatch.setenv("KDLIB_BANKS", str(tmp_path / "banks"))
    wide, little = steps.wide_steps(1), steps.small_steps(1)
    assert {"plain program", "kdlib", "fixed tensors", "view bank", "student alone", "products", "whole step"} <= set(
        wide
    )
    assert set(little) == {"kdlib", "view bank", "student alone", "folded teacher", "teacher"}
    assert set(steps.augmentation(1, images=8)) == {"kdlib", "PIL"}
    assert all(
        len(rates) == 1 and np.isfinite(rates[0]) and rates[0] > 0 for rates in (*wide.values(), *little.values())
    )
    assert not (tmp_path / "banks").exists()  # those of a teacher of random weights are not kept


def test_the_plain_program_takes_steps(monkeypatch):
    monkeypatch.setattr(steps, "IMAGES", 2)
    assert steps._plain_rate(runs.run_of("resnet")) > 0


def test_growths_cover_what_a_run_is_made_of(monkeypatch):
    monkeypatch.setattr(scaling, "IMAGES", (2, 4))
    monkeypatch.setattr(scaling, "BATCHES", (2, 4))
    monkeypatch.setattr(scaling, "alone", lambda student, policy="jda": runs.alone(student, policy, images=2))
    found = scaling.growths(1)
    assert [g.work for g in found[:3]] == [[2, 4], [1, 2, 4], [2, 4]]
    for growth, names in zip(found[3:], scaling.WIDTHS.values(), strict=True):
        assert growth.work == pytest.approx([model_size(name, 10, 32)[1] / 1e6 for name in names])
    for growth in found:
        assert len(growth.seconds) == len(growth.work) and {len(s) for s in growth.seconds} == {3}
