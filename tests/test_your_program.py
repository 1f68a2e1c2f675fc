"""The program of the page with Lightning, where Lightning is installed; the other one runs in tests/test_wheel.py."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "book" / "your_program.md"


def test_the_student_learns_and_the_teacher_does_not(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    plain, module = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert "import lightning" in module
    program = f"""{plain}
before = [[value.clone() for value in network.state_dict().values()] for network in (teacher, student)]
{module}
after = [list(network.state_dict().values()) for network in (teacher, student)]
same = [all(map(torch.equal, *pair)) for pair in zip(before, after)]
assert same == [True, False], same
"""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
