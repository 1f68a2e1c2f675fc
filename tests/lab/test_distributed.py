"""One run over two processes that torchrun starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdlib.data.sampling import Order
from kdlib.lab import distributed
from kdlib.lab.measurements import TimingSpec
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.lab.train import Task, train

pytestmark = pytest.mark.usefixtures("isolated")

# What two processes do, one part after another: each start of them imports torch twice.
#   train: a spec is trained; each process then says what its gradients were, and its steps.
#   agree: what the second process sees by itself of missing runs is not what the first one sees.
#   timing: a timed step wraps what is trained as training does.
CHILD = """
import hashlib, os, sys
import torch
from pathlib import Path
from kdlib.lab import distributed, runs
from kdlib.lab.measurements import TimingSpec
from kdlib.lab.specs import RunSpec
folder = Path(sys.argv[1])
trained, *others = [RunSpec.model_validate_json(line) for line in (folder / "specs").read_text().splitlines()]

digest, step, steps = hashlib.sha256(), torch.optim.SGD.step, []
def recording(optimiser, *arguments):
    for group in optimiser.param_groups:
        for p in group["params"]:
            digest.update(p.grad.numpy().tobytes())
    return step(optimiser, *arguments)

missing = runs.missing
def partial(specs, store):
    return missing(specs, store) if os.environ["RANK"] == "0" else []

wrapped, parallel = [], distributed.parallel
def wrapping(module):
    wrapped.append(parallel(module))
    return wrapped[-1]

with distributed.process_group("cpu"):
    torch.optim.SGD.step = recording
    runs.execute(trained, "smoke", lambda done, total: steps.append(done))
    torch.optim.SGD.step = step
    Path(folder, f"said{os.environ['RANK']}").write_text(f"{digest.hexdigest()} {steps}")
    runs.missing = partial
    runs.run_all(others, "smoke")
    runs.missing = missing
    distributed.parallel = wrapping
    result = runs.execute(TimingSpec.model_validate_json((folder / "timing.json").read_text()), "smoke")
assert [type(module).__name__ for module in wrapped] == ["DistributedDataParallel"], wrapped
assert result.metrics["arm_seconds"] > 0
"""


def torchrun_command(*arguments: str) -> list[str]:
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    address = ["--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    return [sys.executable, *launch, *address, *arguments]


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = torchrun_command(*arguments)
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=240, check=False)


def errors(done: subprocess.CompletedProcess[str]) -> str:
    """What went wrong in the processes, without torchrun's own report."""
    return "\n".join(
        line
        for line in done.stderr.split("\n")
        if ("Error" in line and "ChildFailed" not in line) or line.startswith("kdlib ")
    )


def test_without_torchrun_there_is_one_process(make_spec):
    assert (distributed.rank(), distributed.world()) == (0, 1)
    distributed.barrier()
    with distributed.process_group("cpu"):
        assert distributed.world() == 1
    module = Task.of(make_spec(), None).method
    assert distributed.parallel(module) is module


def test_processes_share_the_images_of_a_step(make_spec, monkeypatch):
    task = Task.of(make_spec(policy="weak2"), None)
    whole = task.batch(3)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(task.batch(3))
    for name in ("views", "labels", "keys", "index"):
        all_of_it, one, other = (getattr(step, name) for step in (whole, *parts))
        assert all_of_it[0::2].equal(one)
        assert all_of_it[1::2].equal(other)
    assert parts[0].seed != parts[1].seed
    assert isinstance(task.order, Order)


@pytest.fixture(scope="module")
def together(make_spec, tmp_path_factory) -> tuple[Path, list[RunSpec], TimingSpec]:
    """The folder that the two processes left, with the specs of runs and of a timing: see CHILD."""
    folder = tmp_path_factory.mktemp("together")
    specs = [make_spec(seed=seed, recipe={"views_per_image": 2, "evaluations": 1}) for seed in range(3)]
    run = make_spec()
    timing = TimingSpec(data=run.data, runs={"arm": run}, steps=2, machine=run.machine)
    (folder / "specs").write_text("\n".join(spec.model_dump_json() for spec in specs))
    (folder / "timing.json").write_text(timing.model_dump_json())
    (folder / "child.py").write_text(CHILD)
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("KDLIB_RUNS", "KDLIB_RESULTS", "KDLIB_CACHE"):
            patch.setenv(variable, str(folder / variable))
        patch.setenv("OMP_NUM_THREADS", "1")
        done = torchrun(str(folder / "child.py"), str(folder))
    assert done.returncode == 0, errors(done)
    return folder, specs, timing


@pytest.fixture
def left(together, isolated, monkeypatch) -> tuple[Path, list[RunSpec], TimingSpec]:
    """The same, with the store that the processes left."""
    for variable in ("KDLIB_RUNS", "KDLIB_RESULTS"):
        monkeypatch.setenv(variable, str(together[0] / variable))
    return together


def test_two_processes_train_one_run(left, tmp_path):
    folder, (spec, *others), timing = left
    said = [(folder / f"said{rank}").read_text() for rank in range(2)]
    assert said[0] == said[1]  # gradients are averaged: both processes took the same steps
    assert said[0].endswith("[1, 2, 3, 4, 5]")
    stored = sorted(p.parent.name for p in (folder / "KDLIB_RUNS").rglob("result.json"))
    assert stored == sorted(s.key for s in (spec, *others, timing))
    assert sorted(p.name for p in Store("smoke").folder(spec).iterdir()) == ["result.json", "weights.safetensors"]
    shared = Store("smoke").get(spec)
    alone = train(spec, tmp_path / "alone", None)
    assert shared.metrics["steps"] == alone["metrics"]["steps"] == 5
    assert shared.metrics["views"] == alone["metrics"]["views"]


def test_the_first_process_says_what_is_missing(left):
    found = [Store("smoke").get(spec) for spec in left[1][1:]]
    assert all(result.provenance["hardware"].startswith("2 x ") for result in found)


def test_a_timed_step_is_shared_as_in_training(left):
    assert Store("smoke").get(left[2]).provenance["hardware"].startswith("2 x ")


def test_the_command_line_runs_a_study_under_torchrun(isolated, tiny):
    done = torchrun("-m", "kdlib", "run", "00_tour", "--profile", "smoke", "--device", "cpu", "--data", tiny)
    assert done.returncode == 0, errors(done)
    assert len(list((isolated / "runs").rglob("result.json"))) == 5
