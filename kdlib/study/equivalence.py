"""Whether two arms do equally well: a claim of "no difference", which a verdict on "better" cannot support."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdlib.study.stats import MARGIN, Interval, mean_interval


class Answer(StrEnum):
    """What the seeds say about a claim of "no difference"."""

    EQUIVALENT = "equivalent"
    NOT_EQUIVALENT = "not equivalent"
    NOT_SETTLED = "not settled"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Equivalence:
    """The outcome of two one-sided tests.

    interval: of the mean difference in points, at the level 1 - 2 alpha. margin: in points. p: the larger p-value of
    the two tests, nan if there is none. word: the answer in short; printed, it also says what it means.
    """

    interval: Interval
    margin: float
    p: float
    word: Answer

    def __str__(self) -> str:
        points = f"{self.margin:g} points"
        meaning = {
            Answer.EQUIVALENT: f" within {points}",
            Answer.NOT_EQUIVALENT: f": a difference of {points} or more is shown",
            Answer.NOT_SETTLED: f": the difference may be smaller or larger than {points}",
            Answer.NOT_MEASURED: "",
        }
        return f"{self.word}{meaning[self.word]}"


def equivalence(values: ArrayLike, margin: float = MARGIN, level: float = 0.95) -> Equivalence:
    """Two one-sided t tests of whether a mean difference lies in (-margin, +margin) (Schuirmann, 1987).

    Each test has the error rate alpha = 1 - level. Both reject exactly if the interval at the level 1 - 2 alpha lies
    inside the margins; then the arms are equivalent. It is 1 - 2 alpha and not 1 - alpha because only one of two
    borders can be the true mean. If the interval lies on one side of both margins, they are not equivalent. Either
    answer is wrong with a probability of at most alpha.

    Args:
        values: paired differences in points, one for each seed, finite; fewer than two are not measured.
        margin: points below which a difference does not matter, above 0.
        level: confidence level of each test, between 0.5 and 1.

    Raises:
        ValueError: a value is not finite, or the margin or the level is not in its range.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"margin is {margin}, but it must be above 0 and finite.")
    if not 0.5 < level < 1:
        raise ValueError(f"level is {level}, but it must lie between 0.5 and 1.")
    sample = np.asarray(values, dtype=np.float64).ravel()
    interval = mean_interval(sample, 1 - 2 * (1 - level))
    if interval.n < 2:
        return Equivalence(interval, margin, math.nan, Answer.NOT_MEASURED)
    return Equivalence(interval, margin, _larger_p(sample, margin), _answer(interval, margin))


def _answer(interval: Interval, margin: float) -> Answer:
    if -margin < interval.low and interval.high < margin:
        return Answer.EQUIVALENT
    if interval.low >= margin or interval.high <= -margin:
        return Answer.NOT_EQUIVALENT
    return Answer.NOT_SETTLED


def _larger_p(sample: NDArray[np.float64], margin: float) -> float:
    """The p-value of the test against the border that is nearer to the mean: the other one is smaller."""
    from scipy import special  # not above: it takes a while to import

    beyond = abs(float(sample.mean())) - margin  # above 0 outside the margins
    error = float(sample.std(ddof=1)) / math.sqrt(sample.size)
    if error == 0:
        return float(beyond >= 0)
    return float(special.stdtr(sample.size - 1, beyond / error))
