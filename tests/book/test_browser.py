"""Every page of the published book in a real browser, from the disk and without a network."""

import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .conftest import ROOT, build, chapters, standin

pytestmark = pytest.mark.book
PHONE = {"width": 375, "height": 800}
LOCAL = ("file:", "data:", "blob:")

#: JavaScript: formulas that are not drawn, or in error.
UNDRAWN = """() => [...document.querySelectorAll(".math")]
  .filter((e) => !e.querySelector("mjx-container") || e.querySelector("mjx-merror, [data-mjx-error]"))
  .map((e) => e.textContent)"""
#: JavaScript: the picture of an explorer at each combination of its controls, [[choice of each, picture], ...].
SHOWN = """(explorer) => {
  const controls = [...explorer.querySelectorAll("[data-control]")];
  const counts = controls.map((c) => (c.tagName === "SELECT" ? c.options.length : Number(c.max) + 1));
  const all = counts.reduce((some, n) => some.flatMap((c) => [...Array(n).keys()].map((k) => [...c, k])), [[]]);
  return all.map((choices) => {
    controls.forEach((control, i) => {
      control.value = choices[i];
      control.dispatchEvent(new Event("input", { bubbles: true }));
    });
    return [choices, explorer.querySelector("img").src];
  });
}"""
#: JavaScript: what axe-core calls serious or critical, by rule, with the first element of each. Its preloading asks a
#: server for the styles once more.
SERIOUS = """async () => {
  const options = { resultTypes: ["violations"], preload: false };
  const { violations } = await axe.run({ exclude: [".theme-switch-button"] }, options);
  return violations.filter((v) => ["serious", "critical"].includes(v.impact)).map((v) => [v.id, v.nodes[0].html]);
}"""


@pytest.fixture(scope="module")
def html(make_tree: Callable[..., Path]) -> Path:
    """The pages of the published notebooks, built strictly."""
    tree = make_tree(standin())
    for name in chapters():
        shutil.copy(ROOT / name, tree / name)
    done = build(tree, "--published")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return tree / "_build" / "published" / "html"


class Visit(NamedTuple):
    """What was seen of a page: drawn formulas, what is wrong, serious violations by axe-core."""

    formulas: int
    faults: list[str]
    serious: list[list[str]]


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable]:
    """open_page(path, query=""): the page on a phone, and a list of what goes wrong on it: errors, requests."""
    context = browser.new_context(offline=True, viewport=PHONE)
    yield partial(opened_in, context)
    context.close()


def opened_in(context: Any, path: Path, query: str = "") -> tuple[Any, list[str]]:
    """A page with its formulas drawn, and a list of what goes wrong on it: errors, requests."""
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(LOCAL) else wrong.append(request.url))
    page.on("requestfailed", lambda request: wrong.append(f"missing: {request.url}"))
    page.goto(path.as_uri() + query)
    page.wait_for_function("() => !window.MathJax || MathJax.startup?.promise")
    page.evaluate("async () => { if (window.MathJax) await MathJax.startup.promise; }")
    return page, wrong


@pytest.fixture(scope="module")
def visits(html: Path, browser: Any) -> dict[str, Visit]:
    """Each page on a phone, by its name."""
    axe = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
    pages = [html / "index.html", html / "genindex.html", html / "search.html"]
    pages += [*html.glob("book/*.html"), *html.glob("notebooks/*.html")]
    return {path.name: visit(browser, path, axe) for path in pages}


def visit(browser: Any, path: Path, axe: str) -> Visit:
    """Opens a page, looks at it, and closes it."""
    context = browser.new_context(offline=True, viewport=PHONE)
    page, wrong = opened_in(context, path)
    width = page.evaluate("document.documentElement.scrollWidth")
    wide = [f"{width} px wide"] if width > PHONE["width"] else []
    faults = [*wrong, *page.evaluate(UNDRAWN), *wide]
    page.evaluate(axe)
    found = Visit(page.locator("mjx-container").count(), faults, page.evaluate(SERIOUS))
    context.close()
    return found


def test_every_page_is_quiet_drawn_and_as_wide_as_a_phone(visits: dict[str, Visit]) -> None:
    """No error, no request, no missing file, every formula drawn, and no sideways scrolling."""
    assert len(visits) > 40 and visits["methods.html"].formulas > 20
    assert {name: seen.faults for name, seen in visits.items() if seen.faults} == {}


def test_nothing_keeps_people_from_using_a_page(visits: dict[str, Visit]) -> None:
    """No serious violation by axe-core. The glyph on the switch of colours is text to it, so that is left out."""
    assert {name: seen.serious for name, seen in visits.items() if seen.serious} == {}


def test_every_chapter_links_its_notebook_and_the_runs_behind_it(html: Path) -> None:
    with_runs = 0
    for name in chapters():
        text = (html / name).with_suffix(".html").read_text(encoding="utf-8")
        linked = re.findall(r'<a href="([^"]+)" download>', text)
        assert linked[-1] == f"../_sources/{name}" and all((html / "notebooks" / file).is_file() for file in linked)
        assert f"papermill {name} out.ipynb" in re.search(r'<p class="kd-line">.*?</p>', text, re.DOTALL)[0]
        with_runs += len(linked) > 1
    assert with_runs > 10


def test_no_page_is_heavy(html: Path) -> None:
    assert {p.name: p.stat().st_size for p in html.glob("*/*.html") if p.stat().st_size > 1_000_000} == {}


def test_the_search_finds_without_a_network(html: Path, open_page: Callable) -> None:
    page, wrong = open_page(html / "search.html", "?q=JDA")
    page.wait_for_function("() => /found/.test(document.querySelector('#search-results p')?.textContent)")
    titles = page.locator("#search-results li a").all_text_contents()
    assert "Joint Data Augmentation" in titles and not wrong


def test_each_control_of_an_explorer_changes_what_it_shows(html: Path, open_page: Callable) -> None:
    explored = 0
    for path in html.glob("notebooks/*.html"):
        if "kd-explorer" not in path.read_text(encoding="utf-8"):
            continue
        page, wrong = open_page(path)
        for explorer in page.locator(".kd-explorer").all():
            shown = {tuple(choices): picture for choices, picture in explorer.evaluate(SHOWN)}
            assert all(picture.startswith("data:image/png") for picture in shown.values())
            for control in range(len(next(iter(shown)))):
                assert matters(shown, control), (path.name, control)
            explored += 1
        assert not wrong, (path.name, wrong)
        page.close()
    assert explored > 8


def matters(shown: dict[tuple[int, ...], str], control: int) -> bool:
    """Whether a control changes the picture at some choice of the others; one with a single choice need not."""
    pictures: dict[tuple[int, ...], set[str]] = {}
    for choices, picture in shown.items():
        pictures.setdefault(choices[:control] + choices[control + 1 :], set()).add(picture)
    single = len({choices[control] for choices in shown}) == 1
    return single or any(len(some) > 1 for some in pictures.values())
