"""The page of the taxonomy lists every system with all of its cells, and what is not implemented once."""

import re
import runpy
from dataclasses import fields

import pytest

from kdlib.chapters import CHAPTERS
from kdlib.chapters.taxonomy import Row
from kdlib.methods import METHODS

from .conftest import ROOT

BOOK = runpy.run_path(str(ROOT / "book" / "taxonomy.py"))


@pytest.fixture(scope="module")
def found() -> list[Row]:
    return BOOK["published_rows"]()


def cells(page: str) -> list[list[str]]:
    """The cells of the table, row by row, its head first."""
    lines = [line for line in page.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_page_lists_each_system_with_every_cell(found):
    head, rule, *table = cells(BOOK["taxonomy_page"](found))
    assert sorted(BOOK["HEADS"]) == sorted(field.name for field in fields(Row))
    assert head == list(BOOK["HEADS"].values()) and set(rule) == {"---"}
    assert len(table) == len(found) and all(len(row) == len(head) and all(row) for row in table)
    for name, row in zip(METHODS, table, strict=False):
        assert row[0] == f"[`{name}`](method-{name})"
    for system, row in zip([r.system for r in found][len(METHODS) :], table[len(METHODS) :], strict=True):
        assert system in CHAPTERS and row[0].endswith(f"<../notebooks/{system}>`")


def test_cells_are_short_and_their_lines_stay_in_the_row(found):
    row = Row("kd", *["one|line\nanother"] * 9)
    _, _, only = cells(BOOK["taxonomy_page"]([row]))
    assert only[1:] == [r"one\|line<br>another"] * 9
    lines = [
        line for row in found for f in fields(row) if f.name != "verdict" for line in getattr(row, f.name).split("\n")
    ]
    assert max(map(len, lines)) <= 60


def test_what_is_not_implemented_stands_below_the_table_once(found):
    page = BOOK["taxonomy_page"](found)
    (line,) = (line for line in page.split("\n") if line.startswith("**Not implemented**"))
    assert page.index(line) > page.rindex("\n| ")
    for system in BOOK["NOT_IMPLEMENTED"]:
        assert line.count(system) == 1
        assert system.split()[0].lower() not in METHODS
    keys = re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(), re.MULTILINE)
    assert set(re.findall(r"\{cite:p\}`(\w+)`", line)) <= set(keys)


def test_the_build_makes_the_page(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "book"))
    build = runpy.run_path(str(ROOT / "book" / "build.py"))
    build["stage"](tmp_path / "site", "a banner", {})
    assert cells((tmp_path / "site" / "book" / "taxonomy.md").read_text())[2:]
