"""English-German pairs out of two folders of documentation that say the same in both languages.

LibreOffice's help (HTML) marks each paragraph with one id in all languages; GNOME's manuals (Mallard) have one tree of
elements in all languages. So pairs are found exactly, and none is guessed.
"""

import hashlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Container, Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from kdlib.elsewhere.translation.parallel import Pair

PARAGRAPHS = ("p", "td", *(f"h{level}" for level in range(1, 7)))
MARKS = ("par_", "hd_")  # with which ids of paragraphs and headings begin
WORDS = (3, 30)  # the fewest and the most of a sentence, on either side
RATIO = 2.0  # of characters of the longer side to those of the other, at most
LETTERS = 0.6  # more of the characters of the English side, without blanks, are letters
PARTS = 20  # of pages: one is the test part, one is set aside, the others are trained on
TEXTS = ("/p", "/title", "/info/desc")  # how paths of elements of manuals end that hold text
MALLARD = "{http://projectmallard.org/1.0/}"


class Corpus(NamedTuple):
    """The pairs of three parts; no source of test or dev is a source of train."""

    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]


def help_corpus(english: Path, german: Path) -> Corpus:
    """Pairs of LibreOffice's help: english, german: the folders that hold `text/**.html`.

    A page is wholly in one part, by the hash of its path, so that neighbouring paragraphs stay together.
    """
    parts: list[list[Pair]] = [[], [], []]
    for page in sorted((english / "text").rglob("*.html")):
        name = page.relative_to(english / "text")
        if (other := german / "text" / name).is_file():
            here, there = paragraphs(page), paragraphs(other)
            parts[part_of(name.as_posix())] += [(here[mark], there[mark]) for mark in here if mark in there]
    train = unique(parts[0])
    known = {key(source) for source, _ in train}
    dev, test = (unique(part, known) for part in parts[1:])
    return Corpus(sorted(train, key=_order), dev, test)


def manual_pairs(english: Path, german: Path, known: Container[str]) -> list[Pair]:
    """Pairs of GNOME's manuals: english, german: the folders of one language each; known: keys that are left out.

    A page that has not the same paragraphs, titles and description in both languages is left out.
    """
    found: list[Pair] = []
    for page in sorted(english.rglob("*.page")):
        if (other := german / page.relative_to(english)).is_file():
            here, there = (list(_walk(ElementTree.parse(path).getroot(), "")) for path in (page, other))
            if [place for place, _ in here] == [place for place, _ in there]:
                found += [(a, b) for (_, a), (_, b) in zip(here, there, strict=True)]
    return unique(found, known)


def unique(pairs: Iterable[Pair], known: Container[str] = ()) -> list[Pair]:
    """The pairs that are sentences, see `is_sentence`, the first of each key alone, without the keys that are known."""
    found: dict[str, Pair] = {}
    for pair in pairs:
        if is_sentence(*pair) and (mark := key(pair[0])) not in known:
            found.setdefault(mark, pair)
    return list(found.values())


def is_sentence(source: str, target: str) -> bool:
    """Whether a pair differs, has 3 to 30 words on both sides, sides of about one length, and mostly letters.

    >>> is_sentence("Opens a remote file.", "Öffnet eine entfernte Datei."), is_sentence("Edit", "Bearbeiten")
    (True, False)
    """
    lengths = [len(text.split()) for text in (source, target)]
    if source == target or min(lengths) < WORDS[0] or max(lengths) > WORDS[1]:
        return False
    shown = source.replace(" ", "")
    alike = 1 / RATIO <= len(source) / len(target) <= RATIO
    return alike and sum(map(str.isalpha, shown)) > LETTERS * len(shown)


def key(source: str) -> str:
    """What tells sources apart: small letters, with whatever is no letter squeezed to a blank.

    >>> key("Step 2: Click OK.") == key("step 3 - click  OK")
    True
    """
    return re.sub(r"[\W\d_]+", " ", source.lower()).strip()


def part_of(page: str) -> int:
    """0 for train, 1 for dev, 2 for test: by the hash of a page's path."""
    number = int(hashlib.sha256(page.encode()).hexdigest(), 16) % PARTS
    return {0: 2, 1: 1}.get(number, 0)


def _order(pair: Pair) -> str:
    """By which training pairs are sorted: fewer of them are a prefix, and a mix of all pages."""
    return hashlib.sha256(key(pair[0]).encode()).hexdigest()


class _Paragraphs(HTMLParser):
    """Collects the text of marked elements, the first of each id."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.open: list[tuple[str, str, list[str]]] = []  # (tag, id or "", what it holds) of elements inside each other

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in PARAGRAPHS:
            self.open.append((tag, dict(attrs).get("id") or "", []))

    def handle_endtag(self, tag: str) -> None:
        if tag not in [element[0] for element in self.open]:
            return
        while self.open:
            name, mark, held = self.open.pop()
            if mark.startswith(MARKS):
                self.found.setdefault(mark, squeezed("".join(held)))
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        for _, _, held in self.open:
            held.append(data)


def paragraphs(page: Path) -> dict[str, str]:
    """The id of each paragraph and heading of a page of HTML -> its text, with white space squeezed."""
    reader = _Paragraphs()
    reader.feed(page.read_text(encoding="utf-8"))
    reader.close()
    return reader.found


def squeezed(text: str) -> str:
    """The text with each stretch of white space as one blank, and none at its ends."""
    return " ".join(text.split())


def _walk(element: ElementTree.Element, above: str) -> Iterator[tuple[str, str]]:
    """(path, text) of the paragraphs, titles and descriptions in an element, in order, but those in comments of
    writers."""
    if not isinstance(element.tag, str) or element.tag == f"{MALLARD}comment":
        return
    place = f"{above}/{element.tag.removeprefix(MALLARD)}"
    if place.endswith(TEXTS):
        yield place, squeezed("".join(element.itertext()))
    for child in element:
        yield from _walk(child, place)
