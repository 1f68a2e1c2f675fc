"""Runs whose process is killed, inside steps and inside writes: resumed they end with the bits of one that was not."""

import random
import signal

import pytest

from kdlib.lab.runs import execute
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from tests.lab.killing import KINDS, start

pytestmark = pytest.mark.usefixtures("isolated")
KILLS = 20


@pytest.fixture
def whole(make_spec, isolated, monkeypatch):
    """whole(spec): the result of a run that nothing stops, in a store of its own."""

    def run(spec: RunSpec):
        with monkeypatch.context() as patch:
            patch.setenv("KDLIB_RUNS", str(isolated / "whole"))
            return execute(spec, "smoke")

    return run


def outcome(process) -> int:
    process.join(120)
    return process.exitcode


def test_a_run_that_is_killed_twenty_times_ends_with_the_same_bits(make_spec, whole, tried):
    """At random moments of a few steps each, so that it goes on slowly."""
    spec, generator, kills = make_spec(recipe={"evaluations": 10}), random.Random(3), 0
    while kills < KILLS and Store("smoke").get(spec) is None:
        code = outcome(start(spec, generator.randrange(3), generator.random()))
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
    assert kills == KILLS, "it ended too early to be killed so often"
    assert execute(spec, "smoke").model_dump(exclude={"provenance"}) == whole(spec).model_dump(exclude={"provenance"})
    tried("kills", "a run, inside a step or a write", same_bits=kills)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_half_written_is_believed(make_spec, whole, tried, kind, share):
    """share 1: all bytes are there, and the file is not yet in its place."""
    spec = make_spec()
    assert outcome(start(spec, 0, share, (kind,))) == -signal.SIGKILL
    folder = Store("smoke").folder(spec)
    assert Store("smoke").get(spec) is None
    assert execute(spec, "smoke").bits == whole(spec).bits
    left = {path.name for path in folder.iterdir()}
    assert left == {"result.json", "weights.safetensors"}, "what the killed process left is still there"
    tried("kills", "a run, inside a step or a write", same_bits=1)


@pytest.mark.parametrize("moment", [0, 3])
def test_a_run_that_is_killed_between_two_checkpoints_goes_on_from_the_one_before(make_spec, whole, tried, moment):
    """The last one has made room, and the new one is not yet in its place."""
    spec = make_spec()
    assert outcome(start(spec, moment, 1.0, ("place",))) == -signal.SIGKILL
    left = {path.name for path in Store("smoke").folder(spec).iterdir() if not path.name.startswith(".")}
    assert left == ({"checkpoint.old.pt"} if moment else set())
    steps = []
    assert execute(spec, "smoke", lambda done, total: steps.append(done)).bits == whole(spec).bits
    assert steps[0] == moment + 1
    assert {path.name for path in Store("smoke").folder(spec).iterdir()} == {"result.json", "weights.safetensors"}
    tried("kills", "a run, between two checkpoints", same_bits=1)


def test_two_runs_side_by_side_in_one_store(make_spec, whole, tried):
    """Each killed in turn, and both at once."""
    specs, generator = [make_spec(seed=seed, recipe={"evaluations": 5}) for seed in (0, 1)], random.Random(1)
    kills = 0
    for _ in range(6):
        both = [start(spec, generator.randrange(1, 5), generator.random()) for spec in specs]
        codes = [outcome(process) for process in both]
        assert set(codes) <= {0, -signal.SIGKILL}
        kills += sum(code != 0 for code in codes)
    for spec in specs:
        assert execute(spec, "smoke").bits == whole(spec).bits
    tried("kills", "one of two runs in one store", same_bits=kills)


def test_processes_that_ask_for_one_spec_make_one_result(make_spec, whole, isolated):
    """They take its steps once in all, also where the one that was first is killed in the middle."""
    for number, moment in enumerate((100, 3)):
        spec, steps = make_spec(seed=number), isolated / f"steps {number}"
        three = [start(spec, at, 1.0, ("step",), steps) for at in (moment, 100, 100)]
        codes = sorted(outcome(process) for process in three)
        assert codes[1:] == [0, 0] and codes[0] in (0, -signal.SIGKILL)
        taken, killed = len(steps.read_text()), codes[0] != 0
        assert taken == 10 + killed, "a step that was killed is taken again, and no other"
        assert Store("smoke").get(spec).bits == whole(spec).bits
