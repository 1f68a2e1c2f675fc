"""Metrics of logits against slow obvious references."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlib.lab.metrics import ece, nll, top_k_accuracy


def slow_top_k(logits, labels, k):
    """Sort each row by falling logit, then by class."""
    hits = 0
    for row, label in zip(logits, labels, strict=True):
        hits += label in sorted(range(len(row)), key=lambda c, row=row: (-row[c], c))[:k]
    return 100 * hits / len(labels)


def slow_probabilities(row):
    largest = max(row)
    weights = [math.exp(value - largest) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def slow_ece(logits, labels, bins):
    """Guo et al.: sum over bins of (size / N) |accuracy - confidence|."""
    members = {m: [] for m in range(bins)}
    for row, label in zip(logits, labels, strict=True):
        probabilities = slow_probabilities(row)
        confidence = max(probabilities)
        m = next(m for m in range(bins) if m / bins < confidence <= (m + 1) / bins or m == bins - 1)
        members[m].append((probabilities.index(confidence) == label, confidence))
    total = 0.0
    for found in members.values():
        if found:
            accuracy, confidence = np.mean(found, axis=0)
            total += len(found) / len(labels) * abs(accuracy - confidence)
    return total


@pytest.fixture(params=[(200, 10, 2.0), (50, 3, 0.5), (40, 100, 5.0)], ids=str)
def scored(request):
    n, classes, scale = request.param
    rng = np.random.default_rng(n)
    return rng.normal(0, scale, (n, classes)), rng.integers(0, classes, n)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_is_the_slow_one(scored, k):
    assert top_k_accuracy(*scored, k) == pytest.approx(slow_top_k(*scored, k))


def test_top_k_with_ties(scored):
    logits, labels = np.round(scored[0]), scored[1]
    for k in (1, 2):
        assert top_k_accuracy(logits, labels, k) == pytest.approx(slow_top_k(logits, labels, k))
    assert top_k_accuracy(logits, labels) == pytest.approx(100 * (logits.argmax(axis=1) == labels).mean())
    assert top_k_accuracy(np.zeros((4, 4)), np.arange(4)) == 25


def test_top_c_is_everything(scored):
    assert top_k_accuracy(*scored, k=scored[0].shape[1]) == 100


def test_nll_is_the_slow_one(scored):
    logits, labels = scored
    slow = [-math.log(slow_probabilities(row)[label]) for row, label in zip(logits, labels, strict=True)]
    assert nll(logits, labels) == pytest.approx(np.mean(slow))


def test_nll_of_large_logits_is_finite():
    assert nll([[1e4, 0.0], [0.0, 1e4]], [1, 1]) == pytest.approx(5e3)
    assert nll(np.zeros((3, 8)), [0, 5, 7]) == pytest.approx(math.log(8))


@pytest.mark.parametrize("bins", [1, 2, 15])
def test_ece_is_the_slow_one(scored, bins):
    assert ece(*scored, bins) == pytest.approx(slow_ece(*scored, bins))


def test_ece_extremes():
    sure = np.array([[1e3, 0.0], [0.0, 1e3]])
    assert ece(sure, [0, 1]) == pytest.approx(0)
    assert ece(sure, [1, 0]) == pytest.approx(1)
    assert ece(np.zeros((4, 2)), [0, 1, 0, 1]) == pytest.approx(0)


def test_ece_bin_edges_belong_to_the_lower_bin():
    """With 2 bins, confidence .5 (right) and .6 (wrong) are apart: (.5 + .6) / 2, not |.1| / 2."""
    logits = np.log([[0.5, 0.5], [0.6, 0.4]])
    assert ece(logits, [0, 1], bins=2) == pytest.approx(0.55)


@given(st.floats(-50, 50))
def test_metrics_ignore_a_shift_of_the_logits(shift):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (60, 5)), rng.integers(0, 5, 60)
    for metric in (top_k_accuracy, nll, ece):
        assert metric(logits + shift, labels) == pytest.approx(metric(logits, labels))


def test_float32_logits_are_computed_in_double():
    logits = np.random.default_rng(0).normal(0, 5, (100, 10)).astype(np.float32)
    labels = np.arange(100) % 10
    assert nll(logits, labels) == nll(logits.astype(np.float64), labels)


@pytest.mark.parametrize(
    ("logits", "labels", "error", "words"),
    [
        (np.zeros((2, 3)), [0], ValueError, r"must be \[N, C\]"),
        (np.zeros(3), [0, 1, 2], ValueError, r"must be \[N, C\]"),
        (np.zeros((0, 3)), np.zeros(0, int), ValueError, "above 0"),
        (np.zeros((2, 3)), [0, 3], ValueError, r"in 0\.\.2"),
        (np.zeros((2, 3)), [-1, 0], ValueError, r"in 0\.\.2"),
        (np.zeros((2, 3)), [0.0, 1.0], TypeError, "integers"),
        ([[0.0, math.nan]], [0], ValueError, "nan"),
        ([[0.0, math.inf]], [0], ValueError, "nan"),
    ],
)
def test_metrics_check_their_arguments(logits, labels, error, words):
    for metric in (top_k_accuracy, nll, ece):
        with pytest.raises(error, match=words):
            metric(logits, labels)


@pytest.mark.parametrize("k", [0, 4])
def test_k_must_be_a_number_of_classes(k):
    with pytest.raises(ValueError, match=f"k is {k}"):
        top_k_accuracy(np.zeros((1, 3)), [0], k)


def test_bins_must_be_positive():
    with pytest.raises(ValueError, match="bins is 0"):
        ece(np.zeros((1, 3)), [0], bins=0)
