"""The wheel in a fresh environment outside the checkout, which has the core's requirements and nothing else.

Installing torch anew would take minutes and gigabytes: its files, and those of the other requirements and of what they
require, are linked from the environment that runs the tests.
"""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [line.split(">")[0] for line in PROJECT["dependencies"]]
#: Requirement -> the module that it brings, where the two differ.
MODULES = {"pillow": "PIL"}
#: The rooms that a program of one's own needs.
CORE = ("views", "models", "data", "methods")


def closure(lines: list[str]) -> set[str]:
    """The names of distributions that satisfy requirements, with what those require in turn."""
    found, todo = set(), [Requirement(line) for line in lines]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name not in found:
            found.add(name)
            further = [Requirement(line) for line in importlib.metadata.requires(name) or ()]
            extras = [{"extra": extra} for extra in (*requirement.extras, "")]
            todo += [r for r in further if not r.marker or any(r.marker.evaluate(extra) for extra in extras)]
    return found


def entries(name: str) -> Iterator[Path]:
    """The files and folders that a distribution has at the top of site-packages."""
    distribution = importlib.metadata.distribution(name)
    tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    return (Path(distribution.locate_file(top)) for top in sorted(tops))


def core_modules() -> dict[str, Path]:
    """The modules of the core's rooms by their full names."""
    paths = sorted(path for room in CORE for path in (ROOT / "kdlib" / room).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools writes beside its sources."""
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "kdlib", source / "kdlib", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder, source]
    subprocess.run(build, check=True, capture_output=True, text=True, timeout=300)
    (found,) = folder.glob("kdlib-*.whl")
    return found


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of the fresh environment."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, symlinks=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    for name in closure(PROJECT["dependencies"]):
        for entry in entries(name):
            if not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    command = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-deps", "-q", wheel]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return folder / "bin"


def run(fresh: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of the fresh environment, in an empty folder and without the checkout on its path."""
    command = [str(fresh / arguments[0]), *arguments[1:]]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env={"HOME": str(folder)})


def test_the_wheel_holds_the_module_with_its_types_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"kdlib/py.typed", "kdlib/methods/ccd.py", "kdlib/views/jda.py"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"kdlib", f"kdlib-{PROJECT['version']}.dist-info"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "kdlib").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}


def test_the_core_imports_its_own_requirements_alone(fresh: Path, tmp_path: Path) -> None:
    assert REQUIREMENTS == ["torch", "torchvision", "numpy", "pydantic", "safetensors", "pillow", "tqdm", "filelock"]
    done = run(fresh, tmp_path, "python", "-c", f"import {', '.join(core_modules())}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["pandas", "scipy", "matplotlib", "IPython"])
def test_extras_are_not_there(module: str, fresh: Path, tmp_path: Path) -> None:
    done = run(fresh, tmp_path, "python", "-c", f"import {module}")
    assert done.returncode == 1 and f"No module named {module!r}" in done.stderr


@pytest.mark.parametrize(("page", "lines"), [("README.md", 10), ("book/your_program.md", 40)])
def test_programs_of_the_pages_run_and_are_short(page: str, lines: int, fresh: Path, tmp_path: Path) -> None:
    program = re.search(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)[1]
    assert len([line for line in program.split("\n") if line.strip()]) <= lines
    done = run(fresh, tmp_path, "python", "-c", program)
    assert (done.returncode, done.stderr) == (0, "")
    if "print(" in program:
        assert re.fullmatch(r"loss of the last step: \d+\.\d\d\n", done.stdout)


def test_examples_of_docstrings_run(fresh: Path, tmp_path: Path) -> None:
    examples = [name for name, path in core_modules().items() if ">>>" in path.read_text(encoding="utf-8")]
    assert {"kdlib.views.transforms", "kdlib.methods.ccd"} <= set(examples)
    program = f"""
import doctest, importlib
for name in {examples!r}:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried and not failed, name
"""
    done = run(fresh, tmp_path, "python", "-c", program)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_the_command_is_there_and_keeps_to_the_folder_where_it_is_called(fresh: Path, tmp_path: Path) -> None:
    done = run(fresh, tmp_path, "kdlib", "--help")
    assert (done.returncode, done.stderr) == (0, "") and "status" in done.stdout
    done = run(fresh, tmp_path, "python", "-c", "from kdlib.data import paths; print(paths.data_root())")
    assert done.stdout == f"{tmp_path / 'data'}\n"
    done = run(fresh, tmp_path, "kdlib", "status", "03_blind_teacher", "--profile", "reference")
    assert (done.returncode, done.stderr) == (0, "") and "JDA, seeds 0-9" in done.stdout


OTHER_PYTHONS = ("python3.11", "python3.12", "python3.13")


def other_python(name: str) -> str:
    """The path of an interpreter on this machine; the test is skipped where it is not found or does not start."""
    found = shutil.which(name)
    if found is None or subprocess.run([found, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"{name} is not on this machine")
    return found


@pytest.mark.parametrize("name", OTHER_PYTHONS)
def test_other_pythons_read_the_module_without_a_warning(name: str) -> None:
    program = "import pathlib\nfor p in pathlib.Path('kdlib').rglob('*.py'): compile(p.read_text('utf-8'), p, 'exec')"
    command = [other_python(name), "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", OTHER_PYTHONS)
def test_other_pythons_with_the_requirements_run_the_program_of_the_page(
    name: str, wheel: Path, tmp_path: Path
) -> None:
    python = other_python(name)
    needs = f"import {', '.join(MODULES.get(n, n) for n in REQUIREMENTS)}"
    if subprocess.run([python, "-c", needs], capture_output=True, cwd=tmp_path).returncode:
        pytest.skip(f"{name} lacks requirements of the core")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    page = (ROOT / "book" / "your_program.md").read_text(encoding="utf-8")
    program = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    done = subprocess.run([python, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
