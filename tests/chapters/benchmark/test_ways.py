"""Other ways to compute a step are other ways indeed, and the same step."""

import pytest
import torch

from kdlib.chapters.benchmark import runs, ways

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture(autouse=True)
def _bundled(monkeypatch):
    monkeypatch.setattr(runs, "data_name", lambda: runs.BUNDLED)


def test_all_ways_of_a_pair_are_measured(monkeypatch):
    monkeypatch.setattr(ways, "PAIRS", {"small": ("small ones", 2, 1)})
    before, told = torch.get_num_threads(), []
    (choice,) = ways.choices(1, told.append)
    assert choice.title == "small ones" and choice.rule == "channels last, 1 thread"
    assert len(choice.rates) == 8 and next(iter(choice.rates)) == choice.rule
    assert "contiguous, 2 threads, teacher in 2 parts" in choice.rates
    assert all(len(values) == 1 and values[0] > 0 for values in choice.rates.values())
    assert torch.get_num_threads() == before and told[-1] == 1.0


@pytest.mark.parametrize("kind", ways.FORMATS.values())
def test_networks_compute_in_the_format(kind):
    network, seen = runs.steps_of(runs.run_of("small", 2)).method.student, []
    ways.in_format(network, kind)
    convolution = next(m for m in network.backbone.modules() if isinstance(m, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda _, given, made: seen.extend((given[0], made)))
    network(torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
    assert len(seen) == 2 and all(value.is_contiguous(memory_format=kind) for value in seen)


def test_a_teacher_in_parts_says_the_same():
    run = runs.steps_of(runs.run_of("small", 4, exact=True))
    views = run.task.batch(0).views.flatten(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(
            ways.InParts(run.method.teacher, 2)(views).logits, run.method.teacher(views).logits, rtol=1e-4, atol=1e-4
        )
