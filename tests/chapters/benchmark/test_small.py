"""Small networks: convolutions are those of the network, instructions are those that a process is told."""

import os
import subprocess
import sys
from concurrent.futures import Future

import pytest
import torch

from kdlib.chapters.benchmark import runs, small
from kdlib.chapters.benchmark.breakdown import KINDS, OPTIMISER, REST
from kdlib.lab.cost import model_size
from kdlib.lab.recipe import Machine

from .conftest import SMALL

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture(autouse=True)
def _bundled(monkeypatch):
    monkeypatch.setattr(runs, "data_name", lambda: runs.BUNDLED)


def test_convolutions_are_all_that_a_network_multiplies_but_its_classifier():
    steps = runs.steps_of(runs.alone("resnet8", images=2, machine=Machine(device="cpu", precision="float32")))
    convolve, done = small.convolutions(steps)
    views, layers = 4, steps.method.student.backbone
    first = 2e-9 * views * 32 * 32 * next(layers.parameters()).numel()  # the gradient of images, which is not computed
    classifier = 2e-9 * views * 3 * layers.fc.weight.numel()
    assert done == pytest.approx(2e-9 * views * 3 * model_size("resnet8", 10, 32)[1] - first - classifier, rel=1e-6)
    before = {name: value.clone() for name, value in steps.method.state_dict().items()}
    convolve(0)
    after = steps.method.state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert all(weight.grad is None for weight in steps.method.parameters())


def test_a_network_is_measured_in_full(monkeypatch):
    monkeypatch.setattr(small, "SIDE", 64)
    monkeypatch.setattr(small, "REPEATS", 1)
    found = small.small("resnet8_tiny", rounds=2)
    assert list(found.rates) == ["step", "convolutions", "products"]
    assert all(len(values) == 2 and min(values) > 0 for values in (*found.rates.values(), found.least))
    assert list(found.shares) == [*KINDS, OPTIMISER, REST] and sum(found.shares.values()) == pytest.approx(1)
    assert found.instructions == torch.backends.cpu.get_cpu_capability() and 0 < found.shares[OPTIMISER] < 0.5


@pytest.mark.parametrize("own", ["AVX512", "AVX2"])
def test_processes_are_told_their_instructions(monkeypatch, own):
    class Pool:
        """A process that notes what it was told, and has measured."""

        def __init__(self, workers: int, mp_context: object):
            told.append({name: os.environ.get(name) for name in small.INSTRUCTIONS["AVX2"]})

        def __enter__(self):
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def submit(self, function, rounds: int) -> Future:
            assert function is small.in_this_process and rounds == 3
            future: Future = Future()
            kind = own if len(told) == 1 else "AVX2"
            future.set_result([SMALL[0].model_copy(update={"instructions": kind})])
            return future

    told: list[dict] = []
    for name in small.INSTRUCTIONS["AVX2"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(small, "ProcessPoolExecutor", Pool)
    before, shares = dict(os.environ), []
    found = small.small_networks(3, shares.append)
    assert [one.instructions for one in found] == ([own] if own == "AVX2" else [own, "AVX2"])
    assert told == [dict.fromkeys(told[0]), dict(small.INSTRUCTIONS["AVX2"])][: len(found)]
    assert dict(os.environ) == before and shares[-1] == len(found) / 2


def test_the_variables_are_those_of_torch():
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    told = os.environ | small.INSTRUCTIONS["AVX2"]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=told, timeout=120)
    own = torch.backends.cpu.get_cpu_capability()
    assert done.stdout.strip() == ("AVX2" if own == "AVX512" else own)
