"""Words and tables of the chapter on speed, with and without a measurement."""

import pytest

from kdlib.chapters.benchmark import page
from kdlib.chapters.benchmark.report import COMPARED, compared


def test_the_status_says_where_and_when(found):
    said = page.status(found).data
    for word in ("2025-01-02", "commit unknown", "a CPU", "bfloat16", "2 threads", "3 rounds", "torch 2.9", "cifar100"):
        assert word in said
    assert "\n" not in said
    assert "`make bench`" in page.status(None).data


def test_a_missed_target_has_its_reason(found):
    table = page.limits(found)
    assert len(table) == 4
    why = table["what limits it"]
    assert why["WRN step, against the plain program"] == (
        "convolutions take 75 % of the step; if all else took no time, this would be 3.33"
    )
    assert why["ResNet step from a view bank, against fresh views"] == (
        "the student's own step; with views and answers for nothing this would be 4.00, above the target: 52 % of that "
        "is reached"
    )
    assert "1.82 times as fast" in why["two ResNet runs side by side, against in turn"]
    assert why["ResNet-18 step on photographs, against one on fixed tensors"] == "making views takes 10 % of the step"
    assert "2.00 times the work" in why["two ResNet runs side by side, against in turn"]
    assert page.limits(None).empty


def test_a_target_beyond_the_student_alone_is_called_so(found):
    slow = {"view bank": [44.0] * 3, "plain program": [10.0] * 3, "student alone": [45.0] * 3}
    few = found.model_copy(update={"comparisons": compared({"wide": slow})})
    assert page.limits(few)["what limits it"].item() == (
        "the student's own step; with views and answers for nothing this would be 4.50, below the target: 98 % of that "
        "is reached"
    )


def test_every_reason_is_one_of_a_comparison_with_a_target():
    targets = {row[0] for rows in COMPARED.values() for row in rows if row[2] is not None}
    assert set(page.REASONS) <= targets


def test_a_reason_that_was_not_measured_says_so(found):
    few = found.model_copy(update={"comparisons": [c for c in found.comparisons if c.name == "stored"]})
    assert "not measured" in page.limits(few)["what limits it"].item()


def test_growth_in_words(found):
    table = page.growth_table(found)
    assert table.loc["images"].tolist() == ["2 to 8 images", "4", "3.12 (3.06 to 3.19)", "0.78", "yes"]
    assert table.loc["width", "linear or better"] == "no"
    assert page.growth_table(None).empty


def test_words_for_the_prose(found):
    words = page.words(found)
    assert words == {
        "met": "5", "targets": "9", "rounds": "3", "threads": "2", "convolutions": "75 %", "views": "6 %",
    }  # fmt: skip
    assert page.words(None) == dict.fromkeys(words, "not measured")
    assert page.convolutions(found) == pytest.approx(0.75)
