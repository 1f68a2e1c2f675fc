"""Average precision: perfect and poor answers, hidden objects, and a slow computation of our own."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from kdlib.elsewhere.boxes.detector import Found
from kdlib.elsewhere.boxes.precision import average_precisions
from kdlib.elsewhere.boxes.tensors import Boxes, clipped

pytestmark = pytest.mark.usefixtures("isolated")


def slow_ap(found: list[Found], parts: list, threshold: float) -> float:
    """The mean over classes of precision at 101 recalls, made monotone, as COCO has it: written down once more."""
    values = []
    for label in (0, 1):
        hits, total = [], sum(int((labels == label).sum()) for _, labels in parts)
        for one, (corners, labels) in zip(found, parts, strict=True):
            own, free = corners[labels == label], set(range(int((labels == label).sum())))
            mine = one.labels == label
            order = one.scores[mine].argsort(descending=True, stable=True)
            for score, box in zip(one.scores[mine][order].tolist(), one.corners[mine][order], strict=True):
                overlaps = {k: box_iou(box[None], own[k][None]).item() for k in free}
                best = max(overlaps, key=overlaps.get, default=None)
                hit = best is not None and overlaps[best] >= threshold
                hits.append((score, hit))
                free -= {best} if hit else set()
        ranked = np.array([hit for _, hit in sorted(hits, key=lambda x: -x[0])])
        recall, precision = ranked.cumsum() / total, ranked.cumsum() / np.arange(1, len(ranked) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
        values.append(np.mean([precision[i] if i < len(precision) else 0.0 for i in places]))
    return 100 * float(np.mean(values))


def test_perfect_answers_have_all(random_boxes, guesses) -> None:
    parts = random_boxes(5, 0)
    assert average_precisions(guesses(parts, 0.0), Boxes.stack(parts)) == pytest.approx(
        {"ap50": 100, "ap75": 100, "ap": 100}
    )


def test_it_is_what_the_slow_computation_says(random_boxes, guesses) -> None:
    parts = random_boxes(12, 1)
    found = guesses(parts, 3.0)
    scores = average_precisions(found, Boxes.stack(parts))
    assert scores["ap50"] == pytest.approx(slow_ap(found, parts, 0.5), abs=1e-4)
    assert scores["ap75"] == pytest.approx(slow_ap(found, parts, 0.75), abs=1e-4)
    assert 0 < scores["ap75"] < scores["ap50"] < 100
    steps = [slow_ap(found, parts, t) for t in np.arange(0.5, 0.99, 0.05)]
    assert scores["ap"] == pytest.approx(np.mean(steps), abs=1e-4)


def test_what_is_found_of_hidden_objects_counts_neither_way() -> None:
    corners = torch.tensor([[10.0, 10, 40, 40], [100, 100, 190, 130]])  # of the second about a third is visible
    boxes = clipped(Boxes.stack([(corners, torch.tensor([0, 0]))]), 128)
    assert boxes.ignored.tolist() == [[False, True]]
    best = Found(boxes.corners[0], torch.tensor([0.5, 0.9]), torch.tensor([0, 0]))
    assert average_precisions([best], boxes)["ap50"] == pytest.approx(100)
    elsewhere = best._replace(corners=torch.tensor([[10.0, 10, 40, 40], [60, 60, 80, 80]]))
    assert average_precisions([elsewhere], boxes)["ap50"] == pytest.approx(50, abs=1)


def test_nothing_to_be_found_and_other_images_are_refused(random_boxes, guesses) -> None:
    none = Boxes.stack([(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))])
    with pytest.raises(ValueError, match="^boxes have nothing that is to be found"):
        average_precisions(guesses(random_boxes(1, 0), 0), none)
    with pytest.raises(ValueError, match="^found = 2 images do not go with boxes of 1"):
        average_precisions(guesses(random_boxes(2, 0), 0), none)
