"""The page that says why to trust the book claims what its tests try, and no more."""

import json
import re
import runpy
from collections import Counter

import pytest

from tests.conftest import drawn
from tests.tried import COLLECTED, Tried

from .conftest import ROOT

BOOK = runpy.run_path(str(ROOT / "book" / "trust.py"))
RECORD = json.loads(BOOK["RECORD"].read_text())
SMALL = {
    "versions": {"Python": "3.11"},
    "tests": {
        "tests/a.py::test_a[1]": {"kind": "damage", "what": "banks", "slow": False, "outcomes": {"refused": 1500}},
        "tests/a.py::test_a[2]": {"kind": "damage", "what": "banks", "slow": True, "outcomes": {"without_effect": 2}},
        "tests/b.py::test_b": {"kind": "kills", "what": "a run", "slow": False, "outcomes": {"same_bits": 3}},
    },
}


# --- the committed record


def test_the_record_has_what_the_tests_note_and_nothing_else():
    """If this fails: `make test`, `make test-slow`, then `python book/trust.py`."""
    recorded = {name.partition("[")[0]: (test["kind"], test["what"]) for name, test in RECORD["tests"].items()}
    assert recorded == BOOK["calls"]()
    assert {kind for kind, _ in recorded.values()} == BOOK["KINDS"].keys()
    assert all(test["outcomes"] for test in RECORD["tests"].values())


def test_every_test_of_the_record_is_there(request):
    """Also each of its cases: the page does not count those that were taken out."""
    collected = request.config.stash[COLLECTED]
    if not {name.partition("[")[0] for name in RECORD["tests"]} <= {name.partition("[")[0] for name in collected}:
        pytest.skip("only some of the tests were asked for")
    assert set(RECORD["tests"]) <= collected


def test_a_fault_is_held_by_a_test_that_is_there():
    for test in BOOK["FAULTS"].values():
        file, _, name = test.partition("::")
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), test


# --- the page


def test_the_page_counts_what_the_record_holds():
    page = BOOK["trust_page"](SMALL)
    assert "**1,505 times" in page and "1,500 times it was refused; 3 times" in page
    rows = [line for line in page.split("\n") if line.startswith(("| a run", "| banks"))]
    assert rows == [
        "| a run | 3 same bits |  | `tests/b.py` |",
        "| banks | 1,500 refused | 2 without effect | `tests/a.py` |",
    ]
    for fault, test in BOOK["FAULTS"].items():
        assert f"| {fault} | `{test.partition('::')[2]}` in" in page


def test_the_committed_page_has_every_thing_once():
    page = BOOK["trust_page"]()
    for title, words in BOOK["KINDS"].values():
        assert page.count(f"## {title}\n\n{words}") == 1
    for _, what in BOOK["calls"]().values():
        assert page.count(f"\n| {what} | ") == 1
    total = sum(sum(test["outcomes"].values()) for test in RECORD["tests"].values())
    assert f"**{total:,} times" in page


def test_the_figure_has_a_bar_for_each_thing(strict_figures):
    rows = BOOK["summary"](SMALL)
    (axes,) = drawn(BOOK["tried_figure"](rows)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "Killed processes", "a run", "Damaged files", "banks"
    ]  # fmt: skip
    assert [text.get_text() for text in axes.texts] == [" 3", " 1,502"]
    assert [bar.get_width() for bar in axes.patches] == [3, 3, 1502, 1500]


# --- what tests note


def noted(tmp_path, **outcomes) -> dict:
    tried = Tried("tests/a.py::test_a[1]", False)
    for outcome, count in outcomes.items():
        tried("damage", "banks", **{outcome: count})
    tried.note(tmp_path / "notes", tmp_path / "record.json")
    return json.loads(next((tmp_path / "notes").iterdir()).read_text())


def test_a_note_adds_up_and_is_collected(tmp_path):
    assert noted(tmp_path, refused=2, without_effect=True) == {
        "tests/a.py::test_a[1]": {
            "kind": "damage", "what": "banks", "slow": False, "outcomes": {"refused": 2, "without_effect": 1}
        }
    }  # fmt: skip
    expected = {"tests/a.py::test_a": ("damage", "banks")}
    assert BOOK["collected"](tmp_path / "notes", expected)["tests"].keys() == {"tests/a.py::test_a[1]"}
    with pytest.raises(ValueError, match=r"^tests/b.py::test_b left no note: run make test and make test-slow first$"):
        BOOK["collected"](tmp_path / "notes", expected | {"tests/b.py::test_b": ("damage", "banks")})
    with pytest.raises(ValueError, match="left no note"):
        BOOK["collected"](tmp_path / "notes", {"tests/b.py::test_b": ("damage", "banks")})


def test_a_test_that_tries_less_than_the_page_says_fails(tmp_path):
    (tmp_path / "record.json").write_text(json.dumps(SMALL))
    noted(tmp_path, refused=1500)
    noted(tmp_path, refused=1350, without_effect=1)
    with pytest.raises(AssertionError, match="then python book/trust.py"):
        noted(tmp_path, refused=1349)


def test_a_test_tries_one_thing():
    tried = Tried("tests/a.py::test_a", False)
    tried("damage", "banks", refused=1)
    with pytest.raises(AssertionError, match="one thing"):
        tried("damage", "runs", refused=1)
    assert tried.outcomes == Counter(refused=1)
