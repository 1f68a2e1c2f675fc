"""Frozen thresholds of detectors: hits as two other computations have them, brute force, and shifts that AP misses."""

import numpy as np
import pytest
import torch

from kdlib.elsewhere.boxes.detector import Found
from kdlib.elsewhere.boxes.precision import average_precisions
from kdlib.elsewhere.boxes.tensors import Boxes, clipped
from kdlib.elsewhere.boxes.thresholds import (
    NOTHING,
    Ranked,
    at_home_and_elsewhere,
    at_threshold,
    best_threshold,
    calibration,
    ranked,
)
from kdlib.elsewhere.oriented import precision as turned_precision
from kdlib.elsewhere.oriented.boxes import TurnedBoxes
from kdlib.elsewhere.oriented.detector import TurnedFound
from kdlib.elsewhere.oriented.geometry import from_corners

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def answered(random_boxes, guesses):
    """answered(noise, seed): (what was found, boxes) of 12 images in which there is one class."""

    def make(noise: float = 4.0, seed: int = 1) -> tuple[list[Found], Boxes]:
        parts = [(corners, torch.zeros_like(labels)) for corners, labels in random_boxes(12, seed)]
        extra = [  # a second answer to each object, which cannot be a hit too
            one._replace(
                **{n: torch.cat([getattr(one, n)] * 2) for n in ("corners", "labels")},
                scores=torch.cat([one.scores, one.scores / 2]),
            )
            for one in guesses(parts, noise)
        ]
        return extra, Boxes.stack(parts)

    return make


def area_under(answers: Ranked) -> float:
    """Average precision in percent of one class, from hits alone, as COCO has it."""
    hits = answers.hits.numpy()
    recall, precision = hits.cumsum() / answers.asked, hits.cumsum() / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, turned_precision.RECALLS, side="left")
    return 100 * float(np.mean([precision[i] if i < len(precision) else 0.0 for i in places]))


@pytest.mark.parametrize("noise", [0.0, 3.0, 6.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_hits_are_those_of_torchmetrics(answered, noise: float, seed: int) -> None:
    found, boxes = answered(noise, seed)
    answers = ranked(found, boxes)
    assert area_under(answers) == pytest.approx(average_precisions(found, boxes)["ap50"], abs=1e-4)
    assert answers.asked == int(boxes.kept.sum()) and answers.scores.tolist() == sorted(answers.scores, reverse=True)
    assert int(answers.hits.sum()) <= answers.asked < len(answers.scores)


@pytest.mark.parametrize("shift", [0.0, 45.0])
def test_hits_of_two_classes_and_hidden_objects_are_those_of_turned_boxes(random_boxes, guesses, shift: float) -> None:
    parts = [(corners + torch.tensor([shift, 0, shift, 0]), labels) for corners, labels in random_boxes(12, 4)]
    boxes = clipped(Boxes.stack(parts), 128)
    assert bool(boxes.ignored.any()) == bool(shift)
    seen = [
        (corners[k], labels[k])
        for corners, labels, k in zip(boxes.corners, boxes.labels, boxes.labels >= 0, strict=True)
    ]
    found = guesses(seen, 3.0)
    turned = TurnedBoxes(*vars(boxes).values(), torch.zeros_like(boxes.shares))
    upright = [
        TurnedFound(from_corners(one.corners, torch.zeros(len(one.corners))), one.scores, one.labels) for one in found
    ]
    answers, hits = ranked(found, boxes), []
    for one, k in zip(upright, range(len(boxes)), strict=True):
        for label in (0, 1):
            mine = one.labels == label
            order = one.scores[mine].argsort(descending=True, stable=True)
            own = turned.turned[k]
            groups = (own[part[k] & (turned.labels[k] == label)] for part in (turned.kept, turned.ignored))
            outcomes = turned_precision._outcomes(one.boxes[mine][order], *groups)[0]
            hits += [(s, o) for s, o in zip(one.scores[mine][order].tolist(), outcomes.tolist(), strict=True) if o >= 0]
    expected = sorted(hits, key=lambda pair: -pair[0])
    assert answers.scores.tolist() == [score for score, _ in expected]
    assert answers.hits.tolist() == [outcome == 1 for _, outcome in expected]


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_the_one_of_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = torch.tensor(np.sort(random.integers(1, 12, 40) / 12)[::-1].copy())  # many are equal
    answers = Ranked(scores, torch.tensor(random.random(40) < scores.numpy()), 30)
    by_hand = {t: at_threshold(answers, t)["f1"] for t in scores.tolist()}
    threshold, f1 = best_threshold(answers)
    assert 100 * f1 == pytest.approx(max(by_hand.values()))
    assert threshold == max(t for t, value in by_hand.items() if value == pytest.approx(100 * f1))


def test_precision_recall_and_f1_are_their_definitions() -> None:
    answers = Ranked(torch.tensor([0.9, 0.8, 0.6, 0.3]), torch.tensor([True, False, True, True]), 5)
    scores = at_threshold(answers, 0.6)
    assert scores == pytest.approx({"precision": 200 / 3, "recall": 40, "f1": 50})
    assert scores["f1"] == pytest.approx(2 / (1 / scores["precision"] + 1 / scores["recall"]))
    assert at_threshold(answers, 0.95) == {"precision": 0, "recall": 0, "f1": 0}


def test_a_shift_of_all_scores_leaves_average_precision_and_costs_a_frozen_threshold(answered) -> None:
    found, boxes = answered()
    lower = [one._replace(scores=one.scores**3) for one in found]
    assert average_precisions(lower, boxes) == average_precisions(found, boxes)
    same = at_home_and_elsewhere({"home": ranked(found, boxes), "away": ranked(found, boxes)})
    shifted = at_home_and_elsewhere({"home": ranked(found, boxes), "away": ranked(lower, boxes)})
    assert same["threshold_loss"] == pytest.approx(0, abs=1e-9)
    assert 5 < shifted["threshold_loss"] == shifted["away: threshold_loss"]
    assert shifted["away: best_f1"] == pytest.approx(same["f1"]) and shifted["away: recall"] < same["recall"]
    assert shifted["away: overconfidence"] < same["away: overconfidence"] == same["overconfidence"]
    assert shifted["threshold"] == same["threshold"]


def test_a_detector_may_order_perfectly_and_find_nothing(random_boxes, guesses) -> None:
    parts = random_boxes(6, 0)
    found, boxes = guesses(parts, 0.0), Boxes.stack(parts)
    silent = [one._replace(scores=0.1 * one.scores) for one in found]
    home = Ranked(torch.tensor([0.9, 0.8]), torch.tensor([True, True]), 2)
    scores = at_home_and_elsewhere({"home": home, "away": ranked(silent, boxes)})
    assert average_precisions(silent, boxes)["ap50"] == pytest.approx(100)
    assert scores["away: recall"] == scores["away: precision"] == 0 and scores["threshold_loss"] == pytest.approx(100)


def test_the_loss_is_the_mean_over_other_places_and_never_below_zero(answered) -> None:
    places = {str(k): ranked(*answered(noise=2.0 + k, seed=k)) for k in range(4)}
    scores = at_home_and_elsewhere(places)
    losses = [scores[f"{k}: threshold_loss"] for k in range(1, 4)]
    assert scores["threshold_loss"] == pytest.approx(np.mean(losses)) and min(losses) >= 0
    assert "threshold_loss" not in at_home_and_elsewhere({"0": places["0"]})


def test_nothing_found_is_no_error(random_boxes) -> None:
    boxes = Boxes.stack(random_boxes(2, 0))
    nothing = [Found(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))] * 2
    answers = ranked(nothing, boxes)
    assert best_threshold(answers) == (NOTHING, 0.0) and calibration(answers) == {}
    scores = at_home_and_elsewhere({"home": answers, "away": answers})
    assert scores["f1"] == scores["threshold_loss"] == 0 and "ece" not in scores


def test_calibration_is_that_of_double_precision(answered) -> None:
    answers = ranked(*answered())
    scores, hits = answers.scores.double().numpy(), answers.hits.numpy()
    bins = np.digitize(scores, np.linspace(0, 1, 16)[1:-1])
    gaps = [abs(scores[bins == b].mean() - hits[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    assert calibration(answers)["ece"] == pytest.approx(100 * sum(gaps), abs=1e-4)
    assert calibration(answers)["overconfidence"] == pytest.approx(100 * (scores.mean() - hits.mean()))


def test_what_does_not_go_together_is_refused(random_boxes, guesses) -> None:
    parts = random_boxes(2, 0)
    with pytest.raises(ValueError, match="^found = 1 images do not go with boxes of 2"):
        ranked(guesses(parts, 0)[:1], Boxes.stack(parts))
