"""T.stddev of the teacher beside the loss of students: one point per policy, and the rank correlation of the two."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import atanh, nan, sqrt, tanh

import numpy as np
import pandas as pd

from kdlib.randomness import uniforms
from kdlib.study.stats import Interval, Verdict, mean_interval
from kdlib.study.tables import by_seed, span

#: Fewer pairs than this have no interval: its standard error divides by n - 3.
MINIMUM_PAIRS = 4
PERMUTATIONS = 99_999


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of n pairs, its interval [low, high], and the p-value of no relation.

    All are nan if there are too few pairs, or if all values of one variable are equal; low and high also if the two
    orders agree, or disagree, completely, where the interval has no width.
    """

    rho: float
    low: float
    high: float
    p: float
    n: int
    level: float

    def __str__(self) -> str:
        if self.n < MINIMUM_PAIRS:
            return str(Verdict.NOT_MEASURED)
        if np.isnan(self.rho):
            return "not defined: all values are equal"
        interval = "no interval" if np.isnan(self.low) else f"[{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.rho:+.2f} ({100 * self.level:g} % interval {interval}, p = {self.p:.2g}, {self.n} policies)"


def spearman(x: Mapping[str, float], y: Mapping[str, float], level: float = 0.95) -> Correlation:
    """Spearman's rank correlation of two variables over the names that both have.

    The interval is Fisher's z with the standard error of Bonett and Wright (Psychometrika 65, 2000, 23-28),
    sqrt((1 + rho^2 / 2) / (n - 3)). It takes the pairs as a random sample of many; with 8 or 10 pairs of a normal
    distribution it covers its level within 2 points. Resampling the pairs would not do for so few: most resamples
    repeat some, and the ranks of repeated pairs are tied. The two-sided p-value comes from 99,999 random pairings of
    the same values, with the observed one counted among them, and assumes nothing of how they are distributed.
    """
    from scipy import stats  # not above: it takes a second to import

    names = [name for name in x if name in y]
    n = len(names)
    if n < MINIMUM_PAIRS:
        return Correlation(nan, nan, nan, nan, n, level)
    a, b = (stats.rankdata([v[name] for name in names]) - (n + 1) / 2 for v in (x, y))
    scale = sqrt((a @ a) * (b @ b))
    if not scale:
        return Correlation(nan, nan, nan, nan, n, level)
    pairings = uniforms(0, "pairings", 0, PERMUTATIONS, n).argsort(1).numpy()
    rho, others = a @ b / scale, b[pairings] @ a / scale
    p = (1 + int((np.abs(others) > abs(rho) - 1e-9).sum())) / (1 + PERMUTATIONS)
    if abs(rho) > 1 - 1e-9:
        return Correlation(round(rho), nan, nan, p, n, level)
    half = stats.norm.ppf((1 + level) / 2) * sqrt((1 + rho**2 / 2) / (n - 3))
    return Correlation(float(rho), tanh(atanh(rho) - half), tanh(atanh(rho) + half), p, n, level)


def points(measured: Mapping[str, Mapping | None], frame: pd.DataFrame, metric: str = "nll") -> pd.DataFrame:
    """One row per policy: spread, error (its standard error), labels (the spread of the labels alone), draws; loss
    (mean over seeds), low, high (its 95 % interval), seeds. What is missing is nan.

    measured: policy -> metrics of its spread, or None; frame: finished runs (see `tables.runs_frame`), arms named as
    the policies; metric: the loss, a column of it.
    """
    rows = {}
    for name, metrics in measured.items():
        over = mean_interval(list(by_seed(frame, name, metric).values()))
        found = [(metrics or {}).get(key) for key in ("t_stddev", "t_stddev_se", "label_spread", "draws")]
        rows[name] = [nan if v is None else float(v) for v in (*found, over.mean, over.low, over.high, over.n)]
    columns = ["spread", "error", "labels", "draws", "loss", "low", "high", "seeds"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def rank_correlation(found: pd.DataFrame) -> Correlation:
    """That of spread and mean loss, over the policies of `points` that have both."""
    return spearman(found.spread.dropna().to_dict(), found.loss.dropna().to_dict())


def rank_correlations(found: pd.DataFrame, frame: pd.DataFrame, metric: str = "nll") -> dict[int, Correlation]:
    """The same seed by seed: how much of it hangs on the seeds."""
    spread = found.spread.dropna().to_dict()
    losses = {name: by_seed(frame, name, metric) for name in found.index}
    seeds = sorted({seed for of_arm in losses.values() for seed in of_arm})
    return {s: spearman(spread, {name: v[s] for name, v in losses.items() if s in v}) for s in seeds}


def seeds_text(found: Mapping[int, Correlation]) -> str:
    """The range of the correlations of single seeds, in words."""
    values = [c.rho for c in found.values() if not np.isnan(c.rho)]
    return f"{min(values):+.2f} to {max(values):+.2f} (n = {len(values)})" if values else str(Verdict.NOT_MEASURED)


def draws_text(measured: Mapping[str, Mapping | None]) -> str:
    """The draws that all policies share, in words."""
    found = next((metrics for metrics in measured.values() if metrics), None)
    if found is None:
        return "no draws yet"
    return f"{found['draws']:,} draws of {found['images_per_draw']} images each, from {found['pool']:,} training images"


def shape(found: pd.DataFrame) -> str:
    """Where the loss is lowest along the spread, in words: inside, so that one direction is the wrong question, or at
    an end."""
    both = found.dropna(subset=["spread", "loss"]).sort_values("spread", kind="stable")
    if len(both) < 3:
        return "Too few policies are measured to see a shape."
    place = int(both.loss.to_numpy().argmin())
    lowest, ends = both.index[place], f"{both.index[0]} and {both.index[-1]}"
    if 0 < place < len(both) - 1:
        return (
            f"The loss is lowest inside, at {lowest} (number {place + 1} of {len(both)} by spread), and higher at both "
            f"ends ({ends}): the points are U-shaped. A rank correlation asks for one direction, and is the wrong "
            "summary of them."
        )
    return f"The loss is lowest at an end, at {lowest}."


def points_table(found: pd.DataFrame, planned: Mapping[str, int]) -> pd.DataFrame:
    """The points, ready to print, by rising spread; planned: policy -> the number of its seeds."""
    rows = {}
    for name, row in found.sort_values("spread", kind="stable").iterrows():
        measured, run = not np.isnan(row.spread), row.seeds > 0
        losses = Interval(row.loss, row.low, row.high, int(row.seeds), 0.95)
        rows[name] = {
            "T.stddev": f"{row.spread:.5f}" if measured else "not run",
            "standard error": "" if np.isnan(row.error) else f"{row.error:.5f}",
            "draws": f"{row.draws:.0f}" if measured else "",
            "students' test NLL": f"{row.loss:.4f}" if run else "not run",
            "95 % interval": span(losses, ".4f"),
            "n": f"{losses.n} of {planned[name]}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")
