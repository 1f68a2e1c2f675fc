"""Figures of curves, grids and costs: what is there is drawn, gaps say so, nothing warns."""

import math

import pandas as pd
import pytest

from kdlib.chapters.ccd_versus_hsakd import drawing
from kdlib.show import series
from kdlib.study.stats import mean_interval

from ..conftest import texts

pytestmark = pytest.mark.usefixtures("strict_figures")

FULL, TWO, NONE = mean_interval([50, 51, 53]), mean_interval([50, 52]), mean_interval([])


def test_sweeps_ring_the_suitable_points():
    figure = series.sweeps({"p": ({0.0: FULL, 0.3: TWO, 1.0: FULL}, (0.3, 1.0)), "share": ({}, ())})
    assert texts(figure) == ["not run"]
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [0, 0.3, 1] and line.get_ydata().tolist() == [FULL.mean, TWO.mean, FULL.mean]
    bars, rings = figure.axes[0].collections
    assert len(bars.get_segments()) == 2  # two seeds have no bar
    assert rings.get_offsets()[:, 0].tolist() == [0.3, 1.0]


def test_sweeps_can_say_which_points_have_few_seeds():
    five = mean_interval([50, 51, 53, 54, 55])
    figure = series.sweeps({"p": ({0.0: five, 0.3: TWO, 1.0: FULL}, ())}, seeds=True)
    assert texts(figure) == ["n = 2", "n = 3"]


def test_lines_have_a_legend_and_a_logarithmic_axis():
    figure = series.lines(
        {"JDA": {0.1: FULL, 1.0: FULL}, "CCD": {0.1: TWO}}, "fraction", "gain", zero=True, shares=True
    )
    (axis,) = figure.axes
    assert not texts(figure) and axis.get_xscale() == "log"
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["JDA", "CCD"]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["10 %", "100 %"]
    assert texts(series.lines({"JDA": {}}, "x", "y")) == ["not run"]


def test_the_grid_prints_means_and_gains():
    cells = {("KD", "weak2"): FULL, ("KD", "JDA"): TWO, ("CRD", "weak2"): NONE, ("CRD", "JDA"): NONE}
    figure = series.grid(["KD", "CRD"], ["weak2", "JDA"], cells, {"KD": mean_interval([1, 2, 1.5]), "CRD": NONE})
    assert texts(figure) == ["51.3", "51.0", "not run", "not run"]
    beside = figure.axes[0].child_axes[0]
    shown = [t.get_text() for t in beside.get_yticklabels()]
    assert shown[0].startswith("+1.50 [") and shown[1] == "not measured"
    empty = dict.fromkeys(cells, NONE)
    assert texts(series.grid(["KD", "CRD"], ["weak2", "JDA"], empty, {"KD": NONE, "CRD": NONE})) == ["not run"] * 4


def test_accuracy_against_costs_leaves_out_what_is_unknown():
    points = pd.DataFrame(
        {"top1": [50.0, 52.0, math.nan], "low": [49.0, math.nan, math.nan], "high": [51.0, math.nan, math.nan],
         "megabytes": [3.0, 9.0, 5.0], "gigamacs": [1.0, 2.0, 2.0], "seconds": [math.nan] * 3},
        index=["CCD", "HSAKD", "CRD"],
    )  # fmt: skip
    figure = drawing.accuracy_against_cost(points)
    assert texts(figure) == ["not run"]
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [3.0, 9.0]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["CCD", "HSAKD"]
    assert [axis.get_xlabel() for axis in figure.axes] == list(drawing.AXES.values())
    assert texts(drawing.accuracy_against_cost(points.assign(top1=math.nan))) == ["not run"] * 3


def test_an_arm_has_one_colour_in_all_panels_also_where_others_are_not_timed():
    columns = {"top1": 50.0, "low": 49.0, "high": 51.0, "megabytes": 3.0, "gigamacs": 1.0}
    points = pd.DataFrame([columns | {"seconds": s} for s in (math.nan, 1.0, 2.0)], index=["no teacher", "CCD", "CRD"])
    *others, timed = drawing.accuracy_against_cost(points).axes
    for panel in others:
        colours = {line.get_label(): line.get_color() for line in panel.lines}
        assert {line.get_label(): line.get_color() for line in timed.lines}.items() <= colours.items()
    assert [line.get_label() for line in timed.lines] == ["CCD", "CRD"]


@pytest.mark.parametrize("arms", [1, 9])
def test_any_number_of_arms(arms: int):
    points = pd.DataFrame(
        [{"top1": 50.0, "low": 49.0, "high": 51.0, "megabytes": 1.0, "gigamacs": 1.0, "seconds": 1.0}] * arms
    )
    points.index = [f"arm {i}" for i in range(arms)]
    assert len(drawing.accuracy_against_cost(points).axes[0].lines) == arms
