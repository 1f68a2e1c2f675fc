"""Arms that are points of a curve: accuracy against x, gain against x, and where x is suitable."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kdlib.study.arms import Contrast
from kdlib.study.setting import Study
from kdlib.study.stats import Interval, mean_interval, paired_differences, paired_interval
from kdlib.study.tables import by_seed, contrast_interval


def points(study: Study, frame: pd.DataFrame, name: str) -> dict[float, Interval]:
    """x -> the 95 % interval of top-1 over seeds, for the finished arms of a series, x ascending."""
    found = {x: mean_interval(list(by_seed(frame, arm).values())) for arm, x in study.series[name].items()}
    return {x: interval for x, interval in sorted(found.items()) if interval.n}


def gains(study: Study, frame: pd.DataFrame, name: str, than: str) -> dict[float, Interval]:
    """x -> the paired 95 % interval of one series minus another, where both have an arm at x that is finished."""
    others = {x: arm for arm, x in study.series[than].items()}
    pairs = [(x, arm, others[x]) for arm, x in study.series[name].items() if x in others]
    found = {x: contrast_interval(Contrast.of(f"{arm} - {other}", arm, other), frame) for x, arm, other in pairs}
    return {x: interval for x, interval in sorted(found.items()) if interval.n}


@dataclass(frozen=True)
class Suitable:
    """The x that cannot be told from the best one.

    behind: x -> interval of the best arm minus the arm at x, for the other measured x; planned: how many x the profile
    plans.
    """

    best: float
    range: tuple[float, ...]
    behind: Mapping[float, Interval]
    planned: int

    def __str__(self) -> str:
        """The range in words, which may have gaps; how well the points are told apart; and how many are missing."""
        measured = len(self.behind) + 1
        of = "" if measured == self.planned else f"; {measured} of {self.planned} planned values are measured"
        halves = sorted(i.mean - i.low for i in self.behind.values() if i.n > 1)
        ends = " to ".join(dict.fromkeys(f"{half:.1f}" for half in (*halves[:1], *halves[-1:])))
        told = f"; others are left out if they are behind by more than {ends} points" if ends else ""
        return f"{', '.join(f'{x:g}' for x in self.range)} (best mean at {self.best:g}{told}{of})"


def suitable(study: Study, frame: pd.DataFrame, name: str, level: float = 0.95) -> Suitable | None:
    """All x at least as good as the zero point whose simultaneous paired interval against the best x contains 0.

    The zero point is the smallest x; an x whose mean difference from it is negative is not suitable, however wide its
    interval. None with fewer than two points.

    A point is an x with three seeds or more. Two points are compared over the seeds that both have, so that a point of
    few seeds costs the others nothing; the best is the one whose least mean difference from another is largest: ahead
    of all, if one is. The intervals of the k - 1 comparisons that the profile plans hold together at `level`
    (Bonferroni). The best is chosen from the same data, which makes it look better than it is and the range narrower;
    few seeds make it wide.
    """
    values = {x: by_seed(frame, arm) for arm, x in study.series[name].items()}
    values = {x: seeds for x, seeds in values.items() if len(seeds) > 2}
    if len(values) < 2:
        return None

    def lead(x: float) -> float:
        ahead = [paired_differences(values[x], values[other]) for other in values if other != x]
        return min((float(each.mean()) for each in ahead if each.size), default=-math.inf)

    def good(x: float) -> bool:
        above = paired_differences(values[x], values[min(values)])
        return not above.size or float(above.mean()) >= 0

    best = max(values, key=lead)
    last = study.setting.profile.tiers
    planned = {x for arm, x in study.series[name].items() if study.tier(arm) <= last} | set(values)
    each = 1 - (1 - level) / (len(planned) - 1)
    behind = {x: paired_interval(values[best], values[x], each) for x in sorted(values) if x != best}
    found = tuple(sorted([best, *(x for x, i in behind.items() if not i.low > 0 and good(x))]))
    return Suitable(best, found, behind, len(planned))
