"""Figures of chapter 01: heights are the stored numbers, gaps say so, nothing warns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kdlib.chapters.data_and_teachers import drawing
from kdlib.data.images import BUNDLED, load_data
from kdlib.lab.measures.scores import BINS, TEMPERATURES, calibration
from kdlib.models.checkpoints import PUBLIC

from ...conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("strict_figures")


@pytest.fixture
def metrics(generator) -> dict:
    logits, labels = 2 * generator.normal(size=(400, 10)), generator.integers(0, 10, 400)
    logits[np.arange(400), labels] += 2
    stored = [calibration(torch.tensor(logits), torch.tensor(labels), t) for t in TEMPERATURES]
    return {"test_top1": 70.0, "distinct_top1": 69.0, "train_top1": 99.0, "temperatures": stored}


def test_accuracies_stand_beside_what_is_published(metrics):
    figure = drawn(drawing.accuracies({"cifar100_resnet56": metrics, "cifar100_resnet20": None, "own": metrics}))
    (axis,) = figure.axes
    points = [tuple(line.get_xydata()[0]) for line in axis.lines]
    assert {(70.0, 0.0), (69.0, 0.0), (99.0, 0.0), (PUBLIC["cifar100_resnet56"].top1, 0.0)} <= set(points)
    assert [p for p in points if p[1] == 1] == [(68.83, 1.0)]  # published, though nothing is measured
    assert {x for x, y in points if y == 2} == {70.0, 69.0, 99.0}  # nothing is published
    assert texts(figure) == ["not run"]
    assert len(figure.legends[0].get_texts()) == 4
    assert texts(drawn(drawing.accuracies({"x": None}))) == ["not run"]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_bars_of_reliability_are_the_stored_numbers(metrics, temperature):
    figure = drawn(drawing.reliability({"a": metrics, "b": None}, temperature))
    upper, empty, lower, _ = figure.axes
    found = drawing.at(metrics, temperature)
    some = [k for k in range(BINS) if found["counts"][k]]
    confidence, accuracy, both = upper.containers
    tops = [np.array([bar.get_y() + bar.get_height() for bar in bars]) for bars in (confidence, accuracy, both)]
    assert tops[0] == pytest.approx([max(found["confidence"][k], min(tops[2][i], 1)) for i, k in enumerate(some)])
    assert tops[1] == pytest.approx([found["accuracy"][k] for k in some])
    assert tops[2] == pytest.approx([min(found["accuracy"][k], found["confidence"][k]) for k in some])
    assert [bar.get_x() for bar in both] == pytest.approx([k / BINS for k in some])
    assert [bar.get_height() for bar in lower.containers[0]] == pytest.approx([n / 400 for n in found["counts"]])
    assert f"ECE {found['ece']:.3f}" in upper.get_title()
    assert [t.get_text() for t in empty.texts] == ["not run"]


def test_a_temperature_that_was_not_measured_is_refused(metrics):
    with pytest.raises(ValueError, match=r"^temperature = 7 was not measured; allowed are 0.5, 0.75, 1.0"):
        drawing.reliability({"a": metrics}, 7)


def test_lines_over_temperatures(metrics):
    figure = drawn(drawing.temperatures({"a": metrics, "b": None}))
    for panel, name in zip(figure.axes, ("ece", "nll"), strict=True):
        (line,) = panel.lines
        assert line.get_xdata().tolist() == list(TEMPERATURES)
        assert line.get_ydata().tolist() == [found[name] for found in metrics["temperatures"]]
    assert texts(drawn(drawing.temperatures({"b": None}))) == ["not run", "not run"]


def test_the_explorer_has_a_picture_for_each_temperature_and_none_in_a_gap(metrics):
    explorer = drawing.by_temperature({"a": metrics, "b": None}, (1.0, 4.0))
    assert explorer.html().count('"others"') == 1
    assert explorer.picture(1.0) != explorer.picture(4.0)
    assert drawing.by_temperature({"a": None}) is None


def test_the_closest_pairs_are_shown_in_order():
    data = load_data(BUNDLED)
    test = replace(data.test, images=data.test.images[:40].clone())
    test.images[[9, 21]] = data.train.images[[5, 600]]
    figure = drawn(drawing.closest(type(data)(data.train, test), count=3))
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(shown) == 12
    for column in (0, 1):  # exact twins come first
        assert np.array_equal(shown[column], shown[3 + column])
    assert not np.array_equal(shown[2], shown[5])
