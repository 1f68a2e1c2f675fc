"""Two processes that share a run: they take the steps of one, and go on after one of them is killed."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kdlib.lab.runs import execute
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.methods import Step
from tests.lab import together
from tests.lab.test_distributed import torchrun_command

pytestmark = pytest.mark.usefixtures("isolated")
ROOT = Path(__file__).resolve().parents[2]
ROUNDING = 1e-4  # of weights of the order of 0.1; what is wrong shows as 1e-2


@pytest.fixture(scope="module")
def plain(make_spec) -> list[RunSpec]:
    """Runs that are compared where no image sees the others of its batch."""
    teacher = make_spec()
    methods = {"kd": "jda", "ccd": "jda", "ce": "weak2"}
    taught = [make_spec(method=m, policy=p, teacher=teacher if m != "ce" else None) for m, p in methods.items()]
    return [teacher, *taught, make_spec(seed=1, recipe={"clip_norm": 0.05, "micro_batches": 2})]


@pytest.fixture(scope="module")
def shared(make_spec, plain, tmp_path_factory) -> Path:
    """The store of two processes that share a run with BatchNorm as it is, and then those without its statistics."""
    folder = tmp_path_factory.mktemp("shared")
    texts = [[spec.model_dump_json() for spec in specs] for specs in ([normal(make_spec)], plain)]
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("KDLIB_RUNS", "KDLIB_RESULTS", "KDLIB_CACHE"):
            patch.setenv(variable, str(folder / variable))
        assert together.end(together.start(together.train_all, *texts)) == [0, 0]
    return folder / "KDLIB_RUNS"


def normal(make_spec) -> RunSpec:
    return make_spec(seed=3)


@pytest.fixture
def both(shared, monkeypatch) -> Store:
    """That store."""
    with monkeypatch.context() as patch:
        patch.setenv("KDLIB_RUNS", str(shared))
        return Store("smoke")


def weights(store: Store, spec: RunSpec) -> dict[str, torch.Tensor]:
    return load_file(store.folder(spec) / "weights.safetensors")


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of two networks' parameters; running statistics are not among them."""
    names = [name for name in one if "running" not in name and "batches" not in name]
    assert one.keys() == other.keys() and names
    return max((one[name] - other[name]).abs().max().item() for name in names)


# --- what two processes compute


def test_two_processes_take_the_steps_of_one(plain, both, monkeypatch):
    """Weights and every recorded number, the mean loss among them."""
    monkeypatch.setattr(nn.BatchNorm2d, "forward", together.affine)
    for spec in plain:
        alone, shared = execute(spec, "smoke"), both.get(spec)
        assert farthest(weights(Store("smoke"), spec), weights(both, spec)) < ROUNDING
        means = {name for name in alone.metrics if name.startswith("mean_")}
        assert means >= {"mean_loss"} | ({"mean_w"} if spec.method == "ccd" else set())
        for name in ("steps", "views", "images", "nll", *means):
            assert shared.metrics[name] == pytest.approx(alone.metrics[name], rel=1e-4), (spec.method, name)
        assert [e["loss"] for e in shared.evaluations] == pytest.approx(
            [e["loss"] for e in alone.evaluations], rel=1e-4
        )


def split_by_rank(step: Step, parts: int) -> list[Step]:
    """As processes split it: one image after another goes to the next of them."""
    tensors = {name: value for name, value in step._asdict().items() if isinstance(value, torch.Tensor)}
    return [step._replace(**{name: value[i::parts] for name, value in tensors.items()}) for i in range(parts)]


def test_batch_norm_sees_the_part_of_its_process(make_spec, both, monkeypatch):
    """So two processes are one whose steps come in two parts, and not one whose steps come whole."""
    spec = normal(make_spec)
    parts = make_spec(seed=3, recipe={"micro_batches": 2})
    execute(spec, "smoke")
    with monkeypatch.context() as patch:
        patch.setattr(Step, "split", split_by_rank)
        in_parts = execute(parts, "smoke")
    alone = Store("smoke")
    assert farthest(weights(both, spec), weights(alone, parts)) < ROUNDING
    assert farthest(weights(both, spec), weights(alone, spec)) > 10 * ROUNDING
    assert both.get(spec).metrics["mean_loss"] == pytest.approx(in_parts.metrics["mean_loss"], rel=1e-4)


# --- a process that dies


def test_a_run_goes_on_after_each_of_its_processes_was_killed(make_spec, both, isolated, tried):
    """To the bits of two that nothing stops; one process alone does not go on from what two have left."""
    spec, text, folders = normal(make_spec), normal(make_spec).model_dump_json(), [isolated / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    for rank, moment, folder in ((1, 4, folders[0]), (0, 3, folders[1])):
        codes = together.end(together.start(together.train_slowly, text, folder, {rank: moment}))
        assert codes[rank] == -signal.SIGKILL and codes[1 - rank] not in (0, None), "the other one cannot go on alone"
        assert Store("smoke").get(spec) is None and Store("smoke").is_begun(spec)
    with pytest.raises(ValueError, match=r"^processes of the checkpoint .* is 2, the run's is 1: delete it"):
        execute(spec, "smoke")
    assert together.end(together.start(together.train_slowly, text, folders[2], {})) == [0, 0]
    resumed, whole = Store("smoke").get(spec), both.get(spec)
    assert [together.taken(folders[2] / f"steps{rank}") for rank in (0, 1)] == [whole.metrics["steps"] - 7] * 2
    assert resumed.model_dump(exclude={"provenance"}) == whole.model_dump(exclude={"provenance"})
    tried("kills", "one of two processes of torchrun", same_bits=2)


@pytest.mark.slow
@pytest.mark.parametrize("rank", range(together.WORLD))
def test_torchrun_ends_with_a_process_that_is_killed_and_goes_on_when_started_again(
    make_spec, isolated, monkeypatch, tried, rank
):
    """A real torchrun, and a process that is killed from outside, at no chosen moment."""
    spec, file = make_spec(recipe={"views_per_image": 40}), isolated / "spec"
    file.write_text(spec.model_dump_json())
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def begun(store: str) -> tuple[subprocess.Popen[str], Path]:
        folder = isolated / f"notes {len(list(isolated.iterdir()))}"
        folder.mkdir()
        command = torchrun_command("-m", "tests.lab.together", str(file), str(folder))
        given = os.environ | {"KDLIB_RUNS": str(isolated / store)}
        return subprocess.Popen(command, env=given, stderr=subprocess.PIPE, text=True), folder

    process, folder = begun("stopped")
    while together.taken(folder / f"steps{rank}") < 20:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    os.kill(int((folder / f"id{rank}").read_text()), signal.SIGKILL)
    said = process.communicate(timeout=240)[1]
    assert process.returncode != 0 and "SIGKILL" in said
    whole, _ = begun("whole")
    again, folder = begun("stopped")
    for process in (whole, again):
        assert process.wait(240) == 0, process.communicate()[1]
    steps = {together.taken(folder / f"steps{r}") for r in (0, 1)}
    assert max(steps) <= 100 - 19 and len(steps) == 1, "it goes on from where it was"
    results = []
    for store in ("stopped", "whole"):
        monkeypatch.setenv("KDLIB_RUNS", str(isolated / store))
        results.append(Store("smoke").get(spec).model_dump(exclude={"provenance"}))
    assert results[0] == results[1]
    tried("kills", "one of two processes of torchrun", same_bits=1)
