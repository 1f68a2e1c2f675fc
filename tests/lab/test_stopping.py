"""Ends before the end: requests, time, dead parents; and the real thing, processes that are signalled and killed."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdlib.data.processes import cores
from kdlib.lab import stopping
from kdlib.lab.stopping import InterruptedStudyError, OutOfTimeError, Stop, StoppedError, listening, request_in
from kdlib.lab.store import Store

WORKER = """
import multiprocessing, sys, time
from kdlib.lab import stopping

def work(stop):
    stopping.GRACE = 0.2
    stopping.begin_worker()
    print("begun", flush=True)
    while not stop.is_due():
        time.sleep(0.01)
    print("due", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work, args=(stopping.Stop(),))
    process.start()
    print(process.pid, flush=True)
    process.join()
"""


# --- requests


def test_nothing_is_due_unless_there_is_a_reason(tmp_path):
    assert not Stop().is_due()
    assert not Stop(time.time() + 60, tmp_path / "request").is_due()
    assert Stop(time.time()).is_due()


def test_a_request_is_seen_by_whoever_holds_the_same_stop(tmp_path):
    stop = Stop(None, tmp_path / "request")
    other = pickle.loads(pickle.dumps(stop))
    assert other.requested() is None
    stop.ask(signal.SIGTERM)
    stop.ask(signal.SIGINT)  # the first one counts
    assert other.is_due() and other.requested() == signal.SIGTERM


def test_what_is_raised_says_why(tmp_path):
    stop = Stop(0.0, tmp_path / "request")
    assert isinstance(stop.error("late"), OutOfTimeError)
    stop.ask(signal.SIGINT)
    error = pickle.loads(pickle.dumps(stop.error("interrupted")))  # as between processes
    assert isinstance(error, InterruptedStudyError) and (str(error), error.number) == ("interrupted", signal.SIGINT)
    assert type(Stop().error("the parent is dead")) is StoppedError


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_first_signal_asks_and_a_second_one_interrupts(tmp_path, number):
    stop, before = Stop(None, tmp_path / "request"), signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), listening(stop):
        signal.raise_signal(number)
        assert stop.requested() == number
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_request_leaves_nothing_behind(tmp_path):
    with request_in(tmp_path / "new", None) as stop:
        stop.ask(signal.SIGINT)
        assert stop.is_due()
    assert not list((tmp_path / "new").iterdir())


# --- processes


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def crowding() -> float:
    """How many times as long everything takes because more processes want to run than there are cores; 1 and up."""
    return max(1.0, os.getloadavg()[0] / cores())


def until(condition, seconds: float = 240.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_worker_does_not_outlive_a_parent_that_was_killed(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(WORKER)
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert parent.stdout.readline() == "begun\n" and alive(worker)
        parent.kill()
        assert parent.stdout.readline() == "due\n"  # a run would have written its checkpoint
    assert until(lambda: not alive(worker), 10)


@pytest.fixture
def study(isolated, tiny, monkeypatch):
    """Starts `kdlib run` on runs that would take minutes, and waits until two of them are in flight."""
    monkeypatch.setenv("KDLIB_THREADS", "1")
    call = [sys.executable, "-c", LONG, tiny]
    started = []

    def start():
        process = subprocess.Popen(
            call, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        notes = Store("quick").runs / ".progress"
        assert until(lambda: notes.exists() and len([n for n in notes.iterdir() if not n.suffix]) == 2), "never began"
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


#: The command, on recipes of so many steps that none of its runs ends.
LONG = """
import sys
from kdlib.__main__ import main
from kdlib.study import profiles
from dataclasses import replace

if __name__ == "__main__":
    quick = profiles.PROFILES["quick"]
    recipe = quick.recipe.model_copy(update={"views_per_image": 40_000, "evaluations": 1})
    profiles.PROFILES["quick"] = replace(quick, recipe=recipe, fraction=1.0)
    sys.exit(main(["run", "03_blind_teacher", "--profile", "quick", "--device", "cpu", "--data", sys.argv[1]]))
"""


def children(pid: int) -> list[int]:
    """All processes below one."""
    found = [int(c) for t in Path(f"/proc/{pid}/task").glob("*/children") for c in t.read_text().split()]
    return found + [grandchild for child in found for grandchild in children(child)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("number", "group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_signal_brings_runs_to_a_checkpoint_within_ten_seconds(study, tried, number, group):
    """Ctrl-C in a terminal goes to all processes, SIGTERM usually to the first alone."""
    process = study()
    workers, began = children(process.pid), time.monotonic()
    (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 10 * crowding()
    assert process.returncode == 128 + number, err
    last = out.strip().splitlines()[-1]
    assert "Interrupted: 0 of " in last and "2 are at a checkpoint. The same command goes on." in last
    assert "Traceback" not in err
    assert len(list(Store("quick").runs.glob("*/checkpoint.pt"))) == 2
    assert len(workers) >= 2 and until(lambda: not any(map(alive, workers)), 10)
    assert not list((Store("quick").runs / ".stop").iterdir())
    tried("kills", "a study, by Ctrl-C or SIGTERM", all_at_a_checkpoint=1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_workers_of_a_killed_study_write_their_checkpoints_and_end(study, tried):
    process = study()
    workers = children(process.pid)
    process.kill()
    assert until(lambda: len(list(Store("quick").runs.glob("*/checkpoint.pt"))) == 2, 10)
    assert until(lambda: not any(map(alive, workers)), 15)
    tried("kills", "the first process of a study", all_at_a_checkpoint=1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_worker_that_is_killed_is_replaced_and_its_run_goes_on(study, tried):
    """As the system does it where memory is short."""
    process = study()
    workers = {pid for pid in children(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}
    os.kill(max(workers), signal.SIGKILL)
    assert until(lambda: not any(map(alive, workers)), 10)
    notes = Store("quick").runs / ".progress"
    began = time.time()
    assert until(lambda: [n for n in notes.iterdir() if not n.suffix and n.stat().st_mtime > began + 1])
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT, err
    assert "failed" not in out + err
    tried("kills", "a worker of a study", replaced=1)
