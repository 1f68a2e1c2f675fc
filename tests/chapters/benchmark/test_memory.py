"""Memory is that of the process itself."""

import subprocess
import sys

import numpy as np
import pytest

from kdlib.chapters.benchmark import memory

pytestmark = pytest.mark.skipif(not memory.STATUS.exists(), reason="the system does not say")


def test_memory_is_that_of_the_process_itself():
    """A child of a process that has held 300 MB more does not count them; what it holds itself it does."""
    held = np.ones(300_000_000, dtype=np.uint8)
    code = (
        "from kdlib.chapters.benchmark.memory import peak_bytes as p; a = p(); "
        "b = bytearray(b'x') * 200_000_000; print(a, p())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 190e6 < after - before < 230e6
    assert held[-1] == 1 and memory.peak_bytes() > before + 200e6


def test_a_system_that_does_not_say_has_no_number(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    assert memory.memory() == {}
