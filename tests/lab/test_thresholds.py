"""AUC, and scores at frozen and re-chosen thresholds, against SciPy, scikit-learn and slow obvious references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from kdlib.lab import thresholds as module
from kdlib.lab.thresholds import (
    at_threshold,
    auc,
    best_f1,
    best_threshold,
    class_thresholds,
    one_vs_rest,
    threshold_loss,
)


def samples(levels: int = 12, least: int = 2):
    """(scores with ties, bool), with positives and negatives among them."""
    pairs = st.lists(st.tuples(st.integers(0, levels), st.booleans()), min_size=least, max_size=40)
    kinds = pairs.filter(lambda some: len({positive for _, positive in some}) == 2)
    return kinds.map(lambda some: (np.array([s for s, _ in some]) / levels, np.array([p for _, p in some])))


@given(samples())
def test_auc_is_mann_whitneys_u_and_scikit_learns(sample):
    scores, positive = sample
    u = stats.mannwhitneyu(scores[positive], scores[~positive]).statistic
    pairs = positive.sum() * (~positive).sum()
    assert auc(scores, positive) == u / pairs
    by_hand = sum((a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive])
    assert auc(scores, positive) == by_hand / pairs
    assert auc(scores, positive) == pytest.approx(sklearn_metrics.roc_auc_score(positive, scores), abs=1e-12)


MAPS = {
    "a shift": lambda s: s - 3.0,
    "a scale": lambda s: 1e-3 * s,
    "an exponential": lambda s: np.exp(5 * s),
    "a cube": lambda s: (s + 1) ** 3,
    "toward no": lambda s: s / 1000,
}


@pytest.mark.parametrize("change", MAPS)
@given(sample=samples())
def test_an_increasing_map_leaves_auc_and_best_f1_to_the_last_digit(change, sample):
    scores, positive = sample
    moved = MAPS[change](scores)
    assert auc(moved, positive) == auc(scores, positive)
    assert best_f1(moved, positive) == best_f1(scores, positive)
    assert best_threshold(moved, positive) == MAPS[change](best_threshold(scores, positive))


@pytest.mark.parametrize("change", MAPS)
def test_an_increasing_map_changes_the_row_of_a_frozen_threshold(change):
    rng = np.random.default_rng(0)
    positive = rng.random(300) < 0.3
    scores = np.clip(rng.normal(0.4 + 0.3 * positive, 0.15), 0.01, 0.99)
    frozen = best_threshold(scores, positive)
    moved = MAPS[change](scores)
    before, after = at_threshold(scores, positive, frozen), at_threshold(moved, positive, frozen)
    assert all(before[name] != after[name] for name in ("sensitivity", "specificity", "f1"))
    assert threshold_loss(scores, positive, frozen) == 0 < threshold_loss(moved, positive, frozen)


def test_a_model_that_confidently_says_no_to_everyone_can_have_auc_1():
    positive = np.array([False] * 90 + [True] * 10)
    at_home = np.where(positive, 0.9, 0.1) + np.linspace(0, 0.05, 100)
    abroad = at_home / 1000  # below .001 for everyone
    frozen = best_threshold(at_home, positive)
    row = at_threshold(abroad, positive, frozen)
    assert auc(abroad, positive) == 1.0
    assert row == {"sensitivity": 0.0, "specificity": 1.0, "precision": 0.0, "f1": 0.0}
    assert threshold_loss(abroad, positive, frozen) == best_f1(abroad, positive) == 1.0


@given(samples(), st.integers(-1, 13))
def test_scores_at_a_threshold_are_scikit_learns(sample, level):
    scores, positive = sample
    threshold = level / 12
    called, row = scores >= threshold, at_threshold(scores, positive, threshold)
    assert row["sensitivity"] == pytest.approx(sklearn_metrics.recall_score(positive, called))
    assert row["specificity"] == pytest.approx(sklearn_metrics.recall_score(~positive, ~called))
    assert row["precision"] == pytest.approx(sklearn_metrics.precision_score(positive, called, zero_division=0))
    assert row["f1"] == pytest.approx(sklearn_metrics.f1_score(positive, called, zero_division=0))
    assert set(row) == set(module.AT_THRESHOLD)


@given(samples())
def test_the_best_threshold_is_the_highest_of_the_best(sample):
    scores, positive = sample
    tried = {t: at_threshold(scores, positive, t)["f1"] for t in sorted(set(scores.tolist()))}
    best = max(tried.values())
    assert best_f1(scores, positive) == pytest.approx(best, abs=1e-12)
    assert best_threshold(scores, positive) == max(t for t, f1 in tried.items() if f1 == pytest.approx(best, abs=1e-12))
    precision, recall, _ = sklearn_metrics.precision_recall_curve(positive, scores)
    curve = 2 * precision * recall / np.where(precision + recall, precision + recall, 1)
    assert best_f1(scores, positive) == pytest.approx(curve.max(), abs=1e-12)


@given(samples(), st.floats(-0.5, 1.5))
def test_a_threshold_never_gains_over_the_re_chosen_one(sample, threshold):
    scores, positive = sample
    assert threshold_loss(scores, positive, threshold) >= -1e-15
    assert threshold_loss(scores, positive, best_threshold(scores, positive)) == pytest.approx(0, abs=1e-15)


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray]:
    """Softmax of logits [400, 5] that know something of the labels [400], of which class 3 has none."""
    rng = np.random.default_rng(1)
    labels = rng.choice([0, 1, 2, 4], 400, p=[0.4, 0.3, 0.2, 0.1])
    logits = rng.normal(size=(400, 5)) + 1.5 * np.eye(5)[labels]
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels


def test_means_are_those_of_scikit_learn_over_the_classes_with_images(answers):
    p, labels = answers
    frozen = np.array([0.3, 0.25, 0.5, 0.2, 0.1])
    row, present = one_vs_rest(p, labels, frozen), [0, 1, 2, 4]
    truth, called = np.eye(5, dtype=bool)[labels][:, present], (p >= frozen)[:, present]
    assert row["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(truth, p[:, present], average="macro"))
    assert row["f1"] == pytest.approx(sklearn_metrics.f1_score(truth, called, average="macro"))
    assert row["sensitivity"] == pytest.approx(sklearn_metrics.recall_score(truth, called, average="macro"))
    assert row["specificity"] == pytest.approx(sklearn_metrics.recall_score(~truth, ~called, average="macro"))
    assert row["precision"] == pytest.approx(sklearn_metrics.precision_score(truth, called, average="macro"))
    best = np.mean([best_f1(p[:, c], labels == c) for c in present])
    assert row["threshold_loss"] == pytest.approx(best - row["f1"]) and row["best_f1"] == pytest.approx(best)
    assert row["score_gap"] == pytest.approx(np.mean([abs(p[:, c].mean() - (labels == c).mean()) for c in present]))


def test_the_signed_gap_of_mean_score_and_base_rate_is_zero_over_all_classes(answers):
    p, labels = answers
    gaps = [p[:, c].mean() - (labels == c).mean() for c in range(5)]
    assert sum(gaps) == pytest.approx(0, abs=1e-12) and max(map(abs, gaps)) > 0.01


def test_each_class_has_its_own_best_threshold(answers):
    p, labels = answers
    four, relabelled = p[:, [0, 1, 2, 4]], np.where(labels == 4, 3, labels)
    expected = [best_threshold(four[:, c], relabelled == c) for c in range(4)]
    assert class_thresholds(four, relabelled).tolist() == expected and len(set(expected)) == 4
    with pytest.raises(ValueError, match="class 3 has no image to choose a threshold on"):
        class_thresholds(p, labels)


@pytest.mark.parametrize("function", [auc, best_threshold, best_f1, lambda s, p: at_threshold(s, p, 0.5)])
def test_what_has_no_answer_is_refused(function):
    scores = np.array([0.1, 0.2])
    for positive in (np.array([True, True]), np.array([False, False])):
        with pytest.raises(ValueError, match="there must be some of both kinds"):
            function(scores, positive)
    with pytest.raises(ValueError, match="nan or infinity"):
        function(np.array([0.1, np.nan]), np.array([True, False]))
    for positive in (np.array([1, 0]), np.array([True])):
        with pytest.raises(ValueError, match=r"must be \[n\] and bool \[n\]"):
            function(scores, positive)
