"""The page that says where each system of the book stands, computed from the registry and the published results."""

from collections.abc import Iterator

from kdlib.chapters import CHAPTERS
from kdlib.chapters.taxonomy import Row, rows
from kdlib.lab.store import only_published
from kdlib.study.setting import Setting

#: Related systems that are not in the book, as the page names them.
NOT_IMPLEMENTED = (
    "PURF, of which only the title is public",
    "pixel distillation {cite:p}`guo2021pixel`",
)
#: Field of a row -> the head of its column.
HEADS = {
    "system": "system", "verdict": "difference and verdict", "zero": "zero point", "knowledge": "taught",
    "view": "a view is", "sees": "who sees it", "chosen_by": "chosen or weighed by",
    "labels": "label of an augmented view", "task": "task", "status": "status",
}  # fmt: skip

INTRODUCTION = """# Taxonomy: where each system stands

Every cell of this table is computed when the book is built: from what the methods say about themselves, from the arms
and contrasts of the chapters, and from the published results. First the methods, by what they bring; then the chapters
that decide something. Differences are in points of top-1, at profile `reference` unless a chapter has a profile of its
own. The interval of a primary contrast is at the level of {ref}`its rule <verdict-rule>`, that of an exploratory one at
95 %.

- *Taught*: the teacher's answer to a view, its features, the relation of views or images to each other, or positions.
- *Zero point*: what is taken away in the difference. `weak2` is two plain crops of an image.
- *Chosen or weighed by*: what decides which views count, or how much. *Rank* is that of the right answer among the
  teacher's.
- *Status*: *verified* is what a paper, a program of its authors or a port of that says, *inspired by* what is
  reconstructed, be it one method of a chapter or its design ({doc}`audit` has what could not be checked).
"""


def taxonomy_page(found: list[Row] | None = None) -> str:
    """The page as MyST Markdown, by default of the published results."""
    found = published_rows() if found is None else found
    missing = f"**Not implemented**: {'; '.join(NOT_IMPLEMENTED)}. See {{doc}}`related_work`."
    return "\n".join([INTRODUCTION, *_table(found), "", missing]) + "\n"


def published_rows() -> list[Row]:
    """All systems at profile reference; runs of this machine alone do not count."""
    with only_published("reference") as store:
        return rows(store, Setting.of("reference", device="cpu"))


def _table(found: list[Row]) -> Iterator[str]:
    yield f"| {' | '.join(HEADS.values())} |"
    yield f"|{'---|' * len(HEADS)}"
    for row in found:
        cells = {name: getattr(row, name).replace("|", "\\|").replace("\n", "<br>") for name in HEADS}
        yield f"| {' | '.join((cells | {'system': _link(row.system)}).values())} |"


def _link(system: str) -> str:
    """To the chapter, or to the method in the list of methods."""
    if system in CHAPTERS:
        return f"{{doc}}`{system.replace('_', ' ')} <../notebooks/{system}>`"
    return f"[`{system}`](method-{system})"
