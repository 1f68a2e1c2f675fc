"""One run over two processes that torchrun starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdlib import distributed
from kdlib.measurements import TimingSpec
from kdlib.sampling import Order
from kdlib.store import Store
from kdlib.train import Task, train

pytestmark = pytest.mark.usefixtures("isolated")

# Trains a spec; each process then says what its weights and its gradients were.
CHILD = """
import hashlib, os, sys
import torch
from pathlib import Path
from kdlib import train
from kdlib.runs import execute
from kdlib.specs import RunSpec
spec = RunSpec.model_validate_json(Path(sys.argv[1]).read_text())
digest, step = hashlib.sha256(), torch.optim.SGD.step
def recording(optimiser, *arguments):
    for group in optimiser.param_groups:
        for p in group["params"]:
            digest.update(p.grad.numpy().tobytes())
    return step(optimiser, *arguments)
torch.optim.SGD.step = recording
steps = []
result = execute(spec, "smoke", lambda done, total: steps.append(done))
Path(sys.argv[2], os.environ["RANK"]).write_text(f"{digest.hexdigest()} {steps}")
"""


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    address = ["--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    command = [sys.executable, *launch, *address, *arguments]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=240, check=False)


def run_child(folder: Path, script: str, *arguments: str) -> None:
    """The script in two processes, which must end well."""
    (folder / "child.py").write_text(script)
    done = torchrun(str(folder / "child.py"), *arguments)
    assert done.returncode == 0, errors(done)


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


def test_two_processes_train_one_run(make_spec, isolated, tmp_path):
    spec = make_spec(recipe={"views_per_image": 2, "evaluations": 1})
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    (tmp_path / "said").mkdir()
    run_child(tmp_path, CHILD, str(tmp_path / "spec.json"), str(tmp_path / "said"))
    said = [Path(tmp_path / "said" / str(rank)).read_text() for rank in range(2)]
    assert said[0] == said[1]  # gradients are averaged: both processes took the same steps
    assert said[0].endswith("[1, 2, 3, 4, 5]")
    assert [p.parent.name for p in (isolated / "runs").rglob("result.json")] == [spec.key]
    assert sorted(p.name for p in Store("smoke").folder(spec).iterdir()) == ["result.json", "weights.safetensors"]
    shared = Store("smoke").get(spec)
    alone = train(spec, tmp_path / "alone", None)
    assert shared.metrics["steps"] == alone["metrics"]["steps"] == 5
    assert shared.metrics["views"] == alone["metrics"]["views"]


AGREEING = """
import os, sys
from pathlib import Path
from kdlib import runs
from kdlib.specs import RunSpec
specs = [RunSpec.model_validate_json(line) for line in Path(sys.argv[1]).read_text().splitlines()]
if os.environ["RANK"] == "1":  # what this process sees by itself is not what the first one sees
    runs.missing = lambda specs, store: []
runs.run_all(specs, "smoke")
"""


def test_the_first_process_says_what_is_missing(make_spec, isolated, tmp_path):
    specs = [make_spec(seed=seed, recipe={"views_per_image": 2, "evaluations": 1}) for seed in range(2)]
    (tmp_path / "specs").write_text("\n".join(spec.model_dump_json() for spec in specs))
    run_child(tmp_path, AGREEING, str(tmp_path / "specs"))
    found = [Store("smoke").get(spec) for spec in specs]
    assert all(result.provenance["hardware"].startswith("2 x ") for result in found)


TIMING = """
import sys
from pathlib import Path
from kdlib import distributed
from kdlib.measurements import TimingSpec
from kdlib.runs import execute
wrapped = []
parallel = distributed.parallel
distributed.parallel = lambda module: wrapped.append(parallel(module)) or wrapped[-1]
result = execute(TimingSpec.model_validate_json(Path(sys.argv[1]).read_text()), "smoke")
assert [type(module).__name__ for module in wrapped] == ["DistributedDataParallel"], wrapped
assert result.metrics["arm_seconds"] > 0
"""


def test_a_timed_step_is_shared_as_in_training(make_spec, isolated, tmp_path):
    run = make_spec()
    spec = TimingSpec(data=run.data, runs={"arm": run}, steps=2, machine=run.machine)
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    run_child(tmp_path, TIMING, str(tmp_path / "spec.json"))
    assert Store("smoke").get(spec).provenance["hardware"].startswith("2 x ")


def test_the_command_line_runs_a_study_under_torchrun(isolated, tiny):
    done = torchrun("-m", "kdlib", "run", "00_tour", "--profile", "smoke", "--device", "cpu", "--data", tiny)
    assert done.returncode == 0, errors(done)
    assert len(list((isolated / "runs").rglob("result.json"))) == 5
