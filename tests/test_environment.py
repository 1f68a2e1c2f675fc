"""pyproject.toml, constraints.txt and environment.yml agree, and no undeclared package is imported."""

import ast
import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOLDERS = ("kdlib", "book", "tests")


def declared() -> list[Requirement]:
    """Every direct dependency of the project and its extras."""
    lines = PROJECT["dependencies"] + [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    return [Requirement(line) for line in lines]


def constraints() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins}


def test_environment_installs_the_project_with_its_extras_and_constraints() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    python = next(Requirement(entry) for entry in conda if entry.startswith("python"))
    assert python.specifier == Requirement("python" + PROJECT["requires-python"]).specifier
    assert "pip" in conda
    assert sorted(pip) == ["-c constraints.txt", "-e .[study,elsewhere,book,test]"]
    assert {"study", "book", "test"} <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("requirement", declared(), ids=lambda requirement: requirement.name)
def test_constraints_pin_every_direct_dependency(requirement: Requirement) -> None:
    pin = constraints().get(canonicalize_name(requirement.name))
    assert pin is not None, f"constraints.txt has no version of {requirement.name}"
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    assert specifier.version in requirement.specifier


def top_level_imports() -> dict[str, set[str]]:
    """Top-level modules imported anywhere in the project's code, with the files that import them."""
    found: dict[str, set[str]] = {}
    for path in [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            for name in names:
                found.setdefault(name.split(".")[0], set()).add(str(path.relative_to(ROOT)))
    return found


def test_every_import_is_declared() -> None:
    """A module is the standard library's, the project's own, or of a distribution that is declared.

    One that is not installed, as an extra need not be, is taken to be of a distribution of its name.
    """
    folders = ("book", "tests/cuda")  # whose programs import each other
    own = {"kdlib", "tests"} | {path.stem for folder in folders for path in (ROOT / folder).glob("*.py")}
    distributions = importlib.metadata.packages_distributions()
    names = {canonicalize_name(requirement.name) for requirement in declared()}
    undeclared = {
        module: sorted(files)
        for module, files in top_level_imports().items()
        if module not in own | sys.stdlib_module_names
        and not names & {canonicalize_name(name) for name in distributions.get(module, [module])}
    }
    assert not undeclared
