"""The clock: arms take whole training steps in turn, and a slower arm is seen to be slower."""

import time

import pytest

from kdlib.lab.measurements import TimingSpec
from kdlib.lab.measures import measure
from kdlib.lab.recipe import Machine
from kdlib.lab.runs import load_teacher, missing, needed, run_all
from kdlib.lab.store import Store
from kdlib.methods import METHODS, Definition, NoOptions, Term

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def spec(make_spec, monkeypatch):
    """An arm as it is, and one whose loss sleeps for 50 ms."""

    def slow(batch, options):
        time.sleep(0.05)
        return {"ce": Term(batch.cross_entropy, 1.0)}, {}

    monkeypatch.setitem(METHODS, "slow", Definition(slow, NoOptions, "a test", "x", needs_teacher=False))
    runs = {"plain": make_spec(), "slow": make_spec(method="slow")}
    return TimingSpec(data=runs["plain"].data, runs=runs, steps=5, machine=runs["plain"].machine)


def test_a_slower_arm_is_slower_by_what_it_waits(spec):
    metrics = measure(spec, None, None)["metrics"]
    assert metrics["steps"] == 5
    for name in spec.runs:
        first, third = metrics[f"{name}_quartiles"]
        assert 0 < first <= metrics[f"{name}_seconds"] <= third
    assert metrics["slow_seconds"] >= 0.05


def test_teachers_come_first_and_times_are_no_bits(make_spec, immediate):
    teacher = make_spec()
    student = make_spec(method="kd", teacher=teacher)
    spec = TimingSpec(data=teacher.data, runs={"kd": student}, steps=1, machine=teacher.machine)
    assert needed([spec]) == [teacher, spec]
    (result,) = run_all([spec], "smoke", executor=immediate)
    assert immediate.calls == [teacher, spec]
    assert not missing([spec], Store("smoke"))
    again = measure(spec, load_teacher(student, Store("smoke")))
    assert again["bits"] == result.bits


def test_bad_timings_are_refused(make_spec):
    run = make_spec()
    fields = {"data": run.data, "runs": {"a": run}, "steps": 1, "machine": run.machine}
    other = Machine(device="cpu", precision="float32", threads=2)
    for change in ({"machine": other}, {"data": "cifar100"}):
        with pytest.raises(ValueError, match="runs: 'a' is of another data set or machine"):
            TimingSpec(**(fields | change))
    with pytest.raises(ValueError, match="runs"):
        TimingSpec(**(fields | {"runs": {}}))
