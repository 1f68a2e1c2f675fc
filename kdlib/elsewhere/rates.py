"""The learning rate of detectors and of masked views over a run, or over one of its stages."""

import math

WARM_UP = 0.05  # of the steps, in which it rises


def rate(number: int, steps: int) -> float:
    """The learning rate of step 0, 1, ... as a part of the highest: it rises over 5 % of them, then falls to zero.

    >>> rate(0, 100), rate(4, 100), round(rate(52, 100), 2)
    (0.2, 1.0, 0.51)
    """
    first = max(1, round(WARM_UP * steps))
    if number < first:
        return (number + 1) / first
    return (1 + math.cos(math.pi * (number - first) / max(1, steps - first))) / 2
