"""Search by codes: distances, ties against all orders and against shuffles, scikit-learn, and chance."""

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from kdlib.elsewhere.retrieval import average_precision, hamming, precision_within, search_scores


def codes_of(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 2, (rows, width), generator=torch.Generator().manual_seed(seed)).float() * 2 - 1


def slow_ap(ranked: list[bool]) -> float:
    """Of a list without ties: the mean precision at each relevant place."""
    hits, total = 0, 0.0
    for place, relevant in enumerate(ranked, start=1):
        hits += relevant
        total += relevant * hits / place
    return total / hits


def released_ap(ranked: list[bool], top: int) -> float:
    """As the released program of BRCD has it: of the first `top` places, divided by the hits among them."""
    found = ranked[:top]
    return slow_ap(found) if any(found) else 0.0


@pytest.mark.parametrize("width", [1, 16, 64])
def test_distances_are_differing_bits(width: int):
    a, b = codes_of(5, width, 0), codes_of(7, width, 1)
    expected = [[int((x != y).sum()) for y in b] for x in a]
    assert hamming(a, b).tolist() == expected


def test_ranking_is_that_of_faiss():
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    a, b = codes_of(20, 64, 0), codes_of(300, 64, 1)
    packed = [np.packbits((x > 0).numpy(), axis=1) for x in (a, b)]
    index = faiss.IndexBinaryFlat(64)
    index.add(packed[1])
    distances, _ = index.search(packed[0], 300)
    assert hamming(a, b).sort(1).values.tolist() == distances.tolist()


def test_without_ties_it_is_scikit_learns():
    for seed in range(20):
        random = np.random.default_rng(seed)
        distances, relevant = random.permutation(50), random.random(50) < 0.3
        assert average_precision(distances, relevant) == pytest.approx(average_precision_score(relevant, -distances))


def test_ties_count_as_the_mean_of_all_orders():
    for seed in range(10):
        random = np.random.default_rng(seed)
        distances, relevant = random.integers(0, 3, 6), random.random(6) < 0.5
        relevant[0] = True
        values = []
        for order in permutations(range(6)):
            ranked = sorted(order, key=lambda i: distances[i])  # stable: ties stay in the order of the permutation
            values.append(slow_ap([bool(relevant[i]) for i in ranked]))
        assert average_precision(distances, relevant) == pytest.approx(np.mean(values))


def test_ties_are_the_mean_of_shuffles():
    """4,000 shuffles of 200 images at nine distances: within five standard errors, a false alarm in 2 million."""
    random = np.random.default_rng(0)
    distances, relevant = random.integers(0, 9, 200), random.random(200) < 0.2
    values = []
    for _ in range(4000):
        order = random.permutation(200)
        ranked = order[np.argsort(distances[order], kind="stable")]
        values.append(average_precision_score(relevant[ranked], -np.arange(200)))
    found = average_precision(distances, relevant)
    assert abs(found - np.mean(values)) < 5 * np.std(values) / np.sqrt(4000)
    assert np.std(values) > 1e-3


def test_nothing_relevant_is_zero_and_everything_is_one():
    assert average_precision(np.arange(4), np.zeros(4, bool)) == 0
    assert average_precision(np.zeros(4, int), np.ones(4, bool)) == pytest.approx(1)


def test_precision_within_two_bits():
    distances, relevant = np.array([0, 2, 2, 3]), np.array([True, False, True, True])
    assert precision_within(distances, relevant) == pytest.approx(2 / 3)
    assert precision_within(distances, relevant, radius=3) == pytest.approx(3 / 4)
    assert precision_within(distances + 5, relevant) == 0


def test_random_codes_find_a_class_as_often_as_it_occurs():
    """Ten classes of 100: chance is 10 %, and the AP of a random order lies a little above it."""
    labels = torch.arange(1000) % 10
    found = search_scores(codes_of(200, 32, 0), labels[:200], codes_of(1000, 32, 1), labels)
    assert 9.5 < found["map"] < 11.5


def test_codes_of_the_class_find_it_always():
    labels = torch.arange(40) % 4
    words = codes_of(4, 16, 2)
    assert hamming(words, words).fill_diagonal_(9).min() > 2
    found = search_scores(words[labels[:8]], labels[:8], words[labels], labels)
    assert found == {"map": pytest.approx(100), "precision2": pytest.approx(100)}


def test_divided_by_the_hits_found_one_hit_is_as_good_as_all():
    """The released metric: a single hit, at the first place, scores as much as nothing but hits."""
    one, all_of_them = [True] + [False] * 90 + [True] * 9, [True] * 100
    assert released_ap(one, top=10) == released_ap(all_of_them, top=10) == 1
    ours = [average_precision(np.arange(100), np.array(ranked)) for ranked in (one, all_of_them)]
    assert ours[0] < 0.2 and ours[1] == pytest.approx(1)
