"""Figures of the benchmark: what is drawn is what was measured, gaps say so, nothing warns."""

import numpy as np
import pytest

from kdlib.chapters.benchmark import drawing
from kdlib.chapters.benchmark.records import Benchmark, Comparison, Growth

from ...conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("strict_figures")


@pytest.fixture
def found() -> Benchmark:
    compared = [
        Comparison.of("a", "A", "per s", {"x": [6.0, 8.0, 9.0], "y": [2.0, 2.0, 2.0]}, target=2.0),
        Comparison.of("b", "B", "per s", {"x": [1.0], "y": [2.0]}, target=1.0),
        Comparison.of("m", "M", "GB", {"most": [0.5]}, target=1.5, higher=False),
        Comparison.of("n", "N", "per s", {"x": [1.0], "y": [2.0]}),
    ]
    growths = [
        Growth(title="one", unit="u", work=[1, 2, 16], seconds=[[1.0], [1.5], [12.0]]),
        Growth(title="two", unit="u", work=[5, 10], seconds=[[1.0, 2.0], [2.0, 4.0]]),
    ]
    shares = {"a": 0.5, "b": 0.3, "c": 0.2}
    return Benchmark(rounds=3, threads=2, comparisons=compared, growths=growths, shares=shares, provenance={})


def test_numbers_stand_relative_to_their_targets(found):
    figure = drawn(drawing.targets(found))
    (axis,) = figure.axes
    points = {
        line.get_ydata()[0]: line for line in axis.lines if line.get_marker() in "oD" and len(line.get_xdata()) == 1
    }
    assert {y: line.get_xdata()[0] for y, line in points.items()} == pytest.approx({0: 2.0, 1: 0.5, 2: 3.0})
    assert [points[y].get_marker() for y in range(3)] == ["o", "D", "o"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["A", "B", "M"]
    assert texts(figure) == ["4.00, target 2", "0.50, target 1", "0.50, target at most 1.5"]
    quartiles = [line.get_xdata() for line in axis.lines if np.array_equal(line.get_ydata(), [0, 0])]
    assert np.allclose(quartiles, [[1.75, 2.125]])  # of 3, 4 and 4.5


def test_shares_are_stacked_to_one(found):
    (axis,) = drawn(drawing.shares(found)).axes
    bars = [bar for container in axis.containers for bar in container]
    assert [bar.get_width() for bar in bars] == pytest.approx([0.5, 0.3, 0.2])
    assert [bar.get_x() for bar in bars] == pytest.approx([0.0, 0.5, 0.8])
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a, 50 %", "b, 30 %", "c, 20 %"]


def test_growth_begins_at_one_and_the_diagonal_is_proportion(found):
    (axis,) = drawn(drawing.growth(found)).axes
    diagonal, one, two = axis.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [1, 16]
    assert list(one.get_xdata()) == [1, 2, 16] and list(one.get_ydata()) == [1.0, 1.5, 12.0]
    assert list(two.get_xdata()) == [1, 2] and list(two.get_ydata()) == [1.0, 2.0]
    assert axis.get_xscale() == axis.get_yscale() == "log"


def test_the_overview_has_all_three(found):
    assert len(drawn(drawing.overview(found)).axes) == 3


@pytest.mark.parametrize("draw", [drawing.targets, drawing.shares, drawing.growth])
def test_without_a_measurement_figures_say_so(draw):
    assert texts(drawn(draw(None))) == ["not measured"]
