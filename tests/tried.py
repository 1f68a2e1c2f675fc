"""What tests of kills, damage and bad input have tried: notes in _build/tried, of which a page of the book is made."""

import json
from collections import Counter
from pathlib import Path
from zlib import crc32

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTES = ROOT / "_build" / "tried"
RECORD = ROOT / "book" / "tried.json"  # the committed one, which book/trust.py writes
COLLECTED = pytest.StashKey[set[str]]()  # the names of all tests that were asked for, before slow ones are left out
LEAST = 0.9  # of what the book says: files that are damaged bit by bit hold paths, whose length is the machine's


class Tried:
    """What one test has tried: a kind, a thing in words, and how often it had which outcome."""

    def __init__(self, test: str, slow: bool):
        self.test, self.slow = test, slow
        self.named: tuple[str, str] | None = None
        self.outcomes: Counter[str] = Counter()

    def __call__(self, kind: str, what: str, **outcomes: int) -> None:
        """Adds to it; both words stay the same in a test."""
        assert self.named in (None, (kind, what)), "a test tries one thing"
        self.named = kind, what
        self.outcomes.update({outcome: int(count) for outcome, count in outcomes.items() if count})

    def note(self, folder: Path = NOTES, record: Path = RECORD) -> None:
        """Writes it. Raises AssertionError if less was tried than the book says."""
        kind, what = self.named or ("", "")
        found = {"kind": kind, "what": what, "slow": self.slow, "outcomes": dict(sorted(self.outcomes.items()))}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{crc32(self.test.encode()):08x}.json").write_text(json.dumps({self.test: found}))
        claimed = json.loads(record.read_text())["tests"].get(self.test) if record.exists() else None
        assert claimed is None or self.outcomes.total() >= LEAST * sum(claimed["outcomes"].values()), (
            f"the book says {claimed}, this was {found}: run the tests, then python book/trust.py"
        )
