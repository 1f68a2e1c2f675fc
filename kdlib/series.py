"""Arms that are points of a curve: accuracy against x, gain against x, and where x is suitable."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kdlib.stats import Interval, mean_interval, paired_interval
from kdlib.studies import Contrast, Study
from kdlib.tables import by_seed, contrast_interval


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

    behind: x -> interval of the best arm minus the arm at x, for the other measured x; planned: how many x there are.
    """

    best: float
    range: tuple[float, ...]
    behind: Mapping[float, Interval]
    planned: int

    def __str__(self) -> str:
        """The range in words; it may have gaps, and says how many of the planned x are measured."""
        measured = len(self.behind) + 1
        of = "" if measured == self.planned else f"; {measured} of {self.planned} planned values are measured"
        return f"{', '.join(f'{x:g}' for x in self.range)} (best mean at {self.best:g}{of})"


def suitable(study: Study, frame: pd.DataFrame, name: str, level: float = 0.95) -> Suitable | None:
    """All x whose simultaneous paired interval against the best x contains 0; None with fewer than two points.

    A point is an x with three seeds or more. The best has the largest mean over its seeds; each other one is paired
    with it over the seeds that both have, so that a point of few seeds costs the others nothing. The intervals of all
    k - 1 planned comparisons hold together at `level` (Bonferroni). The best is chosen from the same data, which makes
    it look better than it is: the range errs on the narrow side.
    """
    values = {x: by_seed(frame, arm) for arm, x in study.series[name].items()}
    values = {x: seeds for x, seeds in values.items() if len(seeds) > 2}
    if len(values) < 2:
        return None
    best = max(values, key=lambda x: sum(values[x].values()) / len(values[x]))
    each = 1 - (1 - level) / (len(study.series[name]) - 1)
    behind = {x: paired_interval(values[best], values[x], each) for x in sorted(values) if x != best}
    found = tuple(sorted([best, *(x for x, i in behind.items() if not i.low > 0)]))
    return Suitable(best, found, behind, len(study.series[name]))
