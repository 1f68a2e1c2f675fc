"""The figure of chapter 14: the level of fresh views behind the curve, gaps that say so."""

import pytest

from kdlib.chapters.view_bank.drawing import against_fresh
from kdlib.study.stats import mean_interval

from ...conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("strict_figures")

FRESH, FULL, TWO, NONE = (mean_interval(values) for values in ([53, 53.5, 54], [50, 51, 53], [50, 52], []))


def test_the_level_of_fresh_views_is_a_line_with_a_band():
    figure = drawn(against_fresh({1: TWO, 4: FULL, 16: FULL}, FRESH))
    (axis,) = figure.axes
    curve, level = axis.lines
    assert curve.get_xdata().tolist() == [1, 4, 16] and set(level.get_ydata()) == {FRESH.mean}
    (band,) = axis.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((FRESH.low, FRESH.high))
    assert [t.get_text() for t in axis.get_xticklabels()] == ["1", "4", "16"] and axis.get_xscale() == "log"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["fresh views"]


def test_two_seeds_have_no_band():
    (axis,) = drawn(against_fresh({1: TWO}, TWO)).axes
    assert len(axis.lines) == 2 and not axis.patches


def test_gaps_say_so():
    assert texts(against_fresh({}, NONE)) == ["not run"]
    figure = against_fresh({}, FRESH)
    assert texts(figure) == ["not run"] and len(figure.axes[0].patches) == 1
    assert not texts(against_fresh({1: FULL, 4: FULL}, NONE))
