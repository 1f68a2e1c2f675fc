"""What the benchmark says: ratios, targets met or not, JSON that reads back; every comparison runs."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from kdlib import bench
from kdlib.bench import report


def rates(value: float) -> dict[str, float]:
    return {"median": value, "first_quartile": value - 1, "third_quartile": value + 1}


FOUND = {
    "ratios": [
        report._ratio("fast against slow", {"fast": rates(30.0), "slow": rates(10.0)}, "fast", "slow", 2.5),
        report._ratio("slow against fast", {"fast": rates(30.0), "slow": rates(10.0)}, "slow", "fast", 2.5),
        {"name": "memory", "arms": {"used": 900.0}, "ratio": 0.9, "target": 1.5, "higher": False},
    ]
}


def test_the_table_says_what_is_met():
    table = report.table(FOUND)
    assert table.measured.tolist() == ["3.00", "0.33", "0.90"]
    assert table.met.tolist() == ["yes", "no", "yes"]
    assert table.target.tolist() == ["at least 2.5", "at least 2.5", "at most 1.5"]
    assert table.rates.iloc[0] == "fast 30 (29 to 31); slow 10 (9 to 11)"


def test_the_file_reads_back(tmp_path):
    report.write(FOUND, tmp_path / "benchmark.json")
    assert json.loads((tmp_path / "benchmark.json").read_text()) == FOUND


def test_arms_take_turns_and_the_first_round_is_not_counted():
    calls = []
    arms = {name: lambda name=name: calls.append(name) or float(len(calls)) for name in "ab"}
    found = bench.in_turn(arms, rounds=3)
    assert calls == list("abababab")
    assert found["a"]["median"] == 5.0 and found["b"]["median"] == 6.0  # of 3, 5, 7 and of 4, 6, 8


@pytest.mark.usefixtures("isolated")
def test_the_small_comparisons_run(monkeypatch):
    monkeypatch.setattr(bench, "data_name", lambda: bench.BUNDLED)
    assert set(bench.augmentation(1, images=8)) == {"kdlib", "PIL"}
    assert set(bench.matrix_products(1, size=64)) == {"float32", "bfloat16"}
    assert set(bench.batch_sizes(1, sizes=(16, 32))) == {"16", "32"}
    run = bench.run_of("resnet", images=4)
    steps = bench.steps_of(run)
    steps.take(0)
    assert run.view_policy().views == 2 and run.images_per_step == 4
    assert bench.flops_of_a_pair("resnet") > 0
    assert all(torch.isfinite(p).all() for p in steps.method.student.parameters())


def test_memory_is_that_of_the_process_itself():
    """A child of a process that has held 300 MB more does not count them; what it holds itself it does."""
    held = np.ones(300_000_000, dtype=np.uint8)
    code = "from kdlib.bench import peak_megabytes as p; a = p(); b = bytearray(b'x') * 200_000_000; print(a, p())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert 190 < after - before < 230
    assert held[-1] == 1 and bench.peak_megabytes() > before + 200
