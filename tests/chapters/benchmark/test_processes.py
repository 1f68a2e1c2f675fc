"""Two runs side by side: only the time in which both work counts. Memory is that of the process itself."""

import subprocess
import sys
import time

import numpy as np
import pytest

from kdlib.chapters.benchmark import processes, runs
from kdlib.chapters.benchmark.processes import clock_of_a_run, rate_together


def test_one_run_alone_has_its_own_rate():
    assert rate_together([[10.0, 11.0, 12.0, 14.0]]) == pytest.approx(3 / 4)


def test_the_rate_of_equal_runs_is_the_sum():
    assert rate_together([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]) == pytest.approx(2.0)


def test_what_one_does_before_and_after_the_other_does_not_count():
    """The second run works from 1 to 3, where the first does one step a second; outside of it, ten."""
    first = [0.0, *(k / 10 for k in range(1, 10)), 1.0, 2.0, 3.0, *(3 + k / 10 for k in range(1, 10))]
    assert rate_together([first, [1.0, 1.5, 2.0, 2.5, 3.0]]) == pytest.approx(1 + 2)


def test_a_step_that_lies_half_in_the_common_time_counts_half():
    assert rate_together([[0.0, 2.0, 4.0], [1.0, 3.0]]) == pytest.approx(1 / 2 + 1 / 2)


class Gate:
    """A start at which the other process is long in coming."""

    def wait(self, timeout: float) -> None:
        time.sleep(0.2)
        self.opened = time.monotonic()


@pytest.mark.usefixtures("isolated")
def test_the_clock_begins_when_all_are_ready(monkeypatch):
    monkeypatch.setattr(runs, "data_name", lambda: runs.BUNDLED)
    monkeypatch.setattr(processes, "run_of", lambda pair: runs.run_of(pair, images=2))
    gate = Gate()
    clock = clock_of_a_run(1, 3, gate)
    assert len(clock) == 4 and clock == sorted(clock)
    assert clock[0] >= gate.opened


@pytest.mark.skipif(not processes.STATUS.exists(), reason="the system does not say")
def test_memory_is_that_of_the_process_itself():
    """A child of a process that has held 300 MB more does not count them; what it holds itself it does."""
    held = np.ones(300_000_000, dtype=np.uint8)
    code = (
        "from kdlib.chapters.benchmark.processes import peak_bytes as p; a = p(); "
        "b = bytearray(b'x') * 200_000_000; print(a, p())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 190e6 < after - before < 230e6
    assert held[-1] == 1 and processes.peak_bytes() > before + 200e6


def test_a_system_that_does_not_say_has_no_number(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "STATUS", tmp_path / "none")
    assert processes.memory() == {}
