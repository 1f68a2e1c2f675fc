"""Turned boxes: centre, width, height and angle; what they share, how they move, and which of them are kept.

A box is float [..., 5]: x and y of the centre, width and height in pixels, and degrees anticlockwise as one sees it, y
pointing down. In its usual form the width is the long side, and the angle lies in [-90, 90).
"""

import torch
from torch import Tensor

from kdlib.elsewhere.boxes.tensors import SMALLEST

HALF_TURN = 180.0
TOUCHING = 1e-9  # how far outside of a box of one pixel a corner may lie, and still count as on its rim


def usual(boxes: Tensor) -> Tensor:
    """The same boxes with the long side first and an angle in [-90, 90).

    >>> usual(torch.tensor([5.0, 5.0, 2.0, 4.0, 10.0])).tolist()
    [5.0, 5.0, 4.0, 2.0, -80.0]
    """
    centre, sides, angles = boxes[..., :2], boxes[..., 2:4], boxes[..., 4]
    turned = sides[..., 0] < sides[..., 1]
    return with_angle(torch.cat([centre, sides.sort(-1, descending=True).values], -1), angles + 90 * turned)


def with_angle(upright: Tensor, angles: Tensor) -> Tensor:
    """Boxes of centre, width and height [..., 4], turned by angles [...] in degrees, which may be any."""
    return torch.cat([upright, ((angles + 90) % HALF_TURN - 90)[..., None]], -1)


def from_corners(corners: Tensor, angles: Tensor) -> Tensor:
    """Boxes whose corners were x1, y1, x2, y2 [..., 4] before they were turned about their centres by `angles`."""
    return with_angle(
        torch.cat([(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], -1), angles
    )


def upright(boxes: Tensor) -> Tensor:
    """x1, y1, x2, y2 [..., 4] of boxes before they were turned about their centres."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:4] / 2, boxes[..., :2] + boxes[..., 2:4] / 2], -1)


def axes(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Directions [..., 2] of the width and of the height of boxes of these angles."""
    radians = torch.deg2rad(angles)
    cos, sin = radians.cos(), radians.sin()
    return torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)


def outline(boxes: Tensor) -> Tensor:
    """[..., 4, 2]: the corners of boxes, one after the other; the first two are the ends of a side along the width."""
    along, across = (
        half[..., None] / 2 * axis
        for half, axis in zip((boxes[..., 2], boxes[..., 3]), axes(boxes[..., 4]), strict=True)
    )
    return boxes[..., None, :2] + torch.stack([-along - across, along - across, along + across, across - along], -2)


def around(points: Tensor) -> Tensor:
    """The smallest box around corners [..., 4, 2] whose width keeps the direction from the first to the second.

    Of a rectangle it is the rectangle, mirrored or not; of one that was sheared it holds the object and has its axis.
    """
    side = points[..., 1, :] - points[..., 0, :]
    angles = torch.rad2deg(torch.atan2(-side[..., 1], side[..., 0]))
    spans, middles = [], []
    for axis in axes(angles):
        along = (points * axis[..., None, :]).sum(-1)
        low, high = along.amin(-1), along.amax(-1)
        spans.append(high - low)
        middles.append(((low + high) / 2)[..., None] * axis)
    return usual(torch.cat([sum(middles), torch.stack([*spans, angles], -1)], -1))


def turned(boxes: Tensor, degrees: Tensor | float, side: int) -> Tensor:
    """Boxes [..., 5] after their square image was turned anticlockwise about its centre; degrees: of any shape that
    goes with [...]."""
    degrees = torch.as_tensor(degrees, dtype=boxes.dtype, device=boxes.device)
    right, down = axes(degrees)
    away = boxes[..., :2] - side / 2
    centre = side / 2 + away[..., :1] * right + away[..., 1:] * down
    return with_angle(torch.cat([centre, boxes[..., 2:4]], -1), boxes[..., 4] + degrees)


def holds(boxes: Tensor, points: Tensor, slack: float = 0.0) -> Tensor:
    """bool: whether points [..., 2] lie in boxes [..., 5], the rim included; slack: by how much they may lie outside,
    as a part of the longer side."""
    away, room = points - boxes[..., :2], boxes[..., 2:4].amax(-1) * slack
    lengths = [(away * axis).sum(-1).abs() for axis in axes(boxes[..., 4])]
    return (lengths[0] <= boxes[..., 2] / 2 + room) & (lengths[1] <= boxes[..., 3] / 2 + room)


def shared_area(first: Tensor, second: Tensor) -> Tensor:
    """float64 [...]: the area that boxes [..., 5] have in common, pair by pair.

    What they share is convex: its corners are corners of one that lie in the other, and crossings of sides. Sorted
    around their middle they give the area by the shoelace formula.
    """
    first, second = torch.broadcast_tensors(first.double(), second.double())
    origin = first[..., :2]
    boxes = [torch.cat([box[..., :2] - origin, box[..., 2:]], -1) for box in (first, second)]
    one, other = (outline(box) for box in boxes)
    inside = [holds(boxes[1][..., None, :], one, TOUCHING), holds(boxes[0][..., None, :], other, TOUCHING)]
    crossings, crossed = _crossings(one, other)
    points = torch.cat([one, other, crossings], -2)
    there = torch.cat([*inside, crossed], -1)
    count = there.sum(-1, keepdim=True).clamp_min(1)
    points = points - ((points * there[..., None]).sum(-2) / count)[..., None, :]
    order = torch.atan2(points[..., 1], points[..., 0]).masked_fill(~there, torch.inf).argsort(-1)
    sorted_points = points.gather(-2, order[..., None].expand_as(points))
    known = there.gather(-1, order)
    sorted_points = torch.where(known[..., None], sorted_points, sorted_points[..., :1, :])  # fills up with the first
    following = sorted_points.roll(-1, -2)
    area = (sorted_points[..., 0] * following[..., 1] - sorted_points[..., 1] * following[..., 0]).sum(-1) / 2
    return torch.where(known[..., 0], area.abs(), 0.0)


def _crossings(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """(points [..., 16, 2], bool [..., 16] whether they are there) where sides of outlines [..., 4, 2] cross."""
    start, side = one[..., :, None, :], (one.roll(-1, -2) - one)[..., :, None, :]
    begin, edge = other[..., None, :, :], (other.roll(-1, -2) - other)[..., None, :, :]
    slope = _cross(side, edge)
    parallel = slope.abs() <= TOUCHING * side.norm(dim=-1) * edge.norm(dim=-1)
    safe = torch.where(parallel, 1.0, slope)
    at, on = _cross(begin - start, edge) / safe, _cross(begin - start, side) / safe
    there = (at >= 0) & (at <= 1) & (on >= 0) & (on <= 1) & ~parallel
    return (start + at[..., None] * side).flatten(-3, -2), there.flatten(-2)


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]


def turned_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union, float64 [...], of boxes [..., 5] pair by pair; shapes are broadcast.

    >>> square = torch.tensor([5.0, 5.0, 2.0, 2.0, 0.0])
    >>> round(turned_iou(square, torch.tensor([5.0, 5.0, 2.0, 2.0, 45.0])).item(), 4)
    0.7071
    """
    inside = shared_area(first, second)
    both = (box[..., 2:4].double().prod(-1) for box in (first, second))
    return inside / (sum(both) - inside).clamp_min(SMALLEST)


def table(first: Tensor, second: Tensor, asked: Tensor | None = None, least: float = 0.0) -> Tensor:
    """float64 [n, m]: the intersection over union of all pairs of boxes [n, 5] and [m, 5].

    asked: bool [n, m], the pairs that matter, and least: the smallest value that does; others may stand there as 0.
    Only pairs are computed whose centres are near enough to touch, and whose areas are alike enough.
    """
    reach = [box[:, 2:4].double().norm(dim=1) / 2 for box in (first, second)]
    near = torch.cdist(first[:, :2].double(), second[:, :2].double()) < reach[0][:, None] + reach[1]
    areas = [box[:, 2:4].double().prod(1) for box in (first, second)]
    smaller, larger = (pick(areas[0][:, None], areas[1]) for pick in (torch.minimum, torch.maximum))
    near &= smaller >= least * larger
    rows, columns = (near if asked is None else near & asked).nonzero().unbind(1)
    values = torch.zeros(len(first), len(second), dtype=torch.float64)
    values[rows, columns] = turned_iou(first[rows], second[columns])
    return values


def keep_best(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float) -> Tensor:
    """int64 [m]: which of boxes [n, 5] stay when, from the best score down, each removes the worse ones of its class
    that overlap with it by more than `overlap`: greedy suppression, best first, as torchvision's `batched_nms`."""
    order = scores.argsort(descending=True, stable=True)
    worse = (labels[order][:, None] == labels[order]).triu(1)
    over = table(boxes[order], boxes[order], worse, overlap) > overlap
    left = torch.ones(len(order), dtype=torch.bool)
    for k in over.any(1).nonzero().flatten().tolist():
        if left[k]:
            left &= ~over[k]
    return order[left]


def angle_between(first: Tensor, second: Tensor) -> Tensor:
    """Degrees [...] in [0, 90] by which angles differ, half turns apart being the same.

    >>> angle_between(torch.tensor(-89.0), torch.tensor(88.0)).item()
    3.0
    """
    apart = (first - second).abs() % HALF_TURN
    return torch.minimum(apart, HALF_TURN - apart)
