"""Figures: closed when returned, gaps say so, nothing warns."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

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


def test_arms_show_each_seed_and_gaps():
    figure = drawn(figures.arms(frame({"x": [50.0, 52.0, 54.0], "y": [60.0]}), ["x", "gap", "y"]))
    (axis,) = figure.axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["x", "y"]
    assert sorted(c.get_offsets().shape[0] for c in axis.collections) == [1, 3]
    assert axis.collections[0].get_offsets()[:, 0].tolist() == [50, 52, 54]
    assert texts(figure) == []
    assert 52.0 in [float(line.get_xdata()[0]) for line in axis.lines if len(line.get_xdata()) == 1]  # the mean
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
    ends = [line.get_xdata() for line in axis.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == 0
            and line.get_ydata()[1] == 0]  # fmt: skip
    assert any(np.allclose(e, (rows["a"].low, rows["a"].high)) for e in ends)
    assert texts(drawn(figures.forest({"b": mean_interval([])}))) == ["not measured"]
    drawn(figures.forest({"x": mean_interval([1.0, 100.0])}))
    assert texts(drawn(figures.forest({}))) == ["not measured"]


def test_a_forest_can_say_what_each_row_means_and_pale_some():
    rows = {"a": mean_interval([1.0, 1.2, 1.4]), "b": mean_interval([3.0, 3.2, 3.4])}
    figure = drawn(figures.forest(rows, words={"a": "supported", "b": "not tested"}, pale=["b"]))
    (axis,) = figure.axes
    (beside,) = axis.child_axes
    assert [t.get_text() for t in beside.get_yticklabels()] == ["supported", "not tested"]
    faces = [dots.get_facecolor()[0][:3].tolist() for dots in axis.collections if len(dots.get_offsets()) == 1]
    assert faces[1] == [1, 1, 1] != faces[0]


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
