"""The core's types are sound, and a program that imports kdlib is checked against them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Calls that are wrong, and what mypy says of each.
WRONG = {
    'CCDLoss(T="four")': 'Unexpected keyword argument "T"',
    'CCDLoss(temperature="four")': '"temperature" to "CCDLoss" has incompatible type "str"',
    'CCDLoss(weight="sine")': '"weight" to "CCDLoss" has incompatible type',
    'kl_divergence("logits", torch.zeros(2, 3), 4.0)': '"kl_divergence" has incompatible type "str"',
    "Definition(kd, NoOptions, source='', formula='')": 'incompatible type "Callable[[Batch, KDOptions]',
}
RIGHT = ("CCDLoss(temperature=4.0, weight='one')", "Definition(kd, KDOptions, source='', formula='')")
IMPORTS = """import torch
from kdlib.methods import Definition, KDOptions, NoOptions
from kdlib.methods.ccd import CCDLoss
from kdlib.methods.kd import kd, kl_divergence
"""


def mypy(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    command = [sys.executable, "-m", "mypy", *settings, *arguments]
    variables = os.environ | environment
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=600)


def test_the_core_is_sound() -> None:
    done = mypy(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Line of a program in another folder -> what is reported of it.

    kdlib is found on PYTHONPATH, as installed packages are: mypy reads its types only because of kdlib/py.typed.
    """
    program = tmp_path_factory.mktemp("program") / "program.py"
    program.write_text(IMPORTS + "\n".join([*WRONG, *RIGHT]) + "\n")
    done = mypy(program.parent, program.name, PYTHONPATH=str(ROOT))
    lines = program.read_text().splitlines()
    found = re.findall(r"program\.py:(\d+): error: (.*)", done.stdout)
    assert done.returncode == 1 and found, done.stdout + done.stderr
    return {lines[int(number) - 1]: said for number, said in found}


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call_is_reported(reported: dict[str, str], call: str) -> None:
    assert WRONG[call] in reported[call]


def test_nothing_else_is_reported(reported: dict[str, str]) -> None:
    assert set(reported) == set(WRONG)
