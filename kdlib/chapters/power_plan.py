"""Before any run: how many seeds the primary contrasts of a study need, against how many are planned.

What is looked for is the margin of each contrast, `Contrast.margin`: the numbers are those of
`kdlib.study.stats.required_seeds` and `kdlib.study.stats.power`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdlib.chapters.registry import studies_of
from kdlib.lab.store import Store
from kdlib.study import stats
from kdlib.study.arms import Contrast
from kdlib.study.setting import Setting, Study
from kdlib.study.stats import MARGIN, MINIMUM_SEEDS
from kdlib.study.two_way import finished

#: The power that is asked for.
POWER = 0.8
#: A need for more seeds than this is not counted.
MOST_SEEDS = 1000
#: So many finished pairs measure a spread.
LEAST_PAIRS = 3
#: The profile whose spreads stand in where nothing is measured.
MEASURED = "reference"


@dataclass(frozen=True)
class Need:
    """What a primary contrast needs. Printed, it is the line of a plan.

    level: of its interval. planned: seeds. spread: the standard deviation of its differences from seed to seed, in
    points, nan where none is known; source: what it is taken from. seeds: that find the margin with a power of 80 %;
    None if more than `MOST_SEEDS` would do so, or without a spread. power: of the planned seeds, 0..1; nan with fewer
    than two, or without a spread. margin: in points.
    """

    contrast: str
    level: float
    planned: int
    spread: float
    source: str
    seeds: int | None
    power: float
    margin: float = MARGIN

    def __str__(self) -> str:
        if math.isnan(self.spread):
            return f"{self.contrast}: {self.planned} seeds planned, {self.source}"
        power = "no interval" if math.isnan(self.power) else f"power {100 * self.power:.0f} %"
        return (
            f"{self.contrast}: {self.planned} seeds planned, {power} for {self.margin} points at level "
            f"{100 * self.level:.2f} %; {100 * POWER:.0f} % need {self.seeds or f'more than {MOST_SEEDS}'}, if "
            f"differences vary by {self.spread:.2f} points from seed to seed ({self.source})"
        )


def lines(studies: Sequence[Study], store: Store) -> list[str]:
    """What the primary contrasts of several studies need, a line for each."""
    judged = [study for study in studies if _primary(study)]
    typical = typical_spread(judged[0].setting, store) if judged else None
    return [f"{study.name}, {need}" for study in judged for need in required(study, store, typical)]


def required(study: Study, store: Store, typical: float | None = None) -> list[Need]:
    """What each primary contrast of a study needs; empty where no verdict is given (see `Setting.verdicts`).

    The spread is that of the store's finished pairs, from three on, and else a typical one. The seeds are those that
    tell a true difference of the margin from none; they also tell none from the margin, if the claim is "no better".

    typical: the spread of contrasts of top-1 that are not measured, in points; by default `typical_spread`.
    """
    contrasts = _primary(study)
    if contrasts and typical is None:
        typical = typical_spread(study.setting, store)
    return [_need(study, contrast, measured_spread(study, store, contrast), typical) for contrast in contrasts]


def measured_spread(study: Study, store: Store, contrast: Contrast) -> tuple[float, int]:
    """The standard deviation of a contrast's differences from seed to seed, and of how many pairs it is.

    In points; nan for fewer than three pairs, and where the results of the arms lack what is compared.
    """
    pairs = [{arm: one.metrics.get(contrast.metric) for arm, one in found.items()} for found in
             finished(study, store, contrast).values()]  # fmt: skip
    known = [pair for pair in pairs if None not in pair.values()]
    values = [sum(w * pair[arm] for arm, w in contrast.weights.items()) for pair in known]
    return (float(np.std(values, ddof=1)) if len(values) >= LEAST_PAIRS else math.nan), len(values)


def typical_spread(setting: Setting, store: Store) -> float:
    """The median of the measured spreads of profile reference's primary contrasts of top-1, in points; nan without any.

    The store may be that of another profile: what is published it finds for every one.
    """
    studies = studies_of(Setting.of(MEASURED, device=setting.machine.device))
    asked = [(study, contrast) for study in studies for contrast in _primary(study) if contrast.metric == "top1"]
    spreads = [measured_spread(study, store, contrast)[0] for study, contrast in asked]
    known = [spread for spread in spreads if not math.isnan(spread)]
    return float(np.median(known)) if known else math.nan


def _primary(study: Study) -> list[Contrast]:
    return [contrast for contrast in study.contrasts if contrast.primary and study.setting.verdicts]


def _need(study: Study, contrast: Contrast, measured: tuple[float, int], typical: float) -> Need:
    spread, source = measured[0], f"measured on {measured[1]} pairs"
    if math.isnan(spread) and contrast.metric == "top1":  # spreads of accuracies say nothing of another metric
        spread, source = typical, f"taken from profile {MEASURED}"
    planned, level = study.planned(contrast), contrast.level
    if math.isnan(spread):
        return Need(contrast.name, level, planned, spread, "no spread is known yet", None, math.nan, contrast.margin)
    if not spread:  # every seed gives the same difference
        return Need(contrast.name, level, planned, spread, source, MINIMUM_SEEDS, 1.0, contrast.margin)
    found = stats.power(contrast.margin, spread, planned, level) if planned > 1 else math.nan
    needed = stats.required_seeds(contrast.margin, spread, POWER, level, MOST_SEEDS)
    return Need(contrast.name, level, planned, spread, source, needed, found, contrast.margin)
