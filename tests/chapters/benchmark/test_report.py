"""What the benchmark says: which ratios, targets met or not, JSON that reads back, and a figure."""

import re

import pytest
import torch
from PIL import Image

from kdlib.chapters.benchmark import report
from kdlib.lab.progress import Meter

from .conftest import CHOICES, GROWTHS, MEASURED, SHARES, SMALL

RECORDS = {"shares": SHARES, "growths": GROWTHS, "small networks": SMALL, "choices": CHOICES}

pytestmark = pytest.mark.usefixtures("isolated")


def test_what_is_compared_with_what(found):
    """Each ratio again, by hand, from the arms of its measurement."""
    by_hand = {
        "views": 10.0, "plain": 2.5, "bank": 5.0, "bare": 25 / 26, "products": 0.8, "stored": 2.1, "parallel": 1.1,
        "memory": 0.25, "floor": 6.0, "exact": 0.5, "small floor": 4.0, "threads": 20 / 11, "beside": 2.0,
        "folded": 1.2, "photo step": 0.9, "photo views": 2.0, "decoding": 20.0,
    }  # fmt: skip
    assert {c.name: c.value.median for c in found.comparisons} == pytest.approx(by_hand)
    met = {c.name for c in found.comparisons if c.met}
    assert met == {"views", "bank", "bare", "products", "memory"}
    assert {c.name for c in found.comparisons if c.met is False} == {"plain", "stored", "parallel", "photo step"}


def test_targets():
    targets = {row[0]: row[2] for rows in report.COMPARED.values() for row in rows if row[2] is not None}
    assert targets == {
        "views": 8, "plain": 2.6, "bank": 4.6, "bare": 0.92, "products": 0.78, "stored": 3, "parallel": 1.2,
        "memory": 1.5, "photo step": 0.92,
    }  # fmt: skip


def test_what_was_not_measured_is_left_out():
    assert report.compared({"memory": {}}) == []
    some = {name: MEASURED["wide"][name] for name in ("kdlib", "plain program")}
    assert [c.name for c in report.compared({"wide": some})] == ["plain"]


def test_the_table_says_what_is_met(found):
    table = report.table(found)
    assert table.loc["JDA views on one core, against PIL"].tolist() == [
        "10.00 (9.50 to 10.50)", "at least 8", "yes", "kdlib 100, PIL 10 views/s",
    ]  # fmt: skip
    assert table.loc["memory of a WRN run above import"].tolist() == ["0.25", "at most 1.5", "yes", "most 0.25 GB"]
    assert (table.met == "yes").sum() == 5
    rest = report.table(found, targets=False)
    assert len(table) + len(rest) == len(found.comparisons) and "target" not in rest
    assert report.table(None).empty


def test_the_file_reads_back_and_has_a_figure(found, tmp_path):
    path = tmp_path / "new" / "benchmark.json"
    report.write(found, path)
    assert report.read(path) == found
    assert sorted(p.name for p in path.parent.iterdir()) == ["benchmark.json", "benchmark.png"]
    assert Image.open(path.with_suffix(".png")).size[0] > 600


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"rounds": 3}', "nonsense"])
def test_another_file_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} holds no benchmark; `python -m kdlib bench`"):
        report.chosen(str(path))


def test_the_published_one_is_shown_unless_another_is_chosen(found, isolated):
    assert report.published() is None and report.chosen("auto") is None
    report.write(found, isolated / "results" / "benchmark" / "benchmark.json")
    assert report.chosen("auto") == report.published() == found
    with pytest.raises(ValueError, match=r"^file = 'none.json' does not exist; allowed are auto, and"):
        report.chosen("none.json")


def test_progress_goes_through_all_parts_and_never_back(monkeypatch):
    """Stand-ins of no work tell halves; what is asked of them is one round."""
    seen, asked = [], []

    def stand_in(name):
        def way(rounds, tell):
            asked.append((name, rounds, torch.get_num_threads()))
            tell(0.5)
            return (RECORDS | MEASURED)[name]

        return way

    parts = {name: part._replace(measure=stand_in(name)) for name, part in report.PARTS.items()}
    monkeypatch.setattr(report, "PARTS", parts)
    found = report.measure(1, lambda finished, shares: seen.append((finished, dict(shares))))
    assert asked == [(name, 1, 1 if name in ("views", "growths", "photographs") else report.THREADS) for name in parts]
    meter = Meter({name: part.weight for name, part in parts.items()}, {})
    done = [meter.read(finished, shares).share for finished, shares in seen]
    assert done == sorted(done) and done[0] == 0 and 0.9 < done[-1] < 1
    assert list(dict.fromkeys(name for _, shares in seen for name in shares)) == list(parts)
    assert found.growths == GROWTHS and found.shares == SHARES
    assert found.small == SMALL and found.choices == CHOICES


def test_parts_that_take_no_turns_are_measured_too(monkeypatch):
    monkeypatch.setattr(report, "breakdown", lambda: SHARES)
    monkeypatch.setattr(report, "memory", lambda: MEASURED["memory"])
    assert report.PARTS["shares"].measure(1, None) == SHARES
    assert report.PARTS["memory"].measure(1, None) == MEASURED["memory"]
