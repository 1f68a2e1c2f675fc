"""The template of a chapter runs as it is, has what a chapter has, and is what contributors are told to copy."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "book" / "template_chapter.ipynb"
SECTIONS = [
    "The finding", "The protocol, and why it is fair", "Result", "What this does not show",
    "How the published program differed", "Run it yourself", "Next steps",
]  # fmt: skip
LINK = re.compile(r"(?<!!)\[[^\[\]]*\]\(([^)#]+)")


@pytest.fixture
def template() -> NotebookNode:
    return nbformat.read(TEMPLATE, 4)


@pytest.mark.book
def test_it_runs_as_it_is(tmp_path: Path) -> None:
    """By papermill at profile smoke, in an empty store: it trains what it shows."""
    here = {"KDLIB_RUNS": str(tmp_path / "runs"), "KDLIB_RESULTS": str(tmp_path / "results"), "CI": "1"}
    words = [str(TEMPLATE), str(tmp_path / "out.ipynb"), "--cwd", "notebooks", "-p", "profile", "smoke"]
    call = [sys.executable, "-m", "papermill", *words, "-p", "device", "cpu", "--no-progress-bar"]
    done = subprocess.run(call, cwd=ROOT, env=os.environ | here, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    said = (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    assert "augmentation brings" in said and "not measured" not in said
    assert said.count('"image/svg+xml"') >= 2


def test_it_has_the_sections_of_a_chapter_in_their_order(template: NotebookNode) -> None:
    text = "\n".join(cell.source for cell in template.cells if cell.cell_type == "markdown")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS


def test_its_parameters_are_those_of_the_chapters(template: NotebookNode) -> None:
    def parameters(notebook: NotebookNode) -> str:
        (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        return cell.source

    assert parameters(template) == parameters(nbformat.read(ROOT / "notebooks" / "00_tour.ipynb", 4))


def test_its_links_hold_where_it_will_be_copied_to(template: NotebookNode) -> None:
    text = "\n".join(cell.source for cell in template.cells if cell.cell_type == "markdown")
    files = [file for file in LINK.findall(text) if not file.startswith("http")]
    assert len(files) > 3 and all((ROOT / "notebooks" / file).is_file() for file in files)


def test_it_holds_no_output_and_its_sentences_are_folded(template: NotebookNode) -> None:
    code = [cell for cell in template.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    (sentence,) = (cell for cell in code if cell.source.startswith("Markdown("))
    assert sentence.metadata.tags == ["remove-input", "nbval-check-output"] and sentence.metadata.jupyter.source_hidden


def test_contributors_are_pointed_to_it() -> None:
    assert f"]({TEMPLATE.relative_to(ROOT)})" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"`{TEMPLATE.relative_to(ROOT)}`" in (ROOT / "book" / "contribute.md").read_text(encoding="utf-8")
