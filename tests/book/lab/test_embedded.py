"""The lab inside chapters and the front page: the same lab, loaded when the reader asks for it."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from ..conftest import ROOT
from .conftest import ASKING, LINKED, answered

pytestmark = pytest.mark.book
EMBEDDED = runpy.run_path(str(ROOT / "book" / "embedded.py"))
ASKS = re.compile(r"^(?:\[The lab\]\(\.\./book/lab\.md\)|\{doc\}`lab`)", re.MULTILINE)
#: JavaScript: the addresses of all scripts and what RequireJS would be, which takes TensorFlow.js from the page.
LOADED = """() => [...document.scripts].map((script) => script.src.split("/").pop())"""
REQUIRE = """() => { window.define = Object.assign(() => { throw Error("given to RequireJS"); }, { amd: {} }); }"""


@pytest.fixture
def chapter(html: Path, open_page: Callable) -> tuple:
    """A chapter with the lab before it is started, and what goes wrong on it."""
    return open_page(html.parents[1] / "notebooks" / f"{LINKED[1]}.html", wait=False)


def test_chapters_and_the_front_page_ask_for_it_once() -> None:
    texts = {
        name: [
            cell.source for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells if "md" in cell.source
        ]
        for name in LINKED
    }
    texts["intro"] = [(ROOT / "book" / "intro.md").read_text(encoding="utf-8")]
    assert {name: sum(len(ASKS.findall(text)) for text in some) for name, some in texts.items()} == {
        **dict.fromkeys(LINKED, 1), "intro": 1,
    }  # fmt: skip


def test_it_stands_below_the_paragraph_that_asks_and_nothing_is_loaded(chapter: tuple) -> None:
    page, wrong = chapter
    before = page.evaluate("document.querySelector('.kd-lab-start').parentElement.previousElementSibling.textContent")
    assert before == re.sub(r"\[(.*)\]\(.*\)", r"\1", ASKING)
    assert page.locator("#kd-lab").count() == 1
    assert page.is_visible("#kd-lab-print img") and not page.is_visible("#kd-lab")
    assert not {"tf.min.js", "resnet20.js", "lab.js"} & set(page.evaluate(LOADED))
    assert not wrong


def test_started_by_the_keyboard_it_answers_beside_require_js(chapter: tuple) -> None:
    page, wrong = chapter
    page.evaluate(REQUIRE)
    page.focus(".kd-lab-start")
    page.keyboard.press("Enter")
    page.wait_for_selector("#kd-lab:not([hidden])")
    answered(page)
    assert re.search(r"The cosine of the two answers is 0\.\d{3}", page.inner_text("[data-lab=said]"))
    page.wait_for_selector(".kd-lab-start", state="detached")
    assert page.evaluate("document.activeElement.name") == "kd-lab-picture"
    assert page.evaluate("'amd' in window.define")
    assert not page.is_visible("#kd-lab-print img")
    assert not wrong


def test_it_has_all_of_the_lab_s_page(html: Path, chapter: tuple) -> None:
    """Markup and scripts, in their order."""
    own = html.read_text(encoding="utf-8")
    scripts = re.findall(r'<script src="(\.\./_static/(?:lab|vendor/t)[^"]+)"', own)
    page, _ = chapter
    assert page.get_attribute(".kd-lab-start", "data-scripts").split() == scripts and len(scripts) == 7
    inner = re.search(r'<div id="kd-lab".*?\n</div>', own, re.DOTALL)[0]
    assert inner in Path(page.url.removeprefix("file://")).read_text(encoding="utf-8")


def test_without_scripts_the_figure_is_there_and_no_button(html: Path, open_page: Callable) -> None:
    page, _ = open_page(html.parents[1] / "notebooks" / f"{LINKED[0]}.html", wait=False, java_script_enabled=False)
    assert page.is_visible("#kd-lab-print img") and not page.is_visible(".kd-lab-start")


def test_a_page_without_the_block_is_refused() -> None:
    with pytest.raises(ValueError, match="no block of raw HTML with scripts"):
        EMBEDDED["embedded"]("# The lab\n")
