"""k-means against scikit-learn's, at its edges, and the nearest centre against SciPy's distances."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from kdlib.methods import clusters
from kdlib.methods.clusters import k_means, nearest

from .slow import normal


def blobs(count: int = 6, each: int = 30, seed: int = 0) -> torch.Tensor:
    """Points around `count` far centres, in mixed order."""
    points = (20 * normal(count, 4, seed=seed)).repeat(each, 1) + normal(count * each, 4, seed=seed + 1)
    return points[torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))]


def inertia(points: torch.Tensor, centres: torch.Tensor) -> float:
    return float((cdist(points.numpy(), centres.numpy()) ** 2).min(1).sum())


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_the_centres_that_scikit_learn_finds(seed: int):
    points = blobs(seed=seed)
    theirs = KMeans(6, n_init=10, random_state=0).fit(points.numpy())
    ours = k_means(points, 6)
    assert inertia(points, ours) == pytest.approx(theirs.inertia_, rel=1e-9)
    order = cdist(theirs.cluster_centers_, ours.numpy()).argmin(1)
    assert sorted(order) == list(range(6))
    np.testing.assert_allclose(ours[order].numpy(), theirs.cluster_centers_, rtol=0, atol=1e-9)


def test_rounds_are_those_of_lloyd():
    """From the same first centres, where clusters overlap and the end depends on the start."""
    points, first = normal(200, 3), normal(7, 3, seed=1)
    theirs = KMeans(7, init=first.numpy(), n_init=1, max_iter=500, tol=0, algorithm="lloyd").fit(points.numpy())
    np.testing.assert_allclose(clusters._settled(points, first).numpy(), theirs.cluster_centers_, atol=1e-9)


def test_a_start_is_worse_than_the_best_of_all_and_equal_points_give_equal_bits():
    points = normal(300, 2)
    starts = [inertia(points, clusters._settled(points, clusters._first(points, 8, s))) for s in range(clusters.STARTS)]
    found = k_means(points, 8)
    assert inertia(points, found) == pytest.approx(min(starts)) and min(starts) < max(starts)
    torch.rand(3)  # the global generator has no part in it
    assert torch.equal(found, k_means(points.clone(), 8))


def test_first_centres_are_points_and_far_ones_are_preferred():
    """Of two heaps of 99 and 1 points the second is nearly always taken: squared distances decide."""
    points = torch.cat([0.01 * normal(99, 2), torch.full((1, 2), 100.0, dtype=torch.float64)])
    for start in range(20):
        first = clusters._first(points, 2, start)
        assert all((points == centre).all(1).any() for centre in first)
        assert (first == 100).all(1).any()


def test_fewer_values_than_centres_are_the_centres():
    points = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    found = k_means(points, 10)
    assert sorted(found.tolist()) == [[1, 2], [3, 4]]


def test_a_centre_without_points_stays():
    points, first = torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.tensor([[0.0], [1.0], [50.0]]).double()
    assert torch.equal(clusters._settled(points, first), first)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e30])
def test_nearest_is_that_of_all_distances(size: float):
    points, centres = size * normal(100, 5).float(), size * normal(7, 5, seed=1)
    expected = cdist(points.double().numpy() / size, centres.numpy() / size).argmin(1)
    assert nearest(points, centres).tolist() == expected.tolist()
    twice = torch.cat([centres, centres])
    # Of equal ones either: a product of matrices may round the last columns in another way than the first.
    assert (nearest(points, twice) % 7).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("points", "count", "said"),
    [
        (torch.zeros(0, 2), 3, "count = 3 centres of 0 points"),
        (torch.zeros(4, 2), 0, "count = 0 centres of 4 points"),
        (torch.zeros(4), 2, r"points are torch.float32 \[4\]; allowed is floating \[n, d\]"),
    ],
)
def test_bad_input_is_one_sentence(points, count, said):
    with pytest.raises(ValueError, match=f"^{said}") as error:
        k_means(points, count)
    assert "\n" not in str(error.value)
