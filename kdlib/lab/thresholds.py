"""What a threshold that was chosen elsewhere costs: AUC by ranks, and scores at a frozen and at a re-chosen threshold.

AUC sweeps the threshold on the very images that it is computed on, so a shift of all scores stays unseen (Kleppe, ESMO
Open 2022). One class at a time is told from the rest; an image is called positive if its score is at least the
threshold. Everything is pure and computed in double precision; fractions are in 0..1.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Names of what `at_threshold` gives.
AT_THRESHOLD = ("sensitivity", "specificity", "precision", "f1")


def auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """The area under the ROC curve: the Mann-Whitney U of the positives over n+ n-, ties counted half.

    An increasing map of the scores that keeps different ones apart leaves it unchanged to the last digit, since only
    their ranks are read.

    Args:
        scores: [n], finite. positive: bool [n]; both kinds must be there, else ValueError.

    >>> auc([0.1, 0.4, 0.4, 0.8], [False, False, True, True])
    0.875
    """
    values, truth = _checked(scores, positive)
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[which]  # halves of whole numbers: exact
    n = int(truth.sum())
    return float((ranks[truth].sum() - n * (n + 1) / 2) / (n * (len(truth) - n)))


def best_threshold(scores: ArrayLike, positive: ArrayLike) -> float:
    """The score that, as threshold, has the largest F1; of equally good ones the highest. Arguments as in `auc`.

    >>> best_threshold([0.1, 0.4, 0.6, 0.8], [False, True, False, True])
    0.4
    """
    return _best(scores, positive)[0]


def best_f1(scores: ArrayLike, positive: ArrayLike) -> float:
    """The largest F1 that any threshold has on these images. Arguments as in `auc`."""
    return _best(scores, positive)[1]


def _best(scores: ArrayLike, positive: ArrayLike) -> tuple[float, float]:
    """(threshold, F1) of `best_threshold`. Candidates are the scores themselves."""
    values, truth = _checked(scores, positive)
    order = np.argsort(-values, kind="stable")
    falling = values[order]
    last = np.append(falling[1:] != falling[:-1], True).nonzero()[0]  # of each distinct score
    f1 = 2 * np.cumsum(truth[order])[last] / (last + 1 + truth.sum())
    k = int(f1.argmax())
    return float(falling[last[k]]), float(f1[k])


def at_threshold(scores: ArrayLike, positive: ArrayLike, threshold: float) -> dict[str, float]:
    """sensitivity, specificity, precision (0 where nothing is called positive) and f1. Arguments as in `auc`.

    >>> at_threshold([0.1, 0.2], [False, True], 0.5)
    {'sensitivity': 0.0, 'specificity': 1.0, 'precision': 0.0, 'f1': 0.0}
    """
    values, truth = _checked(scores, positive)
    called = values >= threshold
    hits, calls, n = int((called & truth).sum()), int(called.sum()), int(truth.sum())
    return {
        "sensitivity": hits / n,
        "specificity": 1 - (calls - hits) / (len(truth) - n),
        "precision": hits / calls if calls else 0.0,
        "f1": 2 * hits / (calls + n),
    }


def threshold_loss(scores: ArrayLike, positive: ArrayLike, threshold: float) -> float:
    """How much F1 a frozen threshold loses against one that is chosen on these images: never below 0.

    It is above 0 by chance alone, also without any shift, since the best threshold of a sample fits that sample.
    """
    return best_f1(scores, positive) - at_threshold(scores, positive, threshold)["f1"]


def class_thresholds(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """float64 [C]: the best threshold of each class against the rest; of [N, C] probabilities and [N] integer labels.

    Raises ValueError if a class has no image.
    """
    p, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if absent := sorted(set(range(p.shape[1])) - set(truth.tolist())):
        raise ValueError(f"class {absent[0]} has no image to choose a threshold on; each class must have at least one")
    return np.array([best_threshold(p[:, c], truth == c) for c in range(p.shape[1])])


def one_vs_rest(probabilities: ArrayLike, labels: ArrayLike, thresholds: ArrayLike) -> dict[str, float]:
    """Means over the classes that have images: auc, sensitivity, specificity, precision, f1, best_f1, threshold_loss,
    and score_gap, of the absolute difference of mean score and base rate.

    The signed mean of the latter is 0 whatever a network says, since probabilities and base rates both sum to 1. Of
    [N, C] probabilities, [N] integer labels, [C] thresholds. Raises ValueError if only one class has images.
    """
    p, truth, frozen = np.asarray(probabilities, dtype=np.float64), np.asarray(labels), np.asarray(thresholds)
    rows = [_of_class(p[:, c], truth == c, frozen[c]) for c in np.unique(truth)]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _of_class(scores: NDArray, positive: NDArray, threshold: float) -> Mapping[str, float]:
    now, best = at_threshold(scores, positive, threshold), best_f1(scores, positive)
    return {
        "auc": auc(scores, positive),
        **now,
        "best_f1": best,
        "threshold_loss": best - now["f1"],
        "score_gap": abs(float(scores.mean() - positive.mean())),
    }


def _checked(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive)
    if values.ndim != 1 or truth.shape != values.shape or truth.dtype != np.bool_:
        raise ValueError(f"scores {values.shape} and positive {truth.shape} must be [n] and bool [n].")
    if not np.isfinite(values).all():
        raise ValueError("scores hold nan or infinity, but all of them must be finite.")
    if truth.all() or not truth.any():
        raise ValueError(f"positive holds {int(truth.sum())} of {len(truth)} images; there must be some of both kinds.")
    return values, truth
