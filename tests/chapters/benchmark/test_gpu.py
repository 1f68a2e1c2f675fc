"""The benchmark of a GPU, tried on a CPU with small steps; and what its program says where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdlib.chapters.benchmark import gpu, runs
from kdlib.data.images import BUNDLED

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.usefixtures("isolated")


def test_everything_that_is_compared_is_measured(monkeypatch):
    small = {
        "IMAGES": 4,
        "VIEWS": 8,
        "WORKERS": 1,
        "SIDE": 128,
        "PAIRS": {"small": "ResNet-20 to ResNet-8"},
        "SEEDS": 2,
    }
    for name, value in small.items():
        monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr(runs, "data_name", lambda: BUNDLED)  # which is read faster
    shares = []
    found = gpu.measure("cpu", rounds=2, steps=1, tell=shares.append)
    compared = [f"small {name}" for name in gpu.COMPARED]
    stacked = ["small stacked", "small stacked captured", "small both"]
    assert [c.name for c in found] == ["views", *compared, *stacked] and shares == [1.0]
    together, both, mixed = found[-3:]
    assert list(together.rates) == ["2 seeds together", "one alone"] and together.target == 4
    assert list(both.rates) == ["2 seeds together, captured", "one alone, captured"]
    assert list(mixed.rates) == ["2 seeds together, captured", "one alone"]
    assert all(len(values) == 2 and min(values) > 0 for c in found for values in c.rates.values())
    bare, products = found[1], found[3]
    assert products.rates["whole step"][0] / bare.rates["kdlib"][0] == pytest.approx(
        2e-9 * (3 * 2 * 12.5e6 + 2 * 40.8e6), rel=0.05
    )  # a pair is two views: forward and backward of ResNet-8, forward of ResNet-20
    views, first, *_ = gpu.lines(found)
    assert views.startswith("JDA: ") and "ResNet-20 to ResNet-8: whole step, against one on fixed tensors" in first
    assert ", target 0.85" in first and "pairs/s)" in first
    assert "ResNet-20 to ResNet-8: step captured as a graph, against one that is not: " in "".join(gpu.lines(found))


def test_captured_steps_are_left_out_where_they_failed(monkeypatch):
    monkeypatch.setattr(gpu, "PAIRS", {"small": "ResNet-20 to ResNet-8"})
    monkeypatch.setattr(gpu, "_views", lambda device: lambda number: 1.0)
    given = {"kdlib": [2.0], "plain program": [1.0], "fixed tensors": [2.0], "products": [1.0], "whole step": [1.0]}
    monkeypatch.setattr(gpu, "_rates", lambda run, rounds, steps, graphs: given)
    monkeypatch.setattr(gpu, "_stacked", lambda device, rounds, steps, graphs: [graphs])
    found = gpu.measure("cpu", rounds=1, graphs=False)
    assert [c.name for c in found[:-1]] == ["views", "small bare", "small plain", "small products"] and not found[-1]


def test_the_plain_programs_products_are_its_own():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with pytest.raises(RuntimeError, match="inside"), gpu.tf32():
        assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
        raise RuntimeError("inside")
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_program_says_so_in_one_sentence(isolated):
    environment = {name: value for name, value in os.environ.items() if name != "KDLIB_CHECKED_DEVICE"}
    command = [sys.executable, str(ROOT / "tests" / "cuda" / "gpu.py")]
    done = subprocess.run(command, cwd=isolated, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "torch sees no GPU here: nothing was checked or measured\n"
    assert not list(isolated.rglob("gpu.json"))
