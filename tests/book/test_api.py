"""The API pages: no public module is forgotten, and docstrings become what a reader expects."""

import importlib
import inspect
import os
import pkgutil
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import kdlib.models
from kdlib.lab.recipe import Recipe
from kdlib.lab.specs import RunSpec
from kdlib.study.arms import Arm
from kdlib.study.profiles import Profile

from .conftest import ROOT

docstrings = runpy.run_path(str(ROOT / "book" / "docstrings.py"))
fields, marked, meanings = (docstrings[name] for name in ("fields", "marked", "meanings"))
api_pages = runpy.run_path(str(ROOT / "book" / "api_pages.py"))["api_pages"]
PAGES = {name.removesuffix(".md"): page for name, page in api_pages().items()}
MODULES = ["kdlib", *(m.name for m in pkgutil.walk_packages(kdlib.__path__, "kdlib.") if "._" not in m.name)]

SAMPLE = '''
"""A sample; see kdlib.records."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, NamedTuple

from numpy.typing import ArrayLike
from pydantic import Field

from kdlib.records import Number, Record, Whole


def round_up(x: float) -> float:
    """To a whole number."""


class Options(Record):
    """rate: of learning."""

    rate: Number = Field(0.1, ge=0, lt=1)
    steps: Whole | None = Field(None, ge=1)


class Oven(Record):
    """Hot."""

    #: in degrees,
    #: see `mean`
    heat: Whole = Field(ge=20, le=250)
    trays: Whole = Field(1, ge=1)

    @property
    def open(self) -> bool:
        """Whether it is."""


class Grill(Oven):
    """Hotter."""

    #: of what lies on it
    names: tuple[str, ...] = ()


class Pair(NamedTuple):
    """Two."""

    first: int
    #: float64 [N]
    second: int = 2


class Word(StrEnum):
    """Words."""

    YES = "yes"


@dataclass
class Settings:
    """
    one: a number, that needs
        two lines.
    two: another.
    """

    one: int
    two: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """Where."""

    #: to the right
    x: float
    #: of it
    change: Callable = round_up

    #: How many there are.
    AXES: ClassVar[int] = 1


#: Name: meaning.
TABLE = {"a": "long"}


def mean(values: ArrayLike, level: float = 0.5) -> float:
    """The mean, from `values`.

    Args:
        values: numbers.

    Raises:
        ValueError: none are given.
    """


def _private(): "Hidden."
'''


def test_every_public_module_is_on_one_page() -> None:
    listed = Counter(name for page in PAGES.values() for name in re.findall(r"^\.\. automodule:: (\S+)$", page, re.M))
    assert set(listed) == set(MODULES) - {"kdlib"}  # which the first page shows
    assert max(listed.values()) == 1


def test_the_first_page_leads_to_the_others() -> None:
    first = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    assert ".. automodule:: kdlib\n" in first
    assert set(re.findall(r"^\| \{doc\}`(\w+)` \|", first, re.M)) == set(PAGES)


@pytest.mark.parametrize("name", MODULES)
def test_public_names_have_docstrings(name: str) -> None:
    """A name without one would not be on its page."""
    module = importlib.import_module(name)
    own = [o for n, o in vars(module).items() if n[0] != "_" and getattr(o, "__module__", None) == name]
    assert module.__doc__
    assert not [o.__qualname__ for o in own if (inspect.isclass(o) or inspect.isfunction(o)) and not o.__doc__]


def test_a_list_of_fields_lacks_none() -> None:
    """A class whose fields have comments has one above each of them."""
    classes = [o for name in MODULES for o in vars(importlib.import_module(name)).values() if inspect.isclass(o)]
    listed = {kind for kind in classes if meanings(kind)}
    assert {Recipe, RunSpec, Profile, Arm} <= listed
    assert not [(kind.__qualname__, f) for kind in listed for f in fields(kind) if f not in meanings(kind)]


def page_of(sample: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Builds one page of a module, strictly and with the book's settings for autodoc, as text."""
    (folder / "sample.py").write_text(sample, encoding="utf-8")
    (folder / "conf.py").write_text(
        "import yaml\n"
        f"book = yaml.safe_load(open({str(ROOT / '_config.yml')!r}, encoding='utf-8'))['sphinx']['config']\n"
        "globals().update({k: v for k, v in book.items() if k.startswith(('autodoc', 'nitpick', 'python'))})\n"
        "extensions = ['sphinx.ext.autodoc', 'docstrings']\n",
        encoding="utf-8",
    )
    known = ".. py:module:: kdlib.records\n\n.. py:class:: Record\n"  # what the sample refers to
    (folder / "index.rst").write_text(f"Sample\n======\n\n.. automodule:: sample\n\n{known}", encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-b", "text", "-W", "-n", "--keep-going", ".", "out"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "book")])}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, env=environment)


def test_what_a_page_shows(tmp_path: Path) -> None:
    done = page_of(SAMPLE, tmp_path)
    assert done.returncode == 0, done.stderr
    text = re.sub(r"\s+", " ", (tmp_path / "out" / "index.txt").read_text(encoding="utf-8"))
    for shown in (
        'see "kdlib.records"',
        "class sample.Options(*, rate: float = 0.1, steps: int | None = None)",
        "Ranges: rate ≥ 0 and < 1, steps ≥ 1.",
        'class sample.Oven(*, heat: int, trays: int = 1) Hot. * heat (≥ 20 and ≤ 250): in degrees, see "mean" '
        "Ranges: trays ≥ 1. property open: bool Whether it is.",
        "class sample.Grill(*, heat: int, trays: int = 1, names: tuple[str, ...] = ()) Hotter. "
        '* heat (≥ 20 and ≤ 250): in degrees, see "mean" * names: of what lies on it Ranges: trays ≥ 1.',
        "class sample.Pair(first: int, second: int = 2) Two. * second: float64 [N]",
        "class sample.Point(x: float, change: Callable = round_up) Where. * x: to the right * change: of it "
        "AXES: ClassVar[int] How many there are.",
        "class sample.Word Words. YES",
        "* one: a number, that needs two lines. * two: another.",
        "sample.TABLE Name: meaning.",
        "sample.mean(values: ArrayLike, level: float = 0.5) -> float",
        'The mean, from "values".',
        "Parameters: **values** -- numbers.",
    ):
        assert shown in text
    for hidden in ("Alias for field", "model_", "Annotated", "factory", "_private", "long"):
        assert hidden not in text


@pytest.mark.parametrize(
    ("code", "target"),
    [
        ("create_model()", "kdlib.models.create_model"),
        ("base.Output", "kdlib.models.base.Output"),
        ("kdlib.study.stats", "kdlib.study.stats"),
        ("kdlib.study.stats.MARGIN", None),
        ("num_classes", None),
        ("a + b", None),
    ],
)
def test_names_of_the_package_become_links(code: str, target: str | None) -> None:
    expected = f":py:obj:`{code} <{target}>`" if target else f"``{code}``"
    assert marked(code, "kdlib.models.model_names") == expected


@pytest.mark.parametrize("name", ["kdlib.nowhere", "`kdlib.records.nothing`"])
def test_a_name_that_does_not_exist_fails_the_build(name: str, tmp_path: Path) -> None:
    done = page_of(f'"""A sample, see {name}."""', tmp_path)
    assert done.returncode == 1
    assert f"py:obj reference target not found: {name.strip('`')}" in done.stderr
