"""Related work says of every system whether it is here, and where; the audit names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

from kdlib.methods import METHODS
from kdlib.views.policies import POLICIES

from .conftest import ROOT

PAGE = (ROOT / "book" / "related_work.md").read_text().split("## Published numbers")[0]
AUDIT = (ROOT / "book" / "audit.md").read_text()
#: What a system is called -> all that is said of it.
SYSTEMS = {
    re.match(r"\*\*(.+?)\*\*", entry)[1]: " ".join(entry.split())
    for entry in re.split(r"\n\n+(?=\*\*)", PAGE)
    if entry.startswith("**")
}
LINKS = {
    "document": re.compile(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`"),
    "method": re.compile(r"\]\(method-(\w+)\)"),
    "policy": re.compile(r"`(\w+)`\]\(view-policies\)"),
    "path": re.compile(r"`(kdlib/[\w/.]+)`"),
}


def here(text: str) -> str:
    """What is said of its place in this book."""
    parts = text.split("*Here:* ")
    assert len(parts) == 2, text
    return parts[1]


def test_the_page_has_the_systems_that_it_had() -> None:
    """A split that loses entries would pass all else."""
    assert len(SYSTEMS) == len(re.findall(r"^\*\*", PAGE, re.MULTILINE)) == PAGE.count("*Here:*") > 30
    assert {"KD", "PURF", "Energy KD and HE-DA", "ReAL", "BRCD"} <= set(SYSTEMS)
    assert "**kNN-KD**" in SYSTEMS["Dual distillation for translation"]  # one entry names both


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_system_is_implemented_with_a_link_or_not_with_a_reason(system: str) -> None:
    said = here(SYSTEMS[system])
    assert re.match(r"(not )?implemented\b", said), said
    if said.startswith("not"):
        assert len(said.split(". ")[0]) > len("not implemented") + 20
    else:
        assert any(pattern.search(said) for pattern in LINKS.values())


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_link_of_a_system_has_its_target(system: str) -> None:
    text = SYSTEMS[system]
    for name in LINKS["document"].findall(text):
        path = ROOT / name.lstrip("/") if name.startswith("/") else ROOT / "book" / name
        made = {"method_list", "taxonomy"}  # when the book is built
        assert path.name in made or any(path.with_suffix(end).is_file() for end in (".md", ".ipynb")), name
    assert set(LINKS["method"].findall(text)) <= set(METHODS)
    assert set(LINKS["policy"].findall(text)) <= set(POLICIES)
    assert all((ROOT / name).exists() for name in LINKS["path"].findall(text))
    keys = re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(), re.MULTILINE)
    cited = [key for group in re.findall(r"\{cite:[pt]\}`([^`]+)`", text) for key in group.split(",")]
    assert set(cited) <= set(keys) and len(keys) == len(set(keys))


def test_the_targets_of_methods_and_policies_are_on_their_pages() -> None:
    methods = (ROOT / "book" / "methods.md").read_text()
    assert methods.count("(view-policies)=\n## View policies\n") == 1
    assert "(method-{name})=" in (ROOT / "book" / "method_list.py").read_text()
    assert not set(re.findall(r"\]\((?!method-|view-policies|https?:)([^)]+)\)", PAGE))


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_the_audit_names_tests_that_exist() -> None:
    """Each name after a path of a test stands in that file."""
    where, found = None, 0
    for word in re.findall(r"`(tests/[\w/]+\.py|test_\w+)`", AUDIT):
        if word.startswith("tests/"):
            where = ROOT / word
            assert where.is_file(), word
        else:
            assert where is not None and word in functions_of(where), word
            found += 1
    assert found > 15
