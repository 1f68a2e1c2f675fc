"""The prose of the chapters is plain Markdown, so that JupyterLab shows what the page shows."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from pybtex.database import parse_file

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ROLE = re.compile(r"\{[a-z:]+\}`|^\s*(?::{3}|`{3})\{", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\[\]]*)\]\(([^)#]*)(?:#([^)]*))?\)")
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> str:
    """What a chapter says: its Markdown cells, and the Markdown that its cells have put out."""
    cells = nbformat.read(path, 4).cells
    said = [
        output.data.get("text/markdown", "") for cell in cells for output in cell.get("outputs", []) if "data" in output
    ]
    return "\n\n".join([*(cell.source for cell in cells if cell.cell_type == "markdown"), *said])


def title(path: Path) -> str:
    """The first heading of a chapter or page."""
    text = nbformat.read(path, 4).cells[0].source if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    return re.search(r"^# (.+)$", text, re.MULTILINE)[1]


@EACH
def test_no_role_or_directive_is_left_to_read(path: Path) -> None:
    assert not ROLE.findall(read(path))


@EACH
def test_links_reach_files_and_carry_their_titles(path: Path) -> None:
    """JupyterLab needs the file with its suffix; a page of its own title is called by it."""
    found = [link for link in LINK.findall(read(path)) if not re.match(r"https?:", link[1])]
    assert found
    for text, file, fragment in found:
        target = (path.parent / file).resolve()
        assert target.is_file(), file
        if not fragment and target.suffix in (".ipynb", ".md"):
            assert " ".join(text.split()) == title(target), (text, file)


@EACH
def test_citations_name_the_authors_and_the_year_of_their_work(path: Path) -> None:
    works = parse_file(ROOT / "book" / "references.bib").entries
    for text, file, key in LINK.findall(read(path)):
        if file.endswith("bibliography.md"):
            assert " ".join(text.split()).replace("(", "").replace(")", "").replace(",", "") == label(works[key]), key


def label(work) -> str:
    """Author and year as the text cites them: one or two names, or the first of more."""
    names = [" ".join([*person.prelast_names, *person.last_names]) for person in work.persons["author"]]
    who = names[0] + " et al." if len(names) > 2 else " and ".join(names)
    return f"{who} {work.fields['year']}"


@EACH
def test_sentences_with_numbers_are_put_out_by_their_cell(path: Path) -> None:
    """Their code is folded in JupyterLab and left out of the page, and nbval compares them."""
    cells: list[NotebookNode] = nbformat.read(path, 4).cells
    for cell in cells:
        if cell.cell_type == "code" and re.search(r'^Markdown\(r?f"""', cell.source, re.MULTILINE):
            assert cell.metadata.tags == ["remove-input", "nbval-check-output"]
            assert cell.metadata.jupyter.source_hidden
            assert [set(output.data) for output in cell.outputs] == [{"text/markdown", "text/plain"}]
