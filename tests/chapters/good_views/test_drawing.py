"""Figures of chapter 11: gaps say so, names stay apart and inside, nothing warns."""

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from kdlib.chapters.good_views.drawing import by_measure, policy_views, spread_and_loss
from kdlib.chapters.registry import create_study
from kdlib.data.images import BUNDLED, load_data
from kdlib.study.setting import Setting

from ...conftest import drawn

pytestmark = pytest.mark.usefixtures("strict_figures")

NAMES = ["twin", "weak2", "cutout", "rot2", "JDA, p = 0.1", "JDA, p = 0.3", "JDA, p = 0.6", "JDA, p = 1", "RandAugment"]


@pytest.fixture(autouse=True)
def _strict(isolated):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def made_up(generator: np.random.Generator, seeds: int = 5) -> pd.DataFrame:
    """Points of nine policies, some close to each other."""
    spread = np.array([55, 54.5, 50, 41, 53, 48, 42, 35, 52]) * 1e-4
    loss = 2 + 30 * spread + generator.normal(0, 0.02, len(spread))
    columns = {"spread": spread, "error": spread / 100, "labels": 0.0055, "draws": 310.0, "loss": loss,
               "low": loss - 0.02, "high": loss + 0.02, "seeds": float(seeds)}  # fmt: skip
    return pd.DataFrame(columns, index=NAMES)


def names_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_every_policy_is_a_named_point(generator):
    points = made_up(generator)
    figure = drawn(spread_and_loss(points, NAMES[4:8]))
    axis = figure.axes[0]
    assert names_of(figure) == NAMES
    dots = [tuple(c.get_offsets()[0]) for c in axis.collections if len(c.get_offsets()) == 1]
    for name in NAMES:
        assert any(np.allclose(dot, points.loc[name, ["spread", "loss"]].astype(float)) for dot in dots)
    assert np.allclose(axis.lines[0].get_xdata(), points.spread[NAMES[4:8]])  # joined in the order of p
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a teacher that always gives the label"]
    assert axis.get_title(loc="left") == ""


@pytest.mark.parametrize("seed", range(3))
def test_names_overlap_neither_each_other_nor_the_frame(seed):
    figure = drawn(spread_and_loss(made_up(np.random.default_rng(seed)), NAMES[4:8]))
    axis = figure.axes[0]
    boxes = [text.get_window_extent() for text in axis.texts if text.get_text()]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    frame = axis.get_window_extent().padded(2)
    assert all(frame.contains(*box.min) and frame.contains(*box.max) for box in boxes)


def test_intervals_are_drawn_from_three_seeds_on(generator):
    points = made_up(generator)

    def upright(figure: Figure) -> int:
        lines = [line.get_xydata() for line in figure.axes[0].lines[1:]]
        spans = [xy for xy in lines if len(xy) == 2 and xy[0, 0] == xy[1, 0] and not np.isnan(xy).any()]
        return sum(abs(xy[0, 1] - xy[1, 1]) == pytest.approx(0.04) for xy in spans)

    assert upright(drawn(spread_and_loss(points))) == len(NAMES)
    assert upright(drawn(spread_and_loss(points.assign(seeds=2.0)))) == 0
    drawn(spread_and_loss(points.assign(error=math.nan)))  # two draws


def test_gaps_say_so(generator):
    points = made_up(generator)
    points.loc["cutout", ["spread", "error", "labels", "draws"]] = math.nan
    points.loc[["twin", "rot2"], ["loss", "low", "high"]] = math.nan
    figure = drawn(spread_and_loss(points))
    assert figure.axes[0].get_title(loc="left") == "not run: cutout; students not run: twin, rot2"
    assert set(names_of(figure)) == set(NAMES) - {"cutout"}
    assert figure.axes[0].collections[-1].get_offsets()[:, 1].tolist() == [figure.axes[0].get_ylim()[0]] * 2
    nobody = points.assign(loss=math.nan, low=math.nan, high=math.nan, seeds=0.0).drop(index="cutout")
    assert drawn(spread_and_loss(nobody)).axes[0].get_title(loc="left") == "students not run: all"
    nothing = nobody.assign(spread=math.nan, error=math.nan, labels=math.nan)
    assert names_of(drawn(spread_and_loss(nothing))) == ["not run"]


def test_another_measure(generator):
    measured = {name: {"t_stddev": 0.01, "t_stddev_se": 0.001, "label_spread": 0.02, "draws": 9} for name in NAMES}
    columns = ["arm", "seed", "top1", "nll", "ece", "agreement", "kl_to_teacher", "train_top1", "bn_top1"]
    frame = pd.DataFrame([["twin", 0, 50.0, 1.0, *[None] * 5]], columns=columns)
    explorer = by_measure(measured, frame)
    assert list(explorer.controls["measure"]) == ["top-1, %", "negative log-likelihood, nats"]
    assert explorer.picture("top-1, %").startswith(b"\x89PNG")
    assert list(by_measure(measured, frame[:0]).controls["measure"]) == ["top-1, %"]


def test_views_of_each_policy_are_shown():
    study, images = create_study("11_good_views", Setting.of("smoke", device="cpu")), load_data(BUNDLED).train
    figure = drawn(policy_views(study.measurements, images, count=3))
    labels = [axis.get_ylabel() for axis in figure.axes[::3]]
    assert labels == ["clean view", *study.measurements]
    shown = torch.tensor(np.stack([axis.images[0].get_array() for axis in figure.axes])).unflatten(0, (-1, 3))
    assert torch.equal(shown[0], shown[labels.index("twin")])
    assert not any(torch.equal(shown[0], shown[k]) for k in range(2, len(labels)))
