"""The detector: its size, its boxes as distributions, and what is left after suppression, against torchvision."""

import pytest
import torch
from torchvision.ops import nms

from kdlib.elsewhere.boxes.detector import (
    BINS,
    STRIDE,
    Detector,
    Said,
    centres,
    decode,
    distances,
    encode,
    find,
)
from kdlib.elsewhere.detection import view_macs
from kdlib.randomness import seeded

pytestmark = pytest.mark.usefixtures("isolated")


def test_its_size_is_what_was_planned() -> None:
    assert [round(view_macs(width, 10) / 1e6, 1) for width in (8, 16, 32)] == [17.8, 68.6, 269.3]


def test_it_says_one_thing_of_each_cell_and_first_that_all_is_background() -> None:
    with seeded(0, "test"):
        said = Detector(8, 3)(torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8))
    assert said.classes.shape == (2, 256, 3) and said.sides.shape == (2, 256, 4, BINS)
    assert said.classes.sigmoid().mean().item() == pytest.approx(0.01, abs=0.01)


def test_cells_are_in_the_order_of_the_grid() -> None:
    places = centres(128)
    assert places.shape == (256, 2) and places[1].tolist() == [12, 4] and places[16].tolist() == [4, 12]


def test_boxes_are_encoded_and_decoded_to_themselves() -> None:
    places = centres(128)
    corners = torch.rand(256, 4) * 50 + torch.tensor([0.0, 0, 60, 60])
    assert torch.allclose(decode(places, encode(places, corners)), corners, atol=1e-4)


def test_a_distribution_on_two_bins_is_the_distance_between_them() -> None:
    logits = torch.full((4, BINS), -1e4)
    logits[:, 3], logits[:, 4] = torch.tensor(0.25).log(), torch.tensor(0.75).log()
    assert torch.allclose(distances(logits), torch.full((4,), 3.75 * STRIDE))


def said_of(boxes: list[tuple[int, tuple[int, int, int, int], int, float]], classes: int = 2) -> Said:
    """What says boxes (cell, distances in strides, class, logit) and nothing else."""
    scores, sides = torch.full((1, 256, classes), -20.0), torch.zeros(1, 256, 4, BINS)
    for cell, away, label, logit in boxes:
        scores[0, cell, label] = logit
        for side, strides in enumerate(away):
            sides[0, cell, side] = -1e4
            sides[0, cell, side, strides] = 0
    return Said(scores, sides)


def test_of_boxes_of_one_class_that_overlap_the_best_is_left() -> None:
    both = [(100, (2, 2, 2, 2), 0, 3.0), (101, (3, 2, 2, 2), 0, 2.0)]
    (found,) = find(said_of([*both, (101, (3, 2, 2, 2), 1, 1.0)]), 128)
    assert found.labels.tolist() == [0, 1] and found.scores[0] == pytest.approx(torch.tensor(3.0).sigmoid().item())
    x, y = centres(128)[100].tolist()
    assert found.corners[0].tolist() == pytest.approx([x - 16, y - 16, x + 16, y + 16], abs=1e-3)


def test_suppression_is_that_of_torchvision_class_by_class() -> None:
    random = torch.Generator().manual_seed(0)
    said = Said(torch.randn(1, 256, 2, generator=random), 3 * torch.randn(1, 256, 4, BINS, generator=random))
    (found,) = find(said, 128)
    corners = decode(centres(128), distances(said.sides[0])).clamp(0, 128)
    expected = []
    for label in (0, 1):
        scores = said.classes[0, :, label].sigmoid()
        kept = [i for i in nms(corners, scores, 0.6).tolist() if scores[i] >= 0.05]
        expected += [(scores[i].item(), label, i) for i in kept]
    best = sorted(expected, reverse=True)[:100]
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in best])
    assert found.labels.tolist() == [label for _, label, _ in best] and len(found.scores) == 100


def test_nothing_found_is_empty() -> None:
    (found,) = find(said_of([]), 128)
    assert found.corners.shape == (0, 4) and len(found.scores) == len(found.labels) == 0
