"""The program of the book that hands runs to Parsl, with two workers on this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kdlib.chapters.registry import create_study
from kdlib.lab.runs import missing, repeat
from kdlib.lab.store import Store
from kdlib.study.setting import Setting

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_program_of_the_book_trains_what_a_study_lacks(isolated):
    pytest.importorskip("parsl")
    page = (ROOT / "book" / "how_to_run.md").read_text(encoding="utf-8")
    program = next(code for code in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "parsl" in code)
    assert 'profile = "quick"' in program
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where Parsl's own programs are
    done = subprocess.run(
        [sys.executable, "-c", program.replace('"quick"', '"smoke"')],
        cwd=isolated, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    specs, store = create_study("03_blind_teacher", Setting.of("smoke")).all_specs, Store("smoke")
    assert missing(specs, store) == []
    assert repeat(specs[-1], "smoke") == store.get(specs[-1]).bits
