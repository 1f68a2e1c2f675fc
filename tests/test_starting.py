"""Starting costs nothing: packages are not imported by what does not need them. A clock would be less reliable."""

import json
import subprocess
import sys

import pytest

from kdlib import choices
from kdlib.data.images import CIFAR
from kdlib.elsewhere.boxes import trees
from kdlib.models.checkpoints import PUBLIC
from kdlib.study.profiles import PROFILES

#: torch's compiler, and torchvision, which imports it.
COMPILER = {"torch._dynamo", "torch._inductor", "sympy", "torchvision"}
#: What only pages, tables and figures need. scipy.stats takes a second, and sphinx and nbformat several.
PAGES = {"IPython", "ipywidgets", "jsonschema", "matplotlib", "myst_nb", "nbformat", "pandas", "sphinx"}
STATISTICS = {"scipy", "sklearn"}
HEAVY = {"numpy", "pydantic", "torch"} | COMPILER | PAGES | STATISTICS

LINE = "import sys; from kdlib.__main__ import main\ntry: main({})\nexcept SystemExit: pass"


def imported(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has imported after some code."""
    heavy = sorted(HEAVY | {"scipy.stats", "torchvision.models"})
    report = f"\nimport json, sys\nprint(json.dumps([name for name in {heavy} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.strip().split("\n")[-1]))


def test_the_module_imports_nothing():
    assert imported("import kdlib") == set()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        *(
            [command, "--help"]
            for command in ("plan", "run", "status", "fetch", "publish", "pack", "unpack", "repeat", "bench")
        ),
        ["plam"],
        ["plan", "99_none"],
        ["plan", "--profile", "huge"],
        ["plan", "--device", "tpu"],
        ["plan", "--seeds", "1", "1"],
        ["plan", "--tflops", "0"],
        ["plan", "00_tour", "--option", "p"],
        ["run", "--shard", "5/4"],
        ["bench", "--rounds", "0"],
        ["fetch", "nope"],
    ],
    ids=" ".join,
)
def test_a_command_line_is_read_and_checked_without_torch(words):
    assert imported(LINE.format(words)) == set()


def test_the_names_of_the_command_line_are_those_of_the_registries():
    assert tuple(PROFILES) == choices.PROFILES
    assert (tuple(CIFAR), trees.NAME) == (choices.CIFAR, choices.TREES)
    assert tuple(PUBLIC) == choices.PUBLIC


@pytest.mark.parametrize("command", ["plan", "status"])
@pytest.mark.parametrize("profile", ["quick", "reference", "paper"])
def test_a_plan_needs_torch_and_no_more(command, profile, monkeypatch, tmp_path):
    """On a machine without photographs: where those of chapter 10 are, torchvision makes their networks.

    A plan also counts seeds, with the statistics of scipy.
    """
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path))
    words = [command, "--profile", profile, "--device", "cpu"]
    counted = {"scipy"} if command == "plan" and PROFILES[profile].verdicts else set()
    assert imported(LINE.format(words)) == {"numpy", "pydantic", "torch"} | counted


def test_a_process_that_trains_imports_no_tables_and_figures():
    """Where views need it torchvision comes later, and torch's compiler with the optimiser."""
    assert imported("from kdlib.lab.runs import execute, repeat") == {"numpy", "pydantic", "torch"}
    assert imported("import kdlib.commands") == {"numpy", "pydantic", "torch"}


def test_a_chapter_imports_tables_figures_and_widgets_but_not_how_books_are_built():
    needed = {"numpy", "pydantic", "torch", "IPython", "ipywidgets", "matplotlib", "pandas"}
    assert imported("import kdlib.notebook") == needed


def test_a_chapter_that_reads_the_store_needs_only_intervals_beside():
    """scipy, without its statistics, for the quantiles of intervals."""
    code = """
import os
os.environ["KDLIB_MISSING"] = "gap"
import kdlib
study = kdlib.start("03_blind_teacher", {"profile": "reference", "device": "cpu"}).run()
study.status(), study.arms, study.contrasts, study.intervals(), study.claim("a")
"""
    found = imported(code)
    assert found & (COMPILER | {"jsonschema", "myst_nb", "nbformat", "scipy.stats", "sklearn", "sphinx"}) == set()
    assert "scipy" in found
