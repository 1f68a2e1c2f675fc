"""Turned boxes against shapely, torchvision and closed forms."""

import math

import pytest
import torch
from shapely import affinity
from shapely.geometry import Polygon, box
from torch import Tensor
from torchvision.ops import batched_nms, box_iou
from torchvision.transforms.v2 import functional as v2
from torchvision.tv_tensors import BoundingBoxes

from kdlib.elsewhere.oriented.geometry import (
    angle_between,
    around,
    from_corners,
    holds,
    keep_best,
    outline,
    shared_area,
    table,
    turned,
    turned_iou,
    upright,
    usual,
)

SIDE = 128


def random_boxes(count: int, seed: int = 0, spread: float = 40.0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    draws = torch.rand(count, 5, generator=random, dtype=torch.float64)
    low, room = torch.tensor([40.0, 40, 4, 4, -90]).double(), torch.tensor([spread, spread, 50, 50, 180]).double()
    return low + draws * room


def polygon(one: Tensor) -> Polygon:
    """By shapely's own turning; its y points up, so that anticlockwise as one sees it is a negative angle."""
    cx, cy, w, h, angle = one.tolist()
    return affinity.rotate(box(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), -angle)


def test_areas_are_those_of_shapely() -> None:
    """1,000 random pairs, and the same boxes against turned copies of themselves."""
    first, second = random_boxes(1000), random_boxes(1000, seed=1)
    pairs = [(a, b) for a, b in zip(first, second, strict=True)]
    pairs += [
        (a, a + torch.tensor([0, 0, 0, 0, d])) for a, d in zip(first[:50], torch.linspace(0, 180, 50), strict=True)
    ]
    one, other = (torch.stack(side) for side in zip(*pairs, strict=True))
    expected = [polygon(a).intersection(polygon(b)).area for a, b in pairs]
    assert torch.allclose(shared_area(one, other), torch.tensor(expected, dtype=torch.float64), atol=1e-6)
    ious = [polygon(a).intersection(polygon(b)).area / polygon(a).union(polygon(b)).area for a, b in pairs]
    assert torch.allclose(turned_iou(one, other), torch.tensor(ious, dtype=torch.float64), atol=1e-8)
    assert sum(value > 0 for value in expected) > 500 and min(expected) == 0
    assert torch.allclose(turned_iou(one, other), turned_iou(other, one))


def test_a_table_is_that_of_torchvision() -> None:
    first, second = random_boxes(40).float(), random_boxes(30, seed=1, spread=80).float()
    by_torchvision = box_iou(first, second, fmt="cxcywhr")
    assert torch.allclose(table(first, second), by_torchvision.double(), atol=1e-4)
    assert (table(first, second) == 0).any()


@pytest.mark.parametrize(
    ("sides", "degrees", "expected"),
    [
        ((10, 10), 45, 1 / math.sqrt(2)),
        ((40, 10), 90, 1 / 7),
        ((30, 10), 90, 10 / (2 * 30 - 10)),
        ((25, 25), 90, 1),
        ((40, 10), 180, 1),
        ((40, 10), 0, 1),
        ((40, 10), -180, 1),
    ],
)
def test_closed_forms(sides, degrees, expected) -> None:
    for start in (0, 17.3, -90):
        one, other = (torch.tensor([60.0, 50, *sides, start + d], dtype=torch.float64) for d in (0, degrees))
        assert turned_iou(one, other).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("degrees", "expected"), [(2, 0.930), (5, 0.836), (10, 0.705)])
def test_long_boxes_lose_much_by_little(degrees: float, expected: float) -> None:
    one, other = (torch.tensor([0.0, 0, 4, 1, d], dtype=torch.float64) for d in (0, degrees))
    assert turned_iou(one, other).item() == pytest.approx(expected, abs=6e-4)


def test_half_a_turn_and_a_quarter_with_sides_exchanged_are_the_same_box() -> None:
    first, second = random_boxes(200), random_boxes(200, seed=2)
    half = second + torch.tensor([0, 0, 0, 0, 180.0])
    quarter = second[:, [0, 1, 3, 2, 4]] + torch.tensor([0, 0, 0, 0, 90.0])
    for other in (half, quarter, usual(second)):
        assert torch.allclose(turned_iou(first, other), turned_iou(first, second), atol=1e-9)
    found = usual(second)
    assert (found[:, 2] >= found[:, 3]).all() and (found[:, 4] >= -90).all() and (found[:, 4] < 90).all()
    assert torch.allclose(usual(found), found)


def test_boxes_without_area_share_nothing() -> None:
    empty = torch.tensor([50.0, 50, 0, 0, 0])
    assert turned_iou(empty, empty).item() == 0 == turned_iou(empty, random_boxes(1)[0]).item()
    assert table(random_boxes(0), random_boxes(3)).shape == (0, 3)


def test_turning_is_that_of_torchvision_and_anticlockwise() -> None:
    boxes = random_boxes(60)
    for degrees in (30.0, -75.0, 90.0, 180.0, 250.0):
        held = BoundingBoxes(boxes, format="CXCYWHR", canvas_size=(SIDE, SIDE), clamping_mode=None)
        expected = v2.rotate(held, degrees, center=[SIDE / 2, SIDE / 2]).as_subclass(Tensor)
        found = turned(boxes, degrees, SIDE)
        assert torch.allclose(found[:, :4], expected[:, :4], atol=1e-3)
        assert angle_between(found[:, 4], expected[:, 4]).max() < 1e-3
    up = turned(torch.tensor([SIDE / 2 + 40.0, SIDE / 2, 30, 10, 0]), 90.0, SIDE)  # from the right to the top
    assert torch.allclose(up, torch.tensor([SIDE / 2, SIDE / 2 - 40.0, 30, 10, -90]), atol=1e-4)


def test_outlines_are_those_of_torchvision() -> None:
    boxes = random_boxes(60)
    held = BoundingBoxes(boxes, format="CXCYWHR", canvas_size=(SIDE, SIDE), clamping_mode=None)
    eight = v2.convert_bounding_box_format(held, new_format="XYXYXYXY").as_subclass(Tensor)
    assert torch.allclose(outline(boxes).flatten(1), eight, atol=1e-3)
    assert torch.allclose(from_corners(upright(boxes), boxes[:, 4]), boxes)


def test_the_box_around_a_rectangle_is_the_rectangle_mirrored_or_not() -> None:
    boxes = usual(random_boxes(100))
    assert torch.allclose(around(outline(boxes)), boxes)
    mirrored = around(outline(boxes) * torch.tensor([-1.0, 1]) + torch.tensor([SIDE, 0.0]))
    held = BoundingBoxes(boxes, format="CXCYWHR", canvas_size=(SIDE, SIDE), clamping_mode=None)
    expected = v2.horizontal_flip(held).as_subclass(Tensor)
    assert torch.allclose(mirrored[:, :4], expected[:, :4], atol=1e-3)
    assert angle_between(mirrored[:, 4], expected[:, 4]).max() < 1e-3


def test_the_box_around_what_was_sheared_holds_it_and_keeps_its_axis() -> None:
    points = outline(random_boxes(100)) @ torch.tensor([[1.0, 0.0], [0.3, 1.0]]).double()
    found = around(points)
    assert holds(found[:, None], points, 1e-9).all()
    side = points[:, 1] - points[:, 0]
    direction = torch.rad2deg(torch.atan2(-side[:, 1], side[:, 0]))
    apart = angle_between(found[:, 4], direction)
    assert torch.minimum(apart, 90 - apart).max() < 1e-6


def test_suppression_of_upright_boxes_is_that_of_torchvision() -> None:
    random = torch.Generator().manual_seed(0)
    boxes = random_boxes(300).float()
    boxes[:, 4] = 0
    scores, labels = torch.rand(300, generator=random), torch.randint(0, 3, (300,), generator=random)
    for overlap in (0.2, 0.6):
        expected = batched_nms(upright(boxes), scores, labels, overlap)
        assert torch.equal(keep_best(boxes, scores, labels, overlap), expected)
        assert 0 < len(expected) < 300
    assert len(keep_best(boxes[:0], scores[:0], labels[:0], 0.6)) == 0


def test_suppression_looks_at_the_turned_boxes() -> None:
    """A cross of two long boxes stays; the same two, turned alike, do not."""
    boxes = torch.tensor([[50.0, 50, 40, 8, 45], [50, 50, 40, 8, -45], [51, 50, 40, 8, 45]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64)
    assert keep_best(boxes, scores, labels, 0.6).tolist() == [0, 1]
    assert keep_best(boxes, scores, torch.tensor([0, 0, 1]), 0.6).tolist() == [0, 1, 2]


def test_angles_differ_by_a_quarter_turn_at_most() -> None:
    angles = torch.arange(-90.0, 90)
    assert torch.equal(angle_between(angles, angles + 180), torch.zeros(180))
    assert angle_between(angles[:, None], angles).max() == 90
