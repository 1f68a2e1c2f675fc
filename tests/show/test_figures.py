"""Figures: closed when returned, gaps say so, nothing warns."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import LineCollection, PathCollection

from kdlib.chapters.joint_data_augmentation import drawing, jda_tables
from kdlib.show import figures, pictures
from kdlib.study.stats import mean_interval
from kdlib.views.policies import jda

from ..conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("strict_figures")


def frame(values: dict) -> pd.DataFrame:
    rows = [{"arm": a, "seed": s, "top1": v, "views": 100 * (s + 1), "nll": 1.0}
            for a, vs in values.items() for s, v in enumerate(vs)]  # fmt: skip
    return pd.DataFrame(rows, columns=["arm", "seed", "top1", "views", "nll"])


def segments(axis) -> list[list[list[float]]]:
    """The ends of all lines that were drawn as intervals."""
    return [part.tolist() for c in axis.collections if isinstance(c, LineCollection) for part in c.get_segments()]


def dots(axis) -> list[list[list[float]]]:
    """The places of the dots, a list for each look that has some."""
    return [
        c.get_offsets().tolist() for c in axis.collections if isinstance(c, PathCollection) and len(c.get_offsets())
    ]


def test_arms_show_each_seed_and_gaps():
    figure = drawn(figures.arms(frame({"x": [50.0, 52.0, 54.0], "y": [60.0]}), ["x", "gap", "y"]))
    (axis,) = figure.axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["x", "y"]
    drawn_seeds = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axis.lines
                   if line.get_marker() == "."]  # fmt: skip
    assert drawn_seeds == [([50, 52, 54], [0, 0, 0]), ([60], [1])]
    assert texts(figure) == []
    (means,) = (line for line in axis.lines if line.get_marker() == "|")
    assert (list(means.get_xdata()), list(means.get_ydata())) == ([52, 60], [0, 1])
    interval = mean_interval([50.0, 52.0, 54.0])
    assert np.allclose(segments(axis), [[[interval.low, 0], [interval.high, 0]]])  # one seed has no interval
    assert texts(drawn(figures.arms(frame({}), ["x", "y"]))) == ["not run"]
    floor = drawn(figures.arms(frame({"x": [50.0, 52.0], "no teacher": [40.0, 41.0]}), ["x", "no teacher"]))
    assert [40.5, 40.5] in [list(line.get_xdata()) for line in floor.axes[0].lines]


def test_a_forest_shows_differences_and_gaps():
    rows = {"a": mean_interval([1.0, 1.2, 1.4]), "b": mean_interval([]), "c": mean_interval([2.0])}
    figure = drawn(figures.forest(rows))
    (axis,) = figure.axes
    assert texts(figure) == ["not measured"]
    low, high = axis.get_xlim()
    assert low < 0 < 2 < high
    assert np.allclose(segments(axis), [[[rows["a"].low, 0], [rows["a"].high, 0]]])
    assert dots(axis) == [[[rows["a"].mean, 0.0], [2.0, 2.0]]]
    assert texts(drawn(figures.forest({"b": mean_interval([])}))) == ["not measured"]
    drawn(figures.forest({"x": mean_interval([1.0, 100.0])}))
    assert texts(drawn(figures.forest({}))) == ["not measured"]


def test_a_forest_can_say_what_each_row_means_and_pale_some():
    rows = {"a": mean_interval([1.0, 1.2, 1.4]), "b": mean_interval([3.0, 3.2, 3.4])}
    figure = drawn(figures.forest(rows, words={"a": "supported", "b": "not tested"}, pale=["b"]))
    (axis,) = figure.axes
    (beside,) = axis.child_axes
    assert [t.get_text() for t in beside.get_yticklabels()] == ["supported", "not tested"]
    clear, hollow = (c for c in axis.collections if isinstance(c, PathCollection))
    assert dots(axis) == [[[rows["a"].mean, 0.0]], [[rows["b"].mean, 1.0]]]
    assert hollow.get_facecolor()[0][:3].tolist() == [1, 1, 1] != clear.get_facecolor()[0][:3].tolist()


def test_answers_are_the_five_largest_by_name():
    soft = np.array([[0.02, 0.5, 0.03, 0.25, 0.1, 0.06, 0.04]])
    figure = drawn(figures.answers(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), ["x"], soft, list("abcdef_")))
    assert texts(figure)[-5:] == ["b 0.50", "d 0.25", "e 0.10", "f 0.06", "  0.04"]


def test_curves_draw_every_arm():
    names = [f"arm {k}" for k in range(9)]  # as many as the chapter on CCD has
    figure = drawn(figures.curves(frame({n: [50.0, 60.0] for n in names}), names))
    assert [line.get_label() for line in figure.axes[0].lines] == names
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines}
    assert len(looks) == len(names)
    assert texts(drawn(figures.curves(frame({}), names))) == ["not run"]


def test_weights_are_shares():
    metrics = {"test_images": 4, "test_w_histogram": [0, 4], "test_floor_histogram": [2, 2], "test_w_mean": 1.5,
               "test_floor_mean": 1.0}  # fmt: skip
    figure = drawn(figures.weight_histograms(metrics))
    values = [patch.get_data().values.tolist() for patch in figure.axes[0].patches]
    assert values == [[0.5, 0.5], [0.0, 1.0]]
    assert texts(drawn(figures.weight_histograms(None))) == ["not run"]


def test_teachers_on_views():
    one = {f"test_{view}_{m}": 1.0 for view in ("original", "augmented") for m in ("top1", "entropy")}
    one |= {"test_w_mean": 1.75, "test_floor_mean": 1.9}
    figure = drawn(figures.teacher_on_views({"JDA": one, "rot2": None}))
    assert texts(figure) == ["not run"] * 3
    assert [bar.get_width() for bar in figure.axes[2].patches] == pytest.approx([0.9, 0.75])  # cosines: w - 1
    figure = drawn(figures.teacher_on_views({"JDA": None, "rot2": one}))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["original", "augmented"]
    assert texts(drawn(figures.teacher_on_views({"JDA": None}))) == ["not run"] * 3


def test_pictures_are_drawn():
    images = pictures.photographs(3)
    assert images.shape == (3, 3, 32, 32)
    assert images.dtype == torch.uint8
    transform = jda()
    table = jda_tables.operations(transform, images, images)
    drawn(figures.tiles([images, images[:2]], ["one", "two"], ["a", "b", "c"]))
    drawn(drawing.operations(transform, images))
    drawn(drawing.fired(jda_tables.fired_counts(transform, table, draws=500)))
    figure = drawn(figures.answers(images, ["x", "y", "z"], np.full((3, 4), 0.25), list("abcd")))
    assert [axis.get_title() for axis in figure.axes[:3]] == ["x", "y", "z"]


def test_the_style_does_not_leak():
    before = dict(plt.rcParams)
    figures.forest({"a": mean_interval([1.0, 2.0])})
    assert dict(plt.rcParams) == before
