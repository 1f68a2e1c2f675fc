"""The figure of chapter 18: a panel per measure of the budget, the floor dashed, the crossing marked."""

import pytest

from kdlib.chapters.budget.drawing import accuracy
from kdlib.study.stats import mean_interval

from ...conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("strict_figures")

FULL, TWO = mean_interval([50, 51, 53]), mean_interval([50, 52])
PANELS = {
    "views": {"CCD": {10: FULL, 20: TWO, 40: FULL}, "no teacher": {10: TWO, 40: FULL}},
    "TMACs": {"CCD": {39.2: FULL, 78.3: TWO, 156.7: FULL}, "no teacher": {18.8: TWO, 75.0: FULL}},
}


def test_every_curve_is_in_every_panel_and_the_floor_is_dashed():
    figure = drawn(accuracy(PANELS, "no teacher"))
    for axis, (label, curves) in zip(figure.axes, PANELS.items(), strict=True):
        assert axis.get_xlabel() == label and axis.get_xscale() == "log"
        assert [line.get_xdata().tolist() for line in axis.lines] == [list(points) for points in curves.values()]
        assert [line.get_linestyle() for line in axis.lines] == ["-", "--"]
        assert sum(len(bars.get_segments()) for bars in axis.collections) == 3  # two seeds have no bar
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["CCD", "no teacher"]
    views, work = figure.axes
    assert [t.get_text() for t in views.get_xticklabels()] == ["10", "20", "40"]
    assert [t.get_text() for t in work.get_xticklabels()] == ["18.8", "39.2", "75", "157"]  # 78.3 is too near


def test_a_crossing_is_marked_in_the_first_panel():
    figure = drawn(accuracy(PANELS, "no teacher", crossing=28.3))
    views, work = figure.axes
    assert views.lines[-1].get_xdata() == pytest.approx([28.3, 28.3]) and len(work.lines) == 2
    assert "crossing" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_gaps_say_so():
    figure = accuracy({"views": {}, "TMACs": {}}, "no teacher")
    assert texts(figure) == ["not run"] * 2 and not figure.legends
