"""What a program of one's own needs: JDA, CCD and the networks import nothing but the core's requirements."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Requirement -> the module that it brings, where the two differ.
MODULES = {"pillow": "PIL", "scikit-learn": "sklearn", "ipython": "IPython", "jupyter-book": "jupyter_book"}

REFUSED = """
import builtins

imported = builtins.__import__

def refusing(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and name.split(".")[0] in {names!r}:
        raise ModuleNotFoundError(f"No module named {{name!r}}: it is no requirement of the core", name=name)
    return imported(name, globals, locals, fromlist, level)

builtins.__import__ = refusing
"""


def beyond_the_core() -> set[str]:
    """The modules of all extras."""
    lines = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    names = [re.match(r"[\w-]+", line)[0] for line in lines]
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


def run(program: str, tmp_path) -> subprocess.CompletedProcess:
    text = REFUSED.format(names=beyond_the_core()) + program
    return subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_extras_are_refused_here(tmp_path):
    assert {"pandas", "scipy", "matplotlib", "IPython", "sphinx"} <= beyond_the_core()
    done = run("import pandas", tmp_path)
    assert done.returncode == 1 and "it is no requirement of the core" in done.stderr


def test_the_core_imports_its_own_requirements_alone(tmp_path):
    names = [line.split(">")[0] for line in PROJECT["dependencies"]]
    assert names == ["torch", "torchvision", "numpy", "pydantic", "safetensors", "pillow", "tqdm", "filelock"]
    program = "import kdlib.methods, kdlib.models, kdlib.models.network, kdlib.views.transforms, kdlib.views.policies"
    done = run(program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("page", "lines"), [("README.md", 10), ("book/your_program.md", 40)])
def test_programs_of_the_pages_run_on_the_core_alone_and_are_short(page, lines, tmp_path):
    (program,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert len([line for line in program.split("\n") if line.strip()]) <= lines
    done = run(program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    if "print(" in program:
        assert re.fullmatch(r"loss of the last step: \d+\.\d\d\n", done.stdout)
