"""The figure of chapter 16: a panel per question, a line per view policy, gaps that say so."""

import numpy as np
import pytest

from kdlib.chapters.sizing.drawing import candidates
from kdlib.study.stats import mean_interval

from ...conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("strict_figures")

FULL, TWO, NONE = mean_interval([50, 51, 53]), mean_interval([50, 52]), mean_interval([])
RATES = {"weak2": {"0.1": TWO, "0.2": FULL}, "JDA": {"0.1": FULL, "0.2": FULL}}


def test_every_question_has_a_panel_with_both_lines():
    panels = {"learning rate": RATES, "student": {"weak2": {"a": FULL, "b": NONE}, "JDA": {"a": FULL, "b": FULL}}}
    figure = drawn(candidates(panels))
    assert [axis.get_xlabel() for axis in figure.axes] == list(panels)
    rate, student = figure.axes
    assert [t.get_text() for t in rate.get_xticklabels()] == ["0.1", "0.2"]
    assert [line.get_ydata().tolist() for line in rate.lines] == [[TWO.mean, FULL.mean], [FULL.mean] * 2]
    bars = [sum(len(bars.get_segments()) for bars in axis.collections) for axis in (rate, student)]
    assert bars == [3, 3]  # two seeds, or none, have no interval
    assert [len(line.get_xdata()) for line in student.lines] == [1, 2]
    assert np.allclose([np.round(line.get_xdata()) for line in rate.lines], [0, 1])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["weak2", "JDA"]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_panels_go_on_in_a_second_row(count):
    figure = drawn(candidates({f"question {k}": RATES for k in range(count)}))
    assert len(figure.axes) == count
    assert [bool(axis.get_ylabel()) for axis in figure.axes] == [k % 3 == 0 for k in range(count)]


def test_gaps_say_so():
    empty = {view: dict.fromkeys(points, NONE) for view, points in RATES.items()}
    figure = candidates({"learning rate": empty, "student": RATES})
    assert texts(figure) == ["not run"] and len(figure.legends) == 1
    assert not candidates({"learning rate": empty}).legends
