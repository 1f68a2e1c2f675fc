"""Intervals over seeds, the verdict rule, the power of a planned comparison, and metrics of logits.

Accuracies are in percent, their differences in points. Everything is pure and computed in double precision.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Confidence level of a primary contrast: nine of them share an error rate of 5 % (Bonferroni).
PRIMARY_LEVEL = 1 - 0.05 / 9
#: Points of accuracy below which a difference does not matter.
MARGIN = 0.3
#: Fewer planned seeds than this give no verdict.
MINIMUM_SEEDS = 5


@dataclass(frozen=True)
class Interval:
    """A mean of n values and its two-sided confidence interval [low, high]; both ends are nan if n < 2."""

    mean: float
    low: float
    high: float
    n: int
    level: float

    @property
    def shown(self) -> bool:
        """Whether tables and figures show it: from two values it is wider than any claim and any picture."""
        return self.n > 2


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's t interval for the mean of independent values.

    Args:
        values: any number of finite values; with none, the mean is nan too.
        level: confidence level, between 0 and 1.

    Raises:
        ValueError: a value is not finite, or the level is not between 0 and 1.
    """
    _check_level(level)
    sample = np.asarray(values, dtype=np.float64).ravel()
    if not np.isfinite(sample).all():
        raise ValueError(f"values are {sample.tolist()}, but all of them must be finite.")
    n = sample.size
    mean = float(sample.mean()) if n else np.nan
    if n < 2:
        return Interval(mean, np.nan, np.nan, n, level)
    half = _quantile(n, level) * float(sample.std(ddof=1)) / np.sqrt(n)
    return Interval(mean, float(mean - half), float(mean + half), n, level)


def paired_differences(a: Mapping[int, float], b: Mapping[int, float]) -> NDArray[np.float64]:
    """a - b for each seed that both have, in the order of the seeds.

    Each maps a seed to a value; a pandas Series indexed by seed will do.
    """
    seeds = sorted(set(a.keys()) & set(b.keys()))
    return np.array([a[seed] - b[seed] for seed in seeds], dtype=np.float64)


def paired_interval(a: Mapping[int, float], b: Mapping[int, float], level: float = 0.95) -> Interval:
    """The paired t interval of a - b over the seeds that both have; n is the number of such seeds.

    Arguments and errors are those of `paired_differences` and `mean_interval`.
    """
    return mean_interval(paired_differences(a, b), level)


class Verdict(StrEnum):
    """What the runs say about a claim. Each is also the text that is printed."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    INCONCLUSIVE = "inconclusive"
    NOT_ENOUGH_SEEDS = "not enough seeds"
    NOT_MEASURED = "not measured"
    NOT_TESTED = "not tested at this budget"


def verdict(
    interval: Interval,
    planned: int,
    claim: Literal["better", "no better", "less"] = "better",
    level: float = PRIMARY_LEVEL,
    margin: float = MARGIN,
) -> Verdict:
    """The verdict of one primary contrast A - B from its interval [L, U] over seeds, in points.

    "A is better than B" is supported if L > 0, contradicted if U < margin and L <= 0, else inconclusive.
    "A is no better than B" is the same with supported and contradicted swapped; "A is less than B", of what had better
    be small, is "B is better than A". If pairs of the `planned` seeds are missing it is not measured; if fewer than
    five seeds are planned, there are not enough seeds.

    Raises:
        ValueError: the interval has another level than the rule, or more pairs than were planned (the number
            of seeds is fixed before the runs), or the claim is none of the three.
    """
    if claim not in ("better", "no better", "less"):
        raise ValueError(f"claim is {claim!r}, but it must be 'better', 'no better' or 'less'.")
    if not np.isclose(interval.level, level, rtol=0, atol=1e-12):
        raise ValueError(f"interval.level is {interval.level}, but the rule is stated at {level}.")
    if interval.n > planned:
        raise ValueError(f"interval.n is {interval.n}, but planned is {planned}: the seeds are fixed beforehand.")
    if interval.n == 0 or interval.n < planned:
        return Verdict.NOT_MEASURED
    if interval.n < MINIMUM_SEEDS:
        return Verdict.NOT_ENOUGH_SEEDS
    low, high = (-interval.high, -interval.low) if claim == "less" else (interval.low, interval.high)
    if low > 0:
        better = True
    elif high < margin:
        better = False
    else:
        return Verdict.INCONCLUSIVE
    return Verdict.SUPPORTED if better == (claim != "no better") else Verdict.CONTRADICTED


def claim_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a claim that has several contrasts.

    Contradicted if any contrast is, because no other result could undo that. Otherwise a gap is reported
    before a conclusion: not measured if any contrast is, then not enough seeds, then not tested at this budget
    (see `kdlib.study.judging`). With every contrast judged, the claim is supported if all are and else inconclusive.

    Raises:
        ValueError: there is no verdict at all.
    """
    found = set(verdicts)
    if not found:
        raise ValueError("verdicts is empty, but a claim has at least one contrast.")
    order = (
        Verdict.CONTRADICTED,
        Verdict.NOT_MEASURED,
        Verdict.NOT_ENOUGH_SEEDS,
        Verdict.NOT_TESTED,
        Verdict.INCONCLUSIVE,
        Verdict.SUPPORTED,
    )
    return next(word for word in order if word in found)


def power(effect: float, sd: float, n: int, level: float = PRIMARY_LEVEL) -> float:
    """The probability that the paired interval of n seeds lies above 0, if the true mean is `effect`.

    Args:
        effect: true mean of the paired differences, in points.
        sd: their true standard deviation, positive, in the same unit; differences are taken as normal.
        n: number of seeds, at least 2.
        level: level of the two-sided interval.

    Returns a probability: the upper tail of the non-central t distribution (Cohen, 1988, chapter 2).
    """
    _check_level(level)
    if not sd > 0:
        raise ValueError(f"sd is {sd}, but it must be above 0.")
    if n < 2:
        raise ValueError(f"n is {n}, but an interval needs at least 2 seeds.")
    from scipy import special  # not above: it takes a while to import, and scipy.stats three times as long

    away, quantile = effect / sd * np.sqrt(n), _quantile(n, level)
    below = special.nctdtr(n - 1, away, quantile)
    if np.isnan(below):  # far out in a tail, where scipy.stats takes another way
        from scipy import stats

        return float(stats.nct.sf(quantile, n - 1, away))
    return float(1 - below)


def required_seeds(
    effect: float, sd: float, target: float = 0.8, level: float = PRIMARY_LEVEL, maximum: int = 1000
) -> int | None:
    """The smallest n from 5 to `maximum` whose `power` reaches `target`, or None if no such n does."""
    if not 0 < target < 1:
        raise ValueError(f"target is {target}, but it must lie between 0 and 1.")
    counts = range(MINIMUM_SEEDS, maximum + 1)
    return next((n for n in counts if power(effect, sd, n, level) >= target), None)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, but it must lie between 0 and 1.")


def _quantile(n: int, level: float) -> float:
    """Half-width of a two-sided t interval of n values, in standard errors."""
    from scipy import special

    return float(special.stdtrit(n - 1, (1 + level) / 2))
