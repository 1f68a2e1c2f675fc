"""Metrics of logits, in double precision: accuracy in percent, negative log-likelihood in nats, calibration error."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def top_k_accuracy(logits: ArrayLike, labels: ArrayLike, k: int = 1) -> float:
    """Percent of rows whose label is among the k largest logits; of equal logits the smaller class wins.

    Args:
        logits: [N, C], finite or -inf. labels: [N], integers in 0..C-1. k: 1..C.
    """
    scores, truth = _checked(logits, labels)
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k is {k}, but it must be in 1..{scores.shape[1]}.")
    own = scores[np.arange(len(truth)), truth][:, None]
    before = np.arange(scores.shape[1]) < truth[:, None]
    rank = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    return 100 * float((rank < k).mean())


def nll(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative log-likelihood of the labels, in nats. Arguments as in `top_k_accuracy`."""
    from scipy import special

    scores, truth = _checked(logits, labels)
    own = scores[np.arange(len(truth)), truth]
    return float((special.logsumexp(scores, axis=1) - own).mean())


def ece(logits: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of the top label, a fraction in 0..1 (Guo et al., ICML 2017, equation 3).

    The confidence is the largest probability; the `bins` equal bins are (0, 1/bins], (1/bins, 2/bins], ...
    Arguments as in `top_k_accuracy`.
    """
    which, confidence, right = confidence_bins(logits, labels, bins)
    return float(np.abs(np.bincount(which, weights=right - confidence, minlength=bins)).sum() / len(which))


def confidence_bins(
    logits: ArrayLike, labels: ArrayLike, bins: int = 15
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The bin of each answer (see `ece`), its largest probability, and whether it is right (1 or 0), each [N]."""
    from scipy import special

    scores, truth = _checked(logits, labels)
    if bins < 1:
        raise ValueError(f"bins is {bins}, but it must be at least 1.")
    confidence = special.softmax(scores, axis=1).max(axis=1)
    which = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    return which, confidence, (scores.argmax(axis=1) == truth).astype(np.float64)


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or scores.size == 0:
        raise ValueError(
            f"logits {scores.shape} and labels {truth.shape} must be [N, C] and [N], with N and C above 0."
        )
    if truth.dtype.kind not in "iu":
        raise TypeError(f"labels have the type {truth.dtype}, but they must be integers.")
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise ValueError(f"labels span {truth.min()}..{truth.max()}, but they must be in 0..{scores.shape[1] - 1}.")
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise ValueError("logits hold nan or +inf, but they must be finite or -inf.")
    return scores, truth.astype(np.int64)
