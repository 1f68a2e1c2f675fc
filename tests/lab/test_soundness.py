"""Numbers that are not finite: whose they are, and since when."""

import math
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdlib.lab import optimisation, soundness
from kdlib.lab.checkpoints import read_checkpoint
from kdlib.lab.runs import execute
from kdlib.lab.store import Store
from kdlib.lab.task import Task
from kdlib.lab.train import train
from kdlib.methods import Term

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def kd(make_spec):
    return make_spec(method="kd", policy="weak2", teacher=make_spec(seed=7))


def one_sentence(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_stored_teacher_that_is_not_finite_is_refused_before_training(make_spec, kd, value):
    execute(kd.teacher, "smoke")
    path = Store("smoke").folder(kd.teacher) / "weights.safetensors"
    weights = load_file(path)
    weights["layer1.0.conv1.weight"] = weights["layer1.0.conv1.weight"].clone()
    weights["layer1.0.conv1.weight"].view(-1)[5] = value
    save_file(weights, path)
    with pytest.raises(
        ValueError, match=rf"^teacher {kd.teacher.key} in .* not finite \(layer1.0.conv1.weight\)"
    ) as caught:
        execute(kd, "smoke")
    assert "learning_rate" not in one_sentence(caught.value)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda net: net.fc.bias.fill_(math.inf), r"weights are not finite \(.*fc.bias\)"),
        (
            lambda net: net.fc.weight.fill_(3e38),
            r"logits are not finite \((-inf, )?inf\)|logits are not finite \(.*nan",
        ),
    ],
    ids=["weights", "logits"],
)
def test_a_teacher_that_is_not_finite_is_blamed_at_the_first_step(kd, teacher, tmp_path, change, fault):
    with torch.no_grad():
        change(teacher.backbone)
    seen = []
    with pytest.raises(
        ValueError, match=rf"^run {kd.key}: the loss is \S+ at step 1 because the teacher's ({fault})"
    ) as caught:
        train(kd, tmp_path, teacher, lambda done, total: seen.append(done))
    assert "learning_rate" not in one_sentence(caught.value) and seen == []
    assert not (tmp_path / "weights.safetensors").exists()


def spoil(monkeypatch, step: int, name: str, value: float) -> None:
    """The term `name` of a step 1, 2, ... is `value`: its gradient spoils the student too."""
    original, count = optimisation.total, [0]

    def total(terms):
        count[0] += 1
        if count[0] == step:
            terms[name] = Term(terms[name].value * value, terms[name].weight)
        return original(terms)

    monkeypatch.setattr(optimisation, "total", total)


@pytest.mark.parametrize("step", [2, 5, 7, 9])
@pytest.mark.parametrize("name", ["ce", "kl"])
def test_the_step_and_the_term_are_named(kd, teacher, tmp_path, monkeypatch, step, name):
    """Of ten steps, and evaluations after the fifth and the tenth."""
    spoil(monkeypatch, step, name, math.nan)
    with pytest.raises(FloatingPointError) as caught:
        train(kd, tmp_path, teacher)
    assert re.fullmatch(
        rf"run {kd.key}: the loss is nan at step {step}; of its parts {name} is not finite, the student's weights are "
        r"not finite now \(\S+ and \d+ more\), the teacher's weights and logits are finite; try a smaller "
        r"learning_rate",
        one_sentence(caught.value),
    )


def test_the_first_step_is_not_blamed_on_the_learning_rate(make_spec, tmp_path, monkeypatch):
    spoil(monkeypatch, 1, "ce", math.inf)
    with pytest.raises(
        FloatingPointError, match="is inf at step 1; of its parts ce is not finite, .* images and options$"
    ) as caught:
        train(make_spec(), tmp_path, None)
    assert "teacher" not in one_sentence(caught.value)


def test_nothing_spoilt_reaches_a_checkpoint(make_spec, tmp_path, monkeypatch):
    spoil(monkeypatch, 7, "ce", math.nan)
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(FloatingPointError, match="at step 7"):
        train(make_spec(), tmp_path, None)
    state = read_checkpoint(tmp_path / "checkpoint.pt", "cpu")["state"]
    assert state["step"] == 6 and all(value.isfinite() for value in state["sums"].values())


def test_a_watch_looks_when_it_is_full(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(soundness, "ROWS", 2)
    spoil(monkeypatch, 2, "ce", math.nan)
    seen = []
    with pytest.raises(FloatingPointError, match="at step 2;"):
        train(make_spec(recipe={"evaluations": 1}), tmp_path, None, lambda done, total: seen.append(done))
    assert max(seen) < 4


def test_sound_runs_forget_their_steps(make_spec):
    task, watch = Task.of(make_spec(), None), soundness.Watch()
    soundness.check(watch, task)
    for step in range(1, 4):
        watch.see(step, {"loss": torch.tensor(1.0, requires_grad=True)})
    assert not watch.rows[0][1]["loss"].requires_grad
    soundness.check(watch, task)
    assert watch.rows == []
