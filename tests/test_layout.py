"""Rooms import those below them, chapters do not know each other, and tests lie where what they test lies."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

from kdlib.chapters import CHAPTERS

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
#: Folders of tests about other things than a folder of kdlib.
OTHERS = {"book", "cuda", "notebooks"}


def lint(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = "import sys; from importlinter.cli import lint_imports_command; sys.argv[0] = 'lint-imports'; "
    command = [sys.executable, "-c", program + "lint_imports_command()", "--no-cache", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_every_import_goes_down() -> None:
    done = lint()
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in done.stdout


def test_an_import_that_goes_up_is_found(tmp_path: Path) -> None:
    """The contract of the rooms, on a package in which a view imports a method."""
    (layers,) = (contract for contract in CONTRACTS if contract["type"] == "layers")
    rooms = [room for line in layers["layers"] for room in line.split(" | ")]
    for room in rooms:
        (tmp_path / "kdlib" / room).mkdir(parents=True)
        (tmp_path / "kdlib" / room / "__init__.py").write_text("")
    (tmp_path / "kdlib" / "__init__.py").write_text("")
    (tmp_path / "kdlib" / "views" / "__init__.py").write_text("import kdlib.methods\n")
    lines = "".join(f"    {line}\n" for line in layers["layers"])
    (tmp_path / ".importlinter").write_text(
        "[importlinter]\nroot_package = kdlib\n\n[importlinter:contract:rooms]\nname = rooms\ntype = layers\n"
        f"containers = kdlib\nexhaustive = true\nlayers =\n{lines}"
    )
    done = lint(folder=tmp_path)
    assert done.returncode == 1 and "kdlib.views is not allowed to import kdlib.methods" in done.stdout


def test_every_chapter_has_its_module_and_stands_in_the_contract() -> None:
    (independent,) = (contract["modules"] for contract in CONTRACTS if contract["type"] == "independence")
    modules = {f"kdlib.chapters.{name[3:]}" for name in CHAPTERS}
    assert all(callable(import_module(module).create) for module in modules)
    assert set(independent) == modules - {"kdlib.chapters.verdicts"}  # which asks all of them


def test_tests_lie_where_what_they_test_lies() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    mirrored = {folder for folder in folders if folder.parts and folder.parts[0] not in OTHERS}
    assert all((ROOT / "kdlib" / folder).is_dir() for folder in mirrored)
