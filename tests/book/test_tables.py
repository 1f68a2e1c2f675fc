"""Tables of a page sort by a column and keep short texts in one line, in a real browser."""

from pathlib import Path

import pandas as pd
import pytest

STATIC = Path(__file__).resolve().parents[2] / "book" / "_static"

TABLE = pd.DataFrame(
    {
        "top-1, %": ["9.50", "42.83  [42.40, 43.25]", "", "37.83"],
        "images": ["2,343", "900", "-5", "\N{MINUS SIGN}7"],
        "found": ["a few words", "10 of 10", "supported " * 8, "zeta"],
    },
    index=["no teacher", "one view", "JDA", "weak2"],
)

#: JavaScript: in how many lines the text of each cell stands.
LINES = """[...document.querySelectorAll("td")].map((cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return range.getClientRects().length;
})"""


@pytest.fixture
def page(browser, tmp_path):
    """A page with the table above and the book's script and style, without a network."""
    style, script = (STATIC / name for name in ("kdlib.css", "tables.js"))
    head = f'<link rel="stylesheet" href="{style}"><script src="{script}"></script>'
    body = f'<article class="bd-article"><div class="cell_output">{TABLE.to_html()}</div></article>'
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><html lang=en><head>{head}</head><body>{body}</body></html>")
    context = browser.new_context(offline=True, viewport={"width": 375, "height": 700})
    page = context.new_page()
    page.goto(path.as_uri())
    yield page
    context.close()


def order(page) -> list[str]:
    return page.locator("tbody th").all_text_contents()


@pytest.mark.parametrize(
    ("head", "up", "down"),
    [
        ("top-1, %", ["no teacher", "weak2", "one view", "JDA"], ["one view", "weak2", "no teacher", "JDA"]),
        ("images", ["weak2", "JDA", "one view", "no teacher"], ["no teacher", "one view", "JDA", "weak2"]),
        ("found", ["one view", "no teacher", "JDA", "weak2"], ["weak2", "JDA", "no teacher", "one view"]),
    ],
)
def test_a_column_sorts_up_down_and_back(page, head, up, down):
    """Numbers by size, words by the alphabet, empty cells last."""
    button = page.get_by_role("button", name=head)
    for expected, said in ((up, "ascending"), (down, "descending"), (list(TABLE.index), None)):
        button.press("Enter")  # the keyboard does too
        assert order(page) == expected
        assert page.get_by_role("columnheader", name=head).get_attribute("aria-sort") == said


def test_only_one_column_says_that_it_sorts(page):
    page.get_by_role("button", name="images").click()
    page.get_by_role("button", name="found").click()
    assert page.locator("th[aria-sort]").all_text_contents() == ["found"]


def test_short_texts_stay_in_a_line_and_long_ones_do_not(page):
    lines = page.evaluate(LINES)
    texts = TABLE.to_numpy().ravel()
    assert all((count > 1) == (len(text) > 32) for text, count in zip(texts, lines, strict=True) if text)


def test_the_table_scrolls_and_not_the_page(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
