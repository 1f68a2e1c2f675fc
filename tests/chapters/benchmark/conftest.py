"""A made-up benchmark: every comparison, rates that are easy to check."""

import pytest

from kdlib.chapters.benchmark import report
from kdlib.chapters.benchmark.records import Benchmark, Choice, Growth, Small

MEASURED = {
    "views": {"kdlib": [90.0, 100.0, 110.0], "PIL": [10.0, 10.0, 10.0]},
    "wide": {
        "plain program": [10.0, 11.0, 10.0], "kdlib": [24.0, 33.0, 25.0], "fixed tensors": [25.0, 33.0, 26.0],
        "view bank": [50.0, 55.0, 50.0], "student alone": [60.0, 66.0, 60.0], "products": [90.0, 100.0, 100.0],
        "whole step": [72.0, 80.0, 60.0], "float32 step": [10.0, 10.0, 10.0], "float32 products": [20.0, 20.0, 20.0],
    },
    "small": {
        "kdlib": [10.0, 10.0, 10.0], "view bank": [20.0, 21.0, 22.0], "student alone": [40.0, 40.0, 40.0],
        "folded teacher": [60.0, 75.0, 60.0], "teacher": [50.0, 50.0, 50.0],
    },
    "parallel": {"side by side": [22.0, 22.0, 22.0], "in turn": [20.0, 20.0, 20.0], "one thread": [11.0, 11.0, 11.0]},
    "photographs": {
        "cache": [800.0, 800.0, 800.0], "files": [32.0, 40.0, 50.0],
        "kdlib": [20.0, 20.0, 20.0], "PIL": [10.0, 10.0, 10.0],
        "step": [4.5, 4.5, 4.0], "fixed tensors": [5.0, 5.0, 5.0],
    },
    "memory": {"most": [0.25]},
}  # fmt: skip
SHARES = {
    "convolutions, forward": 0.25, "convolutions, backward": 0.5, "batch norm": 0.125, "making views": 0.0625,
    "rest": 0.0625,
}  # fmt: skip
GROWTHS = [
    Growth(title="images", unit="images", work=[2, 4, 8], seconds=[[1.0, 2.0], [2.0, 4.0], [3.0, 6.5]]),
    Growth(title="width", unit="MACs", work=[10, 30], seconds=[[1.0, 1.0], [3.3, 3.3]]),
]
SMALL = [
    Small(
        network="resnet8", images=16, instructions="AVX512", least=[0.25, 0.25, 0.5],
        shares={"sums": 0.25, "rest": 0.75},
        rates={"step": [30.0, 40.0, 50.0], "convolutions": [60.0, 60.0, 60.0], "products": [100.0, 100.0, 100.0]},
    ),
    Small(
        network="resnet14", images=16, instructions="AVX512", least=[0.125], shares={"rest": 1.0},
        rates={"step": [75.0], "convolutions": [90.0], "products": [100.0]},
    ),
    Small(
        network="resnet14", images=16, instructions="AVX2", least=[0.125], shares={"rest": 1.0},
        rates={"step": [60.0], "convolutions": [80.0], "products": [100.0]},
    ),
]  # fmt: skip
CHOICES = [
    Choice(title="WRN", rule="a", rates={"a": [10.0, 10.0], "b": [12.0, 12.0], "c": [5.0, 6.0]}),
    Choice(title="ResNet", rule="a", rates={"a": [10.0, 10.0], "b": [10.2, 10.2]}),
]
PROVENANCE = {
    "versions": {"torch": "2.9"}, "hardware": "a CPU", "date": "2025-01-02", "commit": None, "precision": "bfloat16",
    "data": "cifar100",
}  # fmt: skip


@pytest.fixture
def found() -> Benchmark:
    """Three rounds."""
    return Benchmark(
        rounds=3, threads=2, comparisons=report.compared(MEASURED), growths=GROWTHS, shares=SHARES,
        small=SMALL, choices=CHOICES, provenance=PROVENANCE,
    )  # fmt: skip
