"""The training loop: schedule, equal bits, resuming, refusals, and what is measured."""

import itertools
import math
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from kdlib.data.classes import CIFAR100
from kdlib.data.images import load_data
from kdlib.lab import checkpoints, distributed
from kdlib.lab.checkpoints import read_checkpoint
from kdlib.lab.optimisation import rate
from kdlib.lab.recipe import Policy, Public, Recipe
from kdlib.lab.specs import RunSpec
from kdlib.lab.stopping import OutOfTimeError, Stop
from kdlib.lab.task import check_public, check_views
from kdlib.lab.train import Task, train
from kdlib.methods import METHODS
from kdlib.models.network import Network

pytestmark = pytest.mark.usefixtures("isolated")

# Trains the spec in a file, in a folder; says every step on stdout and may wait in one, to be killed there.
CHILD = """
import sys, time
import torch
from pathlib import Path
from kdlib.lab import loop, train
from kdlib.lab.specs import RunSpec
spec, folder, wait_at, seed = RunSpec.model_validate_json(Path(sys.argv[1]).read_text()), *sys.argv[2:]
torch.set_num_threads(1)
torch.manual_seed(int(seed))
loop.CHECKPOINT_SECONDS = 0.0
def progress(step, steps):
    print("step", step, flush=True)
    if step == int(wait_at):
        time.sleep(120)
print("bits", train.train(spec, Path(folder), None, progress)["bits"], flush=True)
"""


class Stopped(KeyboardInterrupt):
    """Someone pressed Ctrl-C."""


def stop_at(step: int):
    def progress(done: int, _: int) -> None:
        if done == step:
            raise Stopped

    return progress


def student(make_spec, method: str, policy: str, **fields) -> RunSpec:
    return make_spec(method=method, policy=policy, teacher=make_spec(seed=7), **fields)


def test_steps_multiply_the_rate_at_each_milestone():
    recipe = Recipe(views_per_step=1, views_per_image=1, learning_rate=0.4, weight_decay=0, schedule="steps",
                    milestones=(0.5, 0.75))  # fmt: skip
    for done, expected in ((0, 0.4), (0.499, 0.4), (0.5, 0.04), (0.74, 0.04), (0.75, 0.004), (0.999, 0.004)):
        assert rate(recipe, done) == pytest.approx(expected)


def test_the_papers_milestones_are_at_its_epochs():
    from kdlib.study.profiles import PAPER_RECIPE

    steps = 50_000 * 480 // 256
    rates = [rate(PAPER_RECIPE, s / steps) for s in range(steps)]
    changes = [s / steps * 240 for s in range(1, steps) if rates[s] != rates[s - 1]]
    assert changes == pytest.approx([150, 180, 210], abs=0.01)
    assert sorted(set(np.round(rates, 9)), reverse=True) == pytest.approx([0.1, 0.01, 0.001, 0.0001])


def test_one_cycle_warms_up_peaks_at_a_fifth_and_ends_near_zero():
    recipe = Recipe(views_per_step=1, views_per_image=1, learning_rate=0.2, weight_decay=0)
    done = np.arange(10_000) / 10_000
    rates = np.array([rate(recipe, d) for d in done])
    peak = rates.argmax()
    assert done[peak] == pytest.approx(0.2, abs=1e-3)
    assert rates.max() == pytest.approx(0.2)
    assert 0 < rates[0] < 0.1 * 0.2
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert 0 < rates[-1] < 1e-6
    assert np.allclose(np.diff(rates[:peak], 2), 0)  # a straight line
    assert rate(recipe, 0.6) == pytest.approx(0.1)  # half-way down the cosine


@pytest.mark.parametrize("schedule", [{"schedule": "one-cycle"}, {"schedule": "steps", "milestones": (0.5,)}])
def test_the_optimiser_gets_the_rate_of_the_schedule(make_spec, tmp_path, monkeypatch, schedule):
    used = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda o, *a: (used.append(o.param_groups[0]["lr"]), step(o, *a))[1])
    spec = make_spec(recipe=schedule)
    train(spec, tmp_path, None)
    assert used == pytest.approx([rate(spec.recipe, s / 10) for s in range(10)])


def test_a_short_run_learns(make_spec, tmp_path):
    spec = make_spec(fraction=1.0, recipe={"views_per_image": 8, "evaluations": 10})
    result = train(spec, tmp_path, None)
    losses = np.array([e["loss"] for e in result["evaluations"]])  # means since the start
    steps = np.array([e["step"] for e in result["evaluations"]])
    parts = np.diff(losses * steps, prepend=0) / np.diff(steps, prepend=0)
    assert parts[0] > 1.8  # ten classes: chance is log(10) = 2.3
    assert parts[-1] < parts[0] - 0.5
    assert result["metrics"]["top1"] > 20  # chance is 10


def test_metrics_are_complete_and_consistent(make_spec, teacher, tmp_path):
    spec = student(make_spec, "ccd", "jda", recipe={"evaluations": 10, "views_per_image": 8})
    result = train(spec, tmp_path, teacher)
    metrics, evaluations = result["metrics"], result["evaluations"]
    test = load_data(spec.data).test
    right = np.unpackbits(np.frombuffer(bytes.fromhex(metrics["correct"]), np.uint8))
    assert right[: len(test)].mean() * 100 == pytest.approx(metrics["top1"])
    assert not right[len(test) :].any()
    assert metrics["images"] == 40
    assert metrics["steps"] == 40 * 8 // 16 == 20
    assert metrics["views"] == metrics["steps"] * spec.recipe.views_per_step
    assert metrics["epochs"] == 4
    assert metrics["distinct_views"] == 8
    assert 1 <= len(evaluations) <= 10
    assert [e["step"] for e in evaluations] == sorted({e["step"] for e in evaluations})
    assert evaluations[-1]["step"] == metrics["steps"]
    assert {k: evaluations[-1][k] for k in ("top1", "top5", "nll", "ece")} == {
        k: metrics[k] for k in ("top1", "top5", "nll", "ece")
    }
    assert metrics["best_top1"] == max(e["top1"] for e in evaluations) >= metrics["top1"]
    for name in ("top1", "top5", "train_top1", "bn_top1", "agreement"):
        assert 0 <= metrics[name] <= 100
    assert metrics["top5"] >= metrics["top1"]
    assert metrics["kl_to_teacher"] >= 0
    assert 0 < metrics["mean_w"] <= 2
    assert metrics["mean_loss"] == pytest.approx(evaluations[-1]["loss"])
    assert metrics["mean_loss"] == pytest.approx(metrics["mean_ce"] + 16 * metrics["mean_ccd"], rel=1e-4)
    assert result["fingerprint"] == load_data(spec.data).train.fingerprint


def test_saved_weights_are_those_that_were_measured(make_spec, tmp_path):
    spec = make_spec()
    result = train(spec, tmp_path, None)
    data = load_data(spec.data)
    task = Task.of(spec, None)
    network = task.method.student
    before = network.backbone.state_dict()
    stored = load_file(tmp_path / "weights.safetensors")
    assert stored.keys() == before.keys()
    network.backbone.load_state_dict(stored)
    with torch.no_grad():
        logits = network.eval()(data.test.images).logits
    assert (logits.argmax(1) == data.test.labels).double().mean().item() * 100 == pytest.approx(
        result["metrics"]["top1"]
    )
    loss = torch.nn.functional.cross_entropy(logits.double(), data.test.labels).item()
    assert loss == pytest.approx(result["metrics"]["nll"], rel=1e-4)


@pytest.mark.parametrize("evaluations", [1, 3, 10])
@pytest.mark.parametrize("views_per_image", [2, 5])
def test_evaluations_are_equally_spaced_and_end_at_the_last_step(make_spec, tmp_path, evaluations, views_per_image):
    recipe = {"evaluations": evaluations, "views_per_image": views_per_image}
    result = train(make_spec(recipe=recipe), tmp_path, None)
    steps = [e["step"] for e in result["evaluations"]]
    assert steps[-1] == result["metrics"]["steps"]
    assert len(steps) == min(evaluations, result["metrics"]["steps"])
    if len(steps) > 1:
        gaps = np.diff([0, *steps])
        assert gaps.max() - gaps.min() <= 1


def test_validation_measures_training_images_that_are_never_trained_on(make_spec, tmp_path):
    spec = make_spec(validation=True, fraction=1.0)
    task = Task.of(spec, None)
    train_images = {image.numpy().tobytes() for image in task.train.images[task.ids]}
    assert not train_images & {image.numpy().tobytes() for image in task.images}
    everything = {image.numpy().tobytes() for image in load_data(spec.data).train.images}
    assert {image.numpy().tobytes() for image in task.images} <= everything
    assert len(task.ids) + len(task.labels) == len(task.train)


def test_the_result_ignores_and_leaves_the_global_generators(make_spec, tmp_path):
    spec = make_spec(policy="jda")
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        found.append(train(spec, tmp_path / str(seed), None)["bits"])
        assert torch.equal(torch.random.get_rng_state(), state)
        assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert found[0] == found[1]


def test_another_seed_gives_other_bits(make_spec, tmp_path):
    assert train(make_spec(), tmp_path / "0", None)["bits"] != train(make_spec(seed=1), tmp_path / "1", None)["bits"]


def test_no_connection_is_opened(make_spec, tmp_path, monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("a run opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    train(make_spec(), tmp_path, None)


HEADS_ONLY = [name for name, definition in METHODS.items() if not definition.trains_student]


@pytest.mark.parametrize("method", HEADS_ONLY)
def test_a_run_that_trains_a_head_leaves_its_backbone_as_it_was(make_spec, teacher, tmp_path, method):
    before = {name: value.clone() for name, value in teacher.backbone.state_dict().items()}
    result = train(student(make_spec, method, "weak1", recipe={"evaluations": 5}), tmp_path, teacher)
    after = load_file(tmp_path / "weights.safetensors")
    assert len(result["evaluations"]) == 5 and before.keys() == after.keys()
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert len({e["nll"] for e in result["evaluations"]}) == 1  # it answers the same all along


@pytest.mark.parametrize(
    ("method", "policy"),
    [("kd", "rot4"), ("ccd", "jda"), ("tekap", "weak1"), ("crld", "crld"), *((name, "weak1") for name in HEADS_ONLY)],
)
def test_interrupted_and_resumed_gives_the_same_bits(make_spec, teacher, tmp_path, monkeypatch, method, policy):
    options = {"weight": "shuffled"} if method == "ccd" else {}
    spec = student(make_spec, method, policy, options=options, recipe={"evaluations": 3})
    whole = train(spec, tmp_path / "whole", teacher)
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    for step in (2, 3, 10):  # before the first evaluation, at it, and after the last step
        with pytest.raises(Stopped):
            train(spec, tmp_path / "parts", teacher, stop_at(step))
    seen = []
    resumed = train(spec, tmp_path / "parts", teacher, lambda done, total: seen.append((done, total)))
    assert seen == []  # nothing is trained twice
    assert resumed["bits"] == whole["bits"]
    assert resumed["metrics"] == whole["metrics"]
    assert resumed["evaluations"] == whole["evaluations"]
    one, other = (load_file(tmp_path / part / "weights.safetensors") for part in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_goes_on_from_the_last_checkpoint(make_spec, tmp_path):
    spec = make_spec()  # no checkpoint but at the evaluations, steps 5 and 10
    with pytest.raises(Stopped):
        train(spec, tmp_path, None, stop_at(7))
    seen = []
    resumed = train(spec, tmp_path, None, lambda done, total: seen.append(done))
    assert seen == [6, 7, 8, 9, 10]
    assert resumed["bits"] == train(spec, tmp_path / "whole", None)["bits"]


def test_killed_and_resumed_in_other_processes_gives_the_same_bits(make_spec, tmp_path):
    spec, run = tmp_path / "spec.json", make_spec(policy="jda")
    spec.write_text(run.model_dump_json())

    def start(folder: str, wait_at: int, seed: int) -> subprocess.Popen:
        command = [sys.executable, "-c", CHILD, str(spec), str(tmp_path / folder), str(wait_at), str(seed)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

    with start("killed", 6, 1) as child:
        for line in child.stdout:
            if line.split() == ["step", "6"]:
                break
        time.sleep(0.1)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "checkpoint.pt").exists()
    with start("killed", -1, 2) as child:
        said = child.communicate(timeout=120)[0].split("\n")
    assert child.returncode == 0
    assert said[0] == "step 7"
    assert said[-2] == f"bits {train(run, tmp_path / 'whole', None)['bits']}"  # whole, in this process


def test_a_checkpoint_of_another_spec_or_of_other_data_is_refused(make_spec, tmp_path, monkeypatch):
    with pytest.raises(Stopped):
        train(make_spec(), tmp_path, None, stop_at(5))
    with pytest.raises(
        ValueError, match=r"^key of the checkpoint .*checkpoint\.pt is \w{16}.*\w{16}: delete"
    ) as refusal:
        train(make_spec(seed=1), tmp_path, None)
    assert "\n" not in str(refusal.value)
    content = read_checkpoint(tmp_path / "checkpoint.pt", "cpu")
    checkpoints.write(content | {"fingerprint": "f" * 16}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"^fingerprint of the checkpoint .* is f{16}.*delete"):
        train(make_spec(), tmp_path, None)


def test_a_failing_checkpoint_leaves_the_last_one(make_spec, tmp_path, monkeypatch):
    with pytest.raises(Stopped):
        train(make_spec(), tmp_path, None, stop_at(5))
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def half(_, path):
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write", half)
        with pytest.raises(OSError, match="no space"):
            train(make_spec(), tmp_path, None)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["checkpoint.pt"]


@pytest.mark.parametrize("limit", [1_000, 300_000])
def test_a_disk_that_fills_up_is_named_and_the_run_goes_on_to_the_same_bits(make_spec, tmp_path, limit):
    """At the first checkpoint, at the second, or at the weights: each is a real failure of what writes it."""
    whole = train(make_spec(), tmp_path / "whole", None)["bits"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(
            OSError, match=r"/run/checkpoint.pt cannot be written \(.*\): make room.*KDLIB_RUNS"
        ) as caught:
            train(make_spec(), tmp_path / "run", None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value) and list((tmp_path / "run").iterdir()) == []
    assert train(make_spec(), tmp_path / "run", None)["bits"] == whole


@pytest.mark.parametrize(
    ("model", "size", "recipe", "said"),
    [
        ("vgg8", 4, {}, r"^student = 'vgg8' cannot take 16 views of 4x4 pixels at once \(.*too small.*\): give larger"),
        ("vgg8", 8, {"views_per_step": 1}, r"cannot take 1 views of 8x8 pixels .*more than 1 value per channel"),
        ("vgg8", 8, {"micro_batches": 16}, r"cannot take 1 views of 8x8 pixels .*more views to each part of a step$"),
    ],
)
def test_images_that_a_network_cannot_read_are_refused(make_spec, tmp_path, model, size, recipe, said):
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(8):
                Image.effect_noise((size, size), 60).convert("RGB").save(tmp_path / split / label / f"{number}.png")
    spec = make_spec(data=f"folder:{tmp_path}", student=model, recipe=recipe)
    with pytest.raises(ValueError, match=said) as caught:
        check_views(spec)
    assert "\n" not in str(caught.value)
    check_views(make_spec(data=spec.data))


def test_a_diverging_run_is_reported(make_spec, tmp_path):
    spec = make_spec(recipe={"learning_rate": 1e30})
    with pytest.raises(
        FloatingPointError, match=rf"^run {spec.key}: the loss is (nan|inf) at step \d+; .*learning_rate"
    ):
        train(spec, tmp_path, None)
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_run_that_diverges_in_its_last_step_is_reported(make_spec, tmp_path, monkeypatch):
    step, count = torch.optim.SGD.step, itertools.count(1)

    def diverge(optimiser, *a):
        step(optimiser, *a)
        if next(count) == 10:  # the loss of the last step was finite, the weights after it are not
            for group in optimiser.param_groups:
                for p in group["params"]:
                    p.data.fill_(math.nan)

    monkeypatch.setattr(torch.optim.SGD, "step", diverge)
    with pytest.raises((FloatingPointError, ValueError)) as refusal:
        train(make_spec(), tmp_path, None)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "weights.safetensors").exists()


def test_too_few_views_for_a_step_are_refused(make_spec, tmp_path):
    with pytest.raises(ValueError, match=r"views_per_image = 1 makes no step: 40 images need at least 2$"):
        train(make_spec(recipe={"views_per_step": 64, "views_per_image": 1}), tmp_path, None)
    with pytest.raises(ValueError, match=r"pool = 1000 is larger than the 140 images"):
        train(make_spec(pool=1000), tmp_path, None)


def test_a_teacher_of_other_classes_is_refused(make_spec, tmp_path):
    from kdlib.models import create_model

    other = Network(create_model("resnet8", 7), (0.5,) * 3, (0.5,) * 3).eval()
    with pytest.raises(ValueError, match=r"teacher has 7 classes, data .* has 10"):
        train(student(make_spec, "kd", "weak2"), tmp_path, other)


def test_a_public_teacher_of_other_classes_is_refused(make_spec):
    """As many as it has, but not those it was trained on: it would be silently wrong about each image."""
    spec = make_spec(method="kd", teacher=Public(checkpoint="cifar100_resnet20"))
    check_public(spec, CIFAR100)
    with pytest.raises(
        ValueError, match=r"^teacher cifar100_resnet20 does not know the classes of .* such as 'worm' as"
    ):
        check_public(spec, CIFAR100[::-1])
    check_public(make_spec(method="ce"), CIFAR100[::-1])


def test_the_teacher_is_not_changed(make_spec, teacher, tmp_path):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    train(student(make_spec, "kd", "jda"), tmp_path, teacher)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert not teacher.training


def test_arms_of_one_seed_share_weights_subset_order_and_crops(make_spec, teacher):
    arms = [student(make_spec, m, p) for m, p in (("kd", "weak1"), ("kd", "weak2"), ("ccd", "jda"), ("kd", "rot4"))]
    tasks = [Task.of(spec, teacher) for spec in arms]
    first = tasks[0].method.student.state_dict()
    streams, crops = [], []
    for task in tasks:
        assert all(torch.equal(first[n], v) for n, v in task.method.student.state_dict().items())
        assert torch.equal(task.ids, tasks[0].ids)
        parts = [task.order.at(step) for step in range(task.steps)]
        streams.append(list(zip(*(torch.cat(p).tolist() for p in zip(*parts, strict=True)), strict=True)))
        original = [task.batch(step)[0][:, 0] for step in range(task.steps)]
        crops.append(torch.cat(original))
    for task, stream, crop in zip(tasks, streams, crops, strict=True):
        assert len(stream) == task.steps * 16 // task.policy.views
        shared = len(stream)
        assert stream == streams[0][:shared]
        assert torch.equal(crop, crops[0][:shared])
    assert len({task.steps for task in tasks}) == 1


def test_other_seeds_have_other_weights_and_subsets(make_spec):
    one, other = (Task.of(make_spec(seed=seed), None) for seed in (0, 1))
    assert not torch.equal(one.ids, other.ids)
    a, b = one.method.student.state_dict(), other.method.student.state_dict()
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_batches_hold_the_views_of_the_images_they_name(make_spec):
    task = Task.of(make_spec(policy="weak2"), None)
    step = task.batch(3)
    views, labels, keys = step.views, step.labels, step.keys
    ids, _ = task.order.at(3)
    assert torch.equal(task.ids[step.index], ids)
    assert (step.epochs, step.shares, step.partners) == (task.epochs, None, None)
    assert views.shape == (8, 2, 3, 32, 32)
    assert views.dtype == torch.uint8
    assert torch.equal(labels, task.train.labels[ids])
    assert keys.shape == (8,)
    assert set(ids.tolist()) <= set(task.ids.tolist())


def test_weak_views_are_not_views_of_training(make_spec):
    task = Task.of(make_spec(policy="weak1"), None)
    views, labels = task.weak_views()
    assert views.shape == (40, 3, 32, 32)
    assert torch.equal(labels, task.train.labels[task.ids])
    seen = {v.numpy().tobytes() for s in range(task.steps) for v in task.batch(s)[0][:, 0].contiguous()}
    fresh = [v.contiguous().numpy().tobytes() in seen for v in views]
    # A crop and flip out of 81 * 2 is met again in 4 epochs with probability about 2.5 % per image (more for plain
    # images): 20 of 40 by chance has a probability below 1e-6 even at 15 %.
    assert sum(fresh) < 20


def test_policies_of_a_spec_are_used(make_spec, tmp_path):
    none = make_spec(policy="weak2")
    zero = none.model_copy(update={"policy": Policy(name="jda", options={"p": 0.0})})
    assert none.key != zero.key
    one, other = train(none, tmp_path / "weak2", None), train(zero, tmp_path / "zero", None)
    assert one["bits"] == other["bits"]  # JDA with p = 0 is two plain crops
    full = train(make_spec(policy="jda"), tmp_path / "jda", None)
    assert full["bits"] != one["bits"]


def test_crd_moves_exactly_the_rows_of_the_images_that_it_has_seen(make_spec, teacher, tmp_path):
    """Two steps of eight images out of forty; the banks are read from the last checkpoint."""
    spec = student(make_spec, "crd", "weak2", options={"negatives": 8}, recipe={"views_per_image": 1})
    task = Task.of(spec, teacher)
    before = {name: getattr(task.method.memory, name).clone() for name in ("student_bank", "teacher_bank")}
    visited = torch.cat([task.batch(step).index for step in range(2)]).sort().values
    assert len(visited.unique()) == 16
    assert train(spec, tmp_path, teacher)["metrics"]["steps"] == 2
    stored = read_checkpoint(tmp_path / "checkpoint.pt", "cpu")["method"]
    for name, bank in before.items():
        now = stored[f"memory.{name}"]
        assert torch.equal((now != bank).any(1).nonzero().squeeze(1), visited)
        torch.testing.assert_close(now[visited].norm(dim=1), torch.ones(16))


OFF = {"lipschitz_weight": 0.0, "consistency_weight": 0.0}


def test_soteacher_without_its_terms_is_the_plain_teacher_bit_for_bit(make_spec, tmp_path):
    plain = train(make_spec(policy="jda"), tmp_path / "plain", None)
    off = train(make_spec(policy="jda", method="soteacher", options=OFF), tmp_path / "off", None)
    assert (off["bits"], off["metrics"]) == (plain["bits"], plain["metrics"])
    for term in ("lipschitz", "consistency"):
        options = OFF | {f"{term}_weight": 0.1}
        on = train(make_spec(policy="jda", method="soteacher", options=options), tmp_path / term, None)
        assert on["bits"] != plain["bits"] and on["metrics"][f"mean_{term}"] > 0


@pytest.mark.parametrize("counter", ["released", "mean"])
def test_a_resumed_soteacher_remembers_what_was_said_before(make_spec, tmp_path, monkeypatch, counter):
    """40 images and 8 in a step: the last of three stops lies in the second epoch, where the memory is read."""
    spec = make_spec(policy="jda", method="soteacher", options={"counter": counter}, recipe={"views_per_image": 6})
    whole = train(spec, tmp_path / "whole", None)
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    for step in (2, 3, 8):
        with pytest.raises(Stopped):
            train(spec, tmp_path / "parts", None, stop_at(step))
    stored = read_checkpoint(tmp_path / "parts" / "checkpoint.pt", "cpu")["method"]
    epochs = stored["memory.epochs_bank"]
    assert epochs.sum() == 8 * 8 and set(epochs.tolist()) == {1, 2}
    torch.testing.assert_close(stored["memory.answers_bank"].sum(1), torch.ones(40))
    resumed = train(spec, tmp_path / "parts", None)
    assert (resumed["bits"], resumed["metrics"]) == (whole["bits"], whole["metrics"])


def test_the_epoch_counts_the_passes_over_the_images_from_one(make_spec):
    """The first image of a step has been seen once in each epoch before."""
    task = Task.of(make_spec(recipe={"views_per_image": 5}), None)
    assert task.batch(0).epoch == 1
    ids = torch.cat([task.order.at(step)[0] for step in range(task.steps)])
    firsts = range(0, len(ids), 16)
    assert [task.batch(step).epoch for step in range(task.steps)] == [
        1 + (ids[:first] == ids[first]).sum().item() for first in firsts
    ]
    assert {task.batch(step).epoch for step in range(task.steps)} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("fields", [{"validation": True, "fraction": 1.0}, {"validation": True}, {"pool": 60}])
def test_partners_are_training_images_of_the_run(make_spec, fields):
    """Told apart by pixels and labels that say which image it is: image i is plain, of value and of label i + 1."""
    task = Task.of(make_spec(policy="cutmix", **fields), None)
    names = torch.arange(1, len(task.train) + 1)
    plain = names.to(torch.uint8)[:, None, None, None].expand_as(task.pixels).contiguous()
    task = replace(task, pixels=plain, targets=names)
    allowed, seen, strangers = set((task.ids + 1).tolist()), set(), 0
    for number in range(task.steps):
        step = task.batch(number)
        for views, own, partner in zip(step.views, step.labels.tolist(), step.partners.tolist(), strict=True):
            original, mixed = (set(view.unique().tolist()) - {0} for view in views)  # the border is black
            assert original == {own} and own in allowed
            assert mixed <= {own, partner} and partner in allowed
            seen |= mixed - {own}
            strangers += partner not in step.labels
    assert len(seen) > len(allowed) / 2
    assert strangers > task.steps * 8 / 2  # most are not of the same batch


def test_a_checkpoint_of_another_number_of_processes_is_refused(make_spec, tmp_path, monkeypatch):
    with pytest.raises(Stopped):
        train(make_spec(), tmp_path, None, stop_at(7))
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(ValueError, match=r"processes of the checkpoint .* is 1, the run's is 2: delete it"):
        train(make_spec(), tmp_path, None)


@pytest.mark.parametrize(("processes", "parts", "fits"), [(2, 2, True), (4, 2, False), (1, 8, True), (3, 1, False)])
def test_processes_and_parts_share_a_step_equally_or_not_at_all(make_spec, monkeypatch, processes, parts, fits):
    monkeypatch.setattr(distributed, "world", lambda: processes)
    spec = make_spec(policy="weak2", recipe={"views_per_step": 24 if parts == 2 else 16, "micro_batches": parts})
    if fits:
        assert spec.images_per_step % (processes * parts) == 0
        Task.of(spec, None)
        return
    with pytest.raises(ValueError, match=f"{processes} processes.* cannot share them equally"):
        Task.of(spec, None)


def test_out_of_time_leaves_a_checkpoint_that_goes_on_to_the_same_bits(make_spec, tmp_path):
    spec, seen = make_spec(), []
    whole = train(spec, tmp_path / "whole", None)

    def look(done, total):
        seen.append(done)

    for steps in ([1], [1, 2]):  # one step each: the time is over when it ends
        with pytest.raises(OutOfTimeError, match=rf"^run {spec.key} stopped at step {len(steps)} of 10$"):
            train(spec, tmp_path / "parts", None, look, Stop(time.time()))
        assert seen == steps
    resumed = train(spec, tmp_path / "parts", None, look, Stop(time.time() + 600))
    assert seen == list(range(1, 11))
    assert (resumed["bits"], resumed["evaluations"]) == (whole["bits"], whole["evaluations"])


def test_a_run_whose_last_step_is_done_ends_whatever_the_time(make_spec, tmp_path):
    spec = make_spec()
    whole = train(spec, tmp_path / "whole", None)
    with pytest.raises(Stopped):
        train(spec, tmp_path / "parts", None, stop_at(10))  # after the evaluation and the checkpoint of the last step
    assert train(spec, tmp_path / "parts", None, stop=Stop(0.0))["bits"] == whole["bits"]
