"""The built pages: no warning, nothing asked of a network, formulas and widgets alive in a browser."""

import io
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path

import pytest

from .conftest import load, standin

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHAPTER = Path("notebooks") / "00_tour.html"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=15000",
    "--dump-dom",
]
pytestmark = pytest.mark.book
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND"

# Moves the slider by one step once the widgets are up, then notes which panel is on view.
MOVE_SLIDER = """<script>
setTimeout(() => document.querySelector(".noUi-handle").dispatchEvent(
  new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true})), 6000);
setTimeout(() => {
  const panels = [...document.querySelectorAll(".widget-html-content")].filter((e) => e.offsetParent);
  document.body.dataset.shown = panels.map((e) => e.textContent).join();
}, 9000);
</script></body>"""


class Resources(HTMLParser):
    """Collects what a browser loads by itself when it opens a page."""

    LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src")}

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name, value in attrs:
            if (tag, name) in self.LOADED and value:
                self.found.append(value)
        relation = (values.get("rel") or "").split()
        if tag == "link" and {"stylesheet", "preload", "icon", "preconnect"} & set(relation):
            self.found.append(values.get("href") or "")


@pytest.fixture(scope="module")
def html(make_tree: Callable[..., Path]) -> Path:
    """The folder of pages of a book built from a stand-in chapter at profile smoke; the blank ones are not executed."""
    tree = make_tree(standin())
    before, module, printed = contents(tree), load(tree), io.StringIO()
    execute_all = module.execute_all
    module.execute_all = lambda notebooks, tidy: execute_all(dict([*notebooks.items()][:1]), tidy)
    with redirect_stdout(printed):
        assert module.main(["--profile", "smoke", "--device", "cpu"]) == 0
    assert "WARNING" not in printed.getvalue()
    assert (tree / "_build" / "html" / "index.html").as_uri() in printed.getvalue()
    assert contents(tree) == before, "the build wrote into the sources"
    return tree / "_build" / "html"


def contents(tree: Path) -> dict[Path, bytes]:
    """Every file of `tree` except what Python and the build make."""
    made = {"_build", "__pycache__"}
    return {path: path.read_bytes() for path in tree.rglob("*") if path.is_file() and not made & set(path.parts)}


def test_every_page_names_the_profile(html: Path) -> None:
    pages = [page for folder in ("book", "notebooks") for page in (html / folder).glob("*.html")]
    assert len(pages) >= 10
    assert all("Profile smoke:" in page.read_text(encoding="utf-8") for page in pages)


def test_chapter_shows_parameters_figure_and_computed_sentence(html: Path) -> None:
    text = (html / CHAPTER).read_text(encoding="utf-8")
    assert "profile smoke [0, 1]" in text
    assert re.search(r'<img[^>]*alt="a rising line"', text)
    assert "A line." in text and "Fig. 1" in text
    assert "A number 1.23, as" in text and "Markdown(f" not in text
    targets = (
        "03_blind_teacher.html",
        "../book/how_to_read.html#verdict-rule",
        "../book/bibliography.html#hinton2015distilling",
    )
    for link in targets:  # from prose and from outputs, to pages, labels and works
        assert re.search(rf'<a [^>]*href="{re.escape(link)}"', text), link
    assert "<b>works in a page</b>" in text
    assert text.count('type="application/vnd.jupyter.widget-view+json"') == 1  # the slider with its stack


def test_pages_load_nothing_from_the_web(html: Path) -> None:
    pages = [page for page in html.rglob("*.html") if "_static" not in page.relative_to(html).parts]
    found = []
    for page in pages:
        resources = Resources()
        resources.feed(page.read_text(encoding="utf-8"))
        found += resources.found
    assert any("tex-mml-chtml.js" in name for name in found) and any("kdlib.css" in name for name in found)
    assert not [name for name in found if re.match(r"(https?:)?//", name)]


def test_styles_load_nothing_from_the_web(html: Path) -> None:
    sheets = list(html.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']*", text), sheet


def open_page(page: Path, profile: Path) -> str:
    """The document of `page` as headless Chromium has it after 15 virtual seconds without a network."""
    command = [CHROMIUM, *FLAGS, NO_NETWORK, f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_formulas_and_linked_widgets_live_in_a_browser_without_a_network(html: Path, tmp_path: Path) -> None:
    page = html / CHAPTER
    moved = page.with_name("moved.html")
    moved.write_text(page.read_text(encoding="utf-8").replace("</body>", MOVE_SLIDER), encoding="utf-8")
    text = open_page(moved, tmp_path)
    assert text.count("<mjx-container") == 2
    assert "<mjx-merror" not in text
    assert re.search(r'class="[^"]*noUi-handle', text)
    assert 'data-shown="panel 2"' in text  # the slider stood at 1
