"""What a threshold that was chosen at one place is worth at another: precision, recall and F1 of detectors.

Average precision sweeps the threshold over the very images that it is computed on, so a shift of all scores stays
unseen (Kleppe, ESMO Open 2022). Here a threshold is chosen at home, and frozen.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlib.elsewhere.boxes.detector import Found
from kdlib.elsewhere.boxes.precision import check
from kdlib.elsewhere.boxes.tensors import SMALLEST, Boxes, area

MATCHED = 0.5  # IoU with an object from which on an answer is a hit
NOTHING = 1.0  # the threshold of a detector that finds nothing, which nothing reaches
BINS = 15  # of equal width, as those of kdlib.lab.metrics.ece
HIT, MISS, NEITHER = 1, 0, -1


class Ranked(NamedTuple):
    """All answers of a detector to some images that count."""

    #: float32 [n], falling
    scores: Tensor
    #: bool [n], whether each is a hit
    hits: Tensor
    #: how many objects are to be found
    asked: int


def ranked(found: Sequence[Found], boxes: Boxes) -> Ranked:
    """Answers of each image, and which are hits: the best first, each takes the free object of its class with which it
    overlaps most, by an IoU of 0.5 at least. What is found of objects that are hardly visible counts neither way.

    boxes: of the same images, on the CPU. Raises ValueError where no box is to be found, or for another number of
    images.
    """
    check(found, boxes)
    scores = torch.cat([one.scores for one in found])
    outcomes = torch.cat([_outcomes(one, boxes[k : k + 1]) for k, one in enumerate(found)])
    order = scores.argsort(descending=True, stable=True)
    order = order[outcomes[order] != NEITHER]
    return Ranked(scores[order], outcomes[order] == HIT, int(boxes.kept.sum()))


def _outcomes(one: Found, boxes: Boxes) -> Tensor:
    """int8 [n]: of each answer to one image whether it is a hit, a miss or neither."""
    from torchvision.ops import box_iou  # takes a while to import

    corners, labels, free = boxes.corners[0], boxes.labels[0], boxes.kept[0].clone()
    same = one.labels[:, None] == labels
    overlaps = box_iou(one.corners, corners) * same
    hidden = (_inside(one.corners, corners) * (same & boxes.ignored[0]) >= MATCHED).any(1)
    outcomes = torch.where(hidden, NEITHER, MISS).to(torch.int8)
    for k in one.scores.argsort(descending=True, stable=True).tolist():
        best, match = (overlaps[k] * free).max(0)
        if best >= MATCHED:
            free[match] = False
            outcomes[k] = HIT
    return outcomes


def _inside(answers: Tensor, corners: Tensor) -> Tensor:
    """float [n, m]: which part of each answer [n, 4] lies in each box [m, 4]."""
    start = torch.maximum(answers[:, None, :2], corners[:, :2])
    end = torch.minimum(answers[:, None, 2:], corners[:, 2:])
    return area(torch.cat([start, end], -1)) / area(answers)[:, None].clamp_min(SMALLEST)


def best_threshold(answers: Ranked) -> tuple[float, float]:
    """(the score that as threshold has the largest F1, that F1); of equally good ones the highest.

    >>> best_threshold(Ranked(torch.tensor([0.75, 0.5, 0.25]), torch.tensor([True, True, False]), 3))
    (0.5, 0.8)
    """
    if not len(answers.scores):
        return NOTHING, 0.0
    last = torch.cat([answers.scores[1:] != answers.scores[:-1], torch.tensor([True])]).nonzero()[:, 0]
    f1 = 2 * answers.hits.cumsum(0)[last].double() / (last + 1 + answers.asked)
    best = int(f1.argmax())
    return float(answers.scores[last[best]]), float(f1[best])


def at_threshold(answers: Ranked, threshold: float) -> dict[str, float]:
    """precision (0 where nothing reaches the threshold), recall and f1, in percent."""
    called = answers.scores >= threshold
    hits, calls = int((answers.hits & called).sum()), int(called.sum())
    fractions = {
        "precision": hits / max(calls, 1),
        "recall": hits / answers.asked,
        "f1": 2 * hits / (calls + answers.asked),
    }
    return {name: 100 * fraction for name, fraction in fractions.items()}


def at_home_and_elsewhere(places: Mapping[str, Ranked]) -> dict[str, Any]:
    """What the threshold that is best at the first place is worth there and at the others, in percent.

    "threshold"; precision, recall and f1, and those of another place behind its name, as "NAME: f1"; of each other
    place its best_f1 for a threshold chosen there, and threshold_loss, by how much that is more; "threshold_loss", the
    mean of these, where there are other places. overconfidence, the mean score less the part of hits, in points, and
    ece, both over all answers; of no answers left out.
    """
    first, *others = places
    threshold, _ = best_threshold(places[first])
    scores: dict[str, Any] = {"threshold": threshold} | at_threshold(places[first], threshold)
    scores |= calibration(places[first])
    losses = []
    for name in others:
        frozen, (_, best) = at_threshold(places[name], threshold), best_threshold(places[name])
        losses.append(100 * best - frozen["f1"])
        own = frozen | {"best_f1": 100 * best, "threshold_loss": losses[-1]} | calibration(places[name])
        scores |= {f"{name}: {score}": value for score, value in own.items()}
    return scores | ({"threshold_loss": sum(losses) / len(losses)} if losses else {})


def calibration(answers: Ranked) -> dict[str, float]:
    """overconfidence and ece of `at_home_and_elsewhere`, in points."""
    from torchmetrics.functional.classification import binary_calibration_error  # takes seconds to import

    if not len(answers.scores):
        return {}
    gap = answers.scores.double().mean() - answers.hits.double().mean()
    ece = binary_calibration_error(answers.scores, answers.hits.long(), n_bins=BINS)
    return {"overconfidence": 100 * float(gap), "ece": 100 * float(ece)}
