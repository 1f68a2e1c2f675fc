"""How well turned boxes are found: average precision by their overlap, and how far angles are off.

Average precision is COCO's, computed here, since torchmetrics knows no turned boxes; of upright ones both agree.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kdlib.elsewhere.boxes.precision import check
from kdlib.elsewhere.boxes.tensors import SMALLEST
from kdlib.elsewhere.oriented.boxes import TurnedBoxes
from kdlib.elsewhere.oriented.detector import TurnedFound
from kdlib.elsewhere.oriented.geometry import angle_between, shared_area, table, upright

THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
RECALLS = torch.linspace(0, 1, 101).double().numpy()  # in torchmetrics' rounding: 0.3 is then above 3 of 10
CLEAR = 1.2  # a box whose long side is that many times the short one has an angle that one can see
MATCHED = 0.5  # IoU of two boxes before they are turned, from which on their angles are compared


def average_precisions(found: Sequence[TurnedFound], boxes: TurnedBoxes) -> dict[str, float]:
    """ap50, ap75 and ap in percent: at a turned IoU of 0.5, of 0.75, and the mean over 0.5, 0.55, ..., 0.95.

    Means over the classes that are to be found. Of what hides in a box that is not asked for nothing counts, however
    many find it. Raises ValueError where no box is to be found, or for another number of images.
    """
    check(found, boxes)
    labels = boxes.labels[boxes.kept].unique().tolist()
    values = np.array([_of_class(found, boxes, label) for label in labels]).mean(0)
    by_threshold = dict(zip(THRESHOLDS, 100 * values, strict=True))
    chosen = {"ap50": by_threshold[0.5], "ap75": by_threshold[0.75], "ap": np.mean(list(by_threshold.values()))}
    return {name: float(value) for name, value in chosen.items()}


def _of_class(found: Sequence[TurnedFound], boxes: TurnedBoxes, label: int) -> list[float]:
    """Average precision of one class at each threshold, as COCO has it."""
    scores: list[Tensor] = []
    outcomes: list[Tensor] = []  # int8 [thresholds, n] of each image
    for one, own, labels, kept, hidden in zip(
        found, boxes.turned, boxes.labels, boxes.kept, boxes.ignored, strict=True
    ):
        mine = one.labels == label
        order = one.scores[mine].argsort(descending=True, stable=True)
        answers = one.boxes[mine][order]
        scores.append(one.scores[mine][order])
        outcomes.append(_outcomes(answers, own[kept & (labels == label)], own[hidden & (labels == label)]))
    ranked = torch.cat(scores).argsort(descending=True, stable=True)
    total = int((boxes.kept & (boxes.labels == label)).sum())
    return [_area(row[ranked], total) for row in torch.cat(outcomes, 1)]


def _outcomes(answers: Tensor, asked: Tensor, hidden: Tensor) -> Tensor:
    """int8 [thresholds, n] of an image's answers, best first: 1 a hit, 0 a miss, -1 counts neither way."""
    found = torch.zeros(len(THRESHOLDS), len(answers), dtype=torch.int8)
    best = torch.zeros(len(answers), dtype=torch.float64)  # the largest part of an answer in what is not asked for
    if len(hidden) and len(answers):
        areas = answers[:, 2:4].double().prod(1).clamp_min(SMALLEST)
        best = (shared_area(answers[:, None], hidden) / areas[:, None]).amax(1)
    overlaps = table(answers, asked, least=THRESHOLDS[0]).tolist()
    for row, threshold in zip(found, THRESHOLDS, strict=True):
        free = set(range(len(asked)))
        for k, own in enumerate(overlaps):
            match = max(free, key=own.__getitem__, default=None)
            if match is not None and own[match] >= threshold:
                free.remove(match)
                row[k] = 1
            elif best[k] >= threshold:
                row[k] = -1
    return found


def _area(outcomes: Tensor, total: int) -> float:
    """The mean of precision at 101 recalls, made monotone, of outcomes from the best score down."""
    hits = outcomes[outcomes >= 0].numpy().astype(float)
    recall, precision = hits.cumsum() / total, hits.cumsum() / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(best, 0.0)[places].mean())


def angle_errors(found: Sequence[TurnedFound], boxes: TurnedBoxes) -> dict[str, float | int | None]:
    """How far angles are off, in degrees, over objects that were found whatever their angle: medians.

    An object is matched with the best answer of its class whose box, before both are turned, overlaps with it by half:
    an overlap of turned boxes would leave out those with a wrong angle. "angle_error": of all that are matched;
    "clear_angle_error": of those whose sides differ by a fifth, as others have no angle that one can see. None of no
    object. "matched" and "clear_matched": how many. Raises ValueError as `average_precisions` does.
    """
    check(found, boxes)
    errors, clear = [torch.zeros(0)], [torch.zeros(0, dtype=torch.bool)]
    for one, own, labels, kept in zip(found, boxes.turned, boxes.labels, boxes.kept, strict=True):
        asked, wanted = own[kept], labels[kept]
        answer = _matches(one, asked, wanted)
        there = answer >= 0
        errors.append(angle_between(one.boxes[answer[there], 4], asked[there, 4]))
        clear.append(asked[there, 2] >= CLEAR * asked[there, 3])
    every, seen = torch.cat(errors), torch.cat(clear)
    return {
        "angle_error": _median(every), "clear_angle_error": _median(every[seen]),
        "matched": len(every), "clear_matched": int(seen.sum()),
    }  # fmt: skip


def _matches(one: TurnedFound, asked: Tensor, wanted: Tensor) -> Tensor:
    """int64 [asked]: the answer that is matched with each object, or -1; each answer with one object."""
    from torchvision.ops import box_iou  # takes a while to import

    found = torch.full((len(asked),), -1)
    overlaps = box_iou(upright(one.boxes), upright(asked))
    overlaps = overlaps.masked_fill(one.labels[:, None] != wanted, 0)
    for k in one.scores.argsort(descending=True, stable=True).tolist():
        left = overlaps[k].masked_fill(found >= 0, -1)
        if len(asked) and left.max() >= MATCHED:
            found[left.argmax()] = k
    return found


def _median(values: Tensor) -> float | None:
    return float(np.median(values.numpy())) if len(values) else None
