"""k-means: centres of a teacher's answers or codes, and which of them is nearest. Equal points give equal centres."""

import torch
from torch import Tensor

from kdlib.methods.base import check_tensor
from kdlib.randomness import generator

STARTS = 5  # of which the best is kept
ROUNDS = 50  # at most, of one start


def k_means(points: Tensor, count: int) -> Tensor:
    """The centres of k-means, float64 [count, d]: those of the smallest sum of squared distances of five starts.

    points: floating [n, d] on the CPU. Each start draws its first centres as k-means++ does, from a generator of its
    own, and goes on as Lloyd (1982) until no centre moves, or for 50 rounds; a centre that loses its last point stays.
    Points of fewer than `count` different values make one centre of each value. Raises ValueError for a count below 1,
    and without points.

    >>> import torch
    >>> k_means(torch.tensor([[0.0], [2.0], [10.0], [12.0]]), 2).flatten().sort().values.tolist()
    [1.0, 11.0]
    """
    check_tensor("points are", points, "floating", "n", "d")
    if count < 1 or not len(points):
        raise ValueError(
            f"count = {count} centres of {len(points)} points is not allowed; allowed are 1 and up of some"
        )
    points = points.double()
    found = [_settled(points, _first(points, count, start)) for start in range(STARTS)]
    return min(found, key=lambda centres: _nearness(points, centres).amin(1).sum().item())


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The place of the nearest centre of each point: int64 [n] of floating [n, d] and [k, d].

    Of several that are equally near it is one, by rounding.

    >>> import torch
    >>> nearest(torch.tensor([[0.0], [7.0]]), torch.tensor([[1.0], [11.0]])).tolist()
    [0, 1]
    """
    return _nearness(points.double(), centres.double()).argmin(1)


def _nearness(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distances less the squares of the points, which are the same for all centres: float64 [n, k]."""
    return centres.square().sum(1) - 2 * points @ centres.T


def _first(points: Tensor, count: int, start: int) -> Tensor:
    """Points at random, each with a chance that grows with the square of its distance to those that were taken."""
    draws = torch.rand(count, generator=generator(start, "k-means"), dtype=torch.float64)
    taken = [int(draws[0] * len(points))]
    squares = (points - points[taken[-1]]).square().sum(1)
    for draw in draws[1:]:
        reach = squares.cumsum(0)
        if reach[-1] == 0:  # every value is taken
            break
        taken.append(min(int(torch.searchsorted(reach, draw * reach[-1], right=True)), len(points) - 1))
        squares = torch.minimum(squares, (points - points[taken[-1]]).square().sum(1))
    return points[taken]


def _settled(points: Tensor, centres: Tensor) -> Tensor:
    """Centres after Lloyd's rounds: each becomes the mean of the points that are nearest to it."""
    for _ in range(ROUNDS):
        which = _nearness(points, centres).argmin(1)
        counts = which.bincount(minlength=len(centres))[:, None]
        sums = torch.zeros_like(centres).index_add_(0, which, points)
        moved = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres
