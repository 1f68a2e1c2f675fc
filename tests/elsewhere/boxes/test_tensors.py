"""Boxes in batches: what a border leaves of them, and overlap against torchvision."""

import pytest
import torch
from torchvision.ops import box_iou

from kdlib.elsewhere.boxes.tensors import Boxes, area, clipped, paired_iou


def random_corners(count: int, seed: int = 0) -> torch.Tensor:
    places = 100 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat([places, places + 1 + 50 * torch.rand(count, 2)], 1)


def test_overlap_is_that_of_torchvision() -> None:
    a, b = random_corners(200), random_corners(200, 1)
    assert torch.allclose(paired_iou(a, b), box_iou(a, b).diagonal(), atol=1e-6)
    assert paired_iou(torch.zeros(4), torch.zeros(4)) == 0


@pytest.mark.parametrize(
    ("left", "kept", "ignored"), [(1.0, 1, 0), (0.5, 1, 0), (0.49, 0, 1), (0.1, 0, 1), (0.09, 0, 0)]
)
def test_what_is_visible_decides(left: float, kept: int, ignored: int) -> None:
    width = 100.0
    boxes = clipped(Boxes.stack([(torch.tensor([[(left - 1) * width, 0, left * width, 10]]), torch.tensor([3]))]), 128)
    assert boxes.shares.item() == pytest.approx(left, abs=1e-6)
    assert (boxes.kept.sum(), boxes.ignored.sum()) == (kept, ignored)
    assert area(boxes.corners).item() == pytest.approx(left * 1000, rel=1e-5)


def test_what_is_cut_twice_is_counted_from_the_whole() -> None:
    boxes = Boxes.stack([(torch.tensor([[-40.0, 0, 60, 10]]), torch.tensor([0]))])
    once = clipped(boxes, 128)
    again = clipped(Boxes(once.corners - torch.tensor([20.0, 0, 20, 0]), once.labels, once.shares), 128)
    assert (once.shares.item(), again.shares.item()) == (pytest.approx(0.6), pytest.approx(0.4))


def test_images_of_few_boxes_have_empty_rows() -> None:
    parts = [(random_corners(n), torch.arange(n)) for n in (2, 0, 5)]
    boxes = Boxes.stack(parts)
    assert boxes.corners.shape == (3, 5, 4) and (boxes.labels >= 0).sum(1).tolist() == [2, 0, 5]
    assert torch.equal(boxes[torch.tensor([2])].corners[0], parts[2][0])
    assert not clipped(boxes, 128).kept[1].any() and not clipped(boxes, 128).ignored[1].any()
    assert clipped(boxes, 128).shares.isfinite().all()
