"""Runs of another task: stopped, resumed, taught, stored and read again as any run."""

import sys
from types import ModuleType
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from kdlib.lab import runs, tasks
from kdlib.lab.checkpoints import newest_checkpoint
from kdlib.lab.forecasts import work
from kdlib.lab.learning import Learner, fit
from kdlib.lab.recipe import Machine
from kdlib.lab.results import RESULT, WEIGHTS
from kdlib.lab.runs import execute, missing, needed
from kdlib.lab.stopping import Stop, StoppedError
from kdlib.lab.store import Store, read_result
from kdlib.lab.tasks import TaskSpec
from kdlib.randomness import generator, seeded
from kdlib.study.listing import described

STEPS = 12


class LineSpec(TaskSpec):
    """A line is fitted to points; with a teacher to its line."""

    kind: Literal["line"] = "line"
    data: str = "points"
    teacher: "LineSpec | None" = None
    rate: float = 0.1
    machine: Machine = Machine(device="cpu", precision="float32", threads=1)

    @property
    def macs(self) -> int:
        return 3 * self.views

    @property
    def views(self) -> int:
        return 8 * STEPS


class Line(Learner):
    """Draws its points by seed and step, and drops some of them out as a layer of torch does."""

    def __init__(self, spec: LineSpec, taught: dict[str, Tensor] | None):
        with seeded(spec.seed, "init"):
            self.module = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 1))
        self.spec, self.steps, self.evaluations, self.fingerprint = spec, STEPS, 3, "0" * 16
        self.optimiser = torch.optim.SGD(self.module.parameters(), lr=spec.rate, momentum=0.9)
        self.slope = 2.0 if taught is None else taught["1.weight"].item()

    def step(self, number: int) -> dict[str, Tensor]:
        x = torch.randn(8, 1, generator=generator(self.spec.seed, "points", number))
        with seeded(self.spec.seed, f"dropout {number}"):
            loss = (self.module(x) - self.slope * x).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss, "half": loss / 2}

    def evaluate(self) -> dict[str, float]:
        return {"error": abs(self.module[1].weight.item() - self.slope)}

    def measure(self) -> dict[str, Any]:
        return {"slope": self.module[1].weight.item()}


@pytest.fixture(autouse=True)
def line_task(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("kdlib.elsewhere.line")
    module.SPEC, module.learner = LineSpec, Line
    monkeypatch.setitem(sys.modules, "kdlib.elsewhere.line", module)
    monkeypatch.setattr(tasks, "TASKS", {"line": "line"})
    monkeypatch.setattr("kdlib.lab.results.TASKS", {"line": "line"})


def test_the_result_holds_the_last_evaluation_what_is_measured_and_means(tmp_path) -> None:
    found = fit(LineSpec(seed=0), tmp_path, [None])
    metrics = found["metrics"]
    assert [e["step"] for e in found["evaluations"]] == [4, 8, 12]
    assert metrics["error"] == found["evaluations"][-1]["error"] == abs(metrics["slope"] - 2)
    assert (metrics["steps"], metrics["views"], metrics["macs"]) == (STEPS, 96, 288)
    assert metrics["mean_half"] == pytest.approx(metrics["mean_loss"] / 2)
    assert (tmp_path / WEIGHTS).exists()


@pytest.mark.parametrize("at", [1, 4, 11])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, at: int) -> None:
    spec, request = LineSpec(seed=3), tmp_path / "request"
    whole = fit(spec, tmp_path / "whole", [None])

    def progress(step: int, steps: int) -> None:
        if step == at:
            request.write_text("15")

    with pytest.raises(StoppedError, match=f"stopped at step {at} of {STEPS}"):
        fit(spec, tmp_path / "stopped", [None], progress, Stop(request=request))
    torch.manual_seed(at)  # what torch's own generator does in between does not matter
    seen: list[int] = []
    resumed = fit(spec, tmp_path / "stopped", [None], lambda step, _: seen.append(step))
    assert seen == list(range(at + 1, STEPS + 1))
    assert resumed["bits"] == whole["bits"] and resumed["evaluations"] == whole["evaluations"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path) -> None:
    with pytest.raises(StoppedError):
        fit(LineSpec(seed=0), tmp_path, [None], stop=Stop(until=0.0))
    assert newest_checkpoint(tmp_path, "cpu") is not None
    with pytest.raises(ValueError, match="key of the checkpoint .* delete it to start anew"):
        fit(LineSpec(seed=1), tmp_path, [None])


def test_a_teacher_is_run_first_and_its_weights_are_given(isolated) -> None:
    teacher = LineSpec(seed=0)
    student = LineSpec(seed=1, teacher=teacher)
    store = Store("smoke")
    assert needed([student]) == [teacher, student] == missing([student], store)
    for spec in (teacher, student):
        execute(spec, "smoke")
    found = store.get(student)
    taught = store.get(teacher).metrics["slope"]
    assert found.metrics["error"] == pytest.approx(abs(found.metrics["slope"] - taught), abs=1e-6)
    assert read_result(store.folder(student) / RESULT).spec == student
    assert missing([student], Store("smoke")) == []
    assert described(student) == f"line seed 1, teacher {teacher.key[:6]}"


def test_the_store_refuses_a_result_of_an_unknown_task(isolated, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(LineSpec(seed=0), "smoke")
    monkeypatch.setattr("kdlib.lab.results.TASKS", {})
    with pytest.raises(ValueError, match="does not fit this program .*'line'"):
        Store("smoke").get(LineSpec(seed=0))


def test_a_loss_that_is_not_finite_is_named(tmp_path) -> None:
    said = "the loss is (nan|inf) at step 2; of its parts half is not finite, the network's weights are"
    with pytest.raises(FloatingPointError, match=said):
        fit(LineSpec(seed=0, rate=1e30), tmp_path, [None])


def test_the_machine_is_no_part_of_what_is_asked() -> None:
    other = Machine(device="cpu", precision="float32", threads=2)
    one, two = LineSpec(seed=0), LineSpec(seed=0, machine=other)
    assert one.key != two.key and one.experiment == two.experiment
    assert work(one) > one.macs


def test_a_run_that_cannot_be_made_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch, isolated) -> None:
    def check(self: LineSpec) -> None:
        raise ValueError("points are missing")

    monkeypatch.setattr(LineSpec, "check", check)
    with pytest.raises(ValueError, match="points are missing"):
        runs.run_all([LineSpec(seed=0)], "smoke")
