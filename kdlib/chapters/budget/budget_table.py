"""The budget curve in words and tables: which verdicts stand, where lines cross, which learning rates are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import log2

import pandas as pd

from kdlib.chapters.budget import CCD, CHOSEN, FAMILIES, HSAKD, NO_TEACHER, RATES, WAYS, rates_of
from kdlib.lab.forecasts import run_cost
from kdlib.study.arms import Contrast
from kdlib.study.equivalence import equivalence
from kdlib.study.judging import demonstration, verdict_text
from kdlib.study.series import gains, points
from kdlib.study.setting import Study
from kdlib.study.stats import Interval, Verdict
from kdlib.study.tables import above_floor, by_seed, contrast_values, in_words, span, untrained

GAP = "not measured"
VIEWS, WORK = "views of an image", "TMACs of a run"

# --- the learning rates


def choose(study: Study, frame: pd.DataFrame) -> dict[str, float | None]:
    """Family of methods -> the learning rate of the largest mean top-1 on the validation split.

    The mean is over the family's arms at the smallest budget; of equal rates the smaller one is taken. None as long as
    one of the runs is missing.
    """
    first = study.setting.profile.budgets[0]
    return {family: _best(study, frame, [rates_of(way, first) for way in ways]) for family, ways in FAMILIES.items()}


def _best(study: Study, frame: pd.DataFrame, series: Sequence[str]) -> float | None:
    tried = [(rate, arm) for name in series for arm, rate in study.series.get(name, {}).items()]
    if not tried or any(len(by_seed(frame, arm)) < len(study.specs(arm)) for _, arm in tried):
        return None
    found = {rate: [top1 for r, arm in tried if r == rate for top1 in by_seed(frame, arm).values()] for rate in RATES}
    return max(RATES, key=lambda rate: sum(found[rate]) / len(found[rate]))  # the first of equal ones


def rates(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """One row per arm whose learning rate was tried: top-1 on the validation split by rate; empty without any run."""
    tried = {name: curve for name, curve in study.series.items() if any(study.arms[arm].validation for arm in curve)}
    found = {name.removesuffix(", by rate"): points(study, frame, name) for name in tried}
    rows = {
        name: {f"rate {rate:g}": f"{curve[rate].mean:.2f}" if rate in curve else "" for rate in RATES}
        for name, curve in found.items()
        if curve
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def choice(study: Study, frame: pd.DataFrame) -> str:
    """What the rule finds for each family of methods, and what its arms were trained with, in a sentence."""
    own = study.setting.profile.recipe.learning_rate
    if study.setting.profile.trains:
        return f"No learning rate is chosen at a demonstration: every arm has the profile's own, {own:g}."
    said = []
    for family, rate in choose(study, frame).items():
        used = f"used: {CHOSEN[family]:g}" if family in CHOSEN else f"used meanwhile: the profile's own, {own:g}"
        found = f"{rate:g}{', the largest that was tried' if rate == max(RATES) else ''}" if rate else GAP
        said.append(f"by {' and '.join(FAMILIES[family])} {found} ({used})")
    return f"The rule finds these learning rates: {'; '.join(said)}."


# --- what is there


def tested(study: Study) -> Study:
    """The study without the arms of the validation split, whose accuracies belong in no table beside the others."""
    return replace(study, arms={label: arm for label, arm in study.arms.items() if not arm.validation})


def curves(study: Study, frame: pd.DataFrame) -> dict[str, dict[str, dict[float, Interval]]]:
    """What the budget is counted in -> way -> budget -> interval of top-1, of the ways that are measured.

    TMACs are those of a student's run: HSAKD's branches on the teacher are trained before, once for all.
    """
    found = {way: points(study, frame, way) for way in (*WAYS, NO_TEACHER) if way in study.series}
    found = {way: curve for way, curve in found.items() if curve}
    macs = {
        way: {views: run_cost(study.specs(arm)[0]).run_macs / 1e12 for arm, views in study.series[way].items()}
        for way in found
    }
    return {VIEWS: found, WORK: {way: {macs[way][v]: i for v, i in curve.items()} for way, curve in found.items()}}


# --- where two lines cross


def crossing(differences: Mapping[float, Interval]) -> float | None:
    """The budget from which on the means have the sign that they have at the largest one; None if all have it.

    differences: budget -> one curve minus another. Between two budgets lines are straight over the logarithm.
    """
    known = [(budget, difference.mean) for budget, difference in sorted(differences.items()) if difference.mean]
    for (low, before), (high, after) in reversed(list(pairwise(known))):
        if before * after < 0:
            return 2 ** (log2(low) + (log2(high) - log2(low)) * before / (before - after))
    return None


def rivals(study: Study, frame: pd.DataFrame) -> dict[float, Interval]:
    """Budget -> CCD - HSAKD, where both are measured."""
    return gains(study, frame, CCD, HSAKD) if CCD in study.series else {}


def settled(differences: Mapping[float, Interval], planned: float, first: str = CCD, second: str = HSAKD) -> str:
    """Which of two curves is ahead from where on, or that it is not settled, in a sentence.

    It is settled if they cross, and the interval at the largest measured budget is without zero. planned: the largest
    budget of all.
    """
    if not differences:
        return f"Whether {second} passes {first} is {GAP}."
    last, at = max(differences), crossing(differences)
    end = differences[last]
    ahead, behind = (first, second) if end.mean > 0 else (second, first)
    there = f"at {last:g} views of an image {first} - {second} is {in_words(end)}"
    more = f"; budgets up to {planned:g} views are planned" if last < planned else ""
    if at is None:
        return f"{ahead} is ahead at every measured budget, {there}{more}: where the lines cross is not settled."
    if not (end.shown and (end.low > 0 or end.high < 0)):
        return f"The means cross at about {at:.0f} views of an image, but {there}{more}: who is ahead is not settled."
    return f"From about {at:.0f} views of an image on {ahead} is ahead of {behind}: {there}{more}."


# --- the finding


def finding(study: Study, frame: pd.DataFrame) -> str:
    """The answer of the chapter, all computed: whether every rival trains, the verdicts, and what is not settled."""
    if not study.setting.verdicts:
        return demonstration(study, frame)
    judged = [contrast for contrast in study.contrasts if contrast.primary]
    if not judged:
        return "Nothing but learning rates is tried here."
    crossed = settled(rivals(study, frame), study.setting.profile.budgets[-1])
    return f"{trained(study, frame, judged)} {verdicts(study, frame, judged)} {crossed}"


def trained(study: Study, frame: pd.DataFrame, contrasts: Sequence[Contrast]) -> str:
    """Which arms of some contrasts are below the same student without a teacher at the budget that decides."""
    views = study.setting.profile.recipe.views_per_image
    arms = dict.fromkeys(arm for contrast in contrasts for arm in contrast.weights)
    decided = [arm for arm in arms if study.arms[arm].recipe["views_per_image"] == views]
    here = above_floor(study, frame, decided)
    if not here or any(i.n < study.planned_above_floor(arm) for arm, i in here.items()):
        return f"Whether every rival trains at {views} views of an image is {GAP}."
    below = [f"{arm} ({in_words(i)})" for arm, i in untrained(here).items()]
    if not below:
        return f"At {views} views of an image every rival trains: none is below the same student without a teacher."
    return f"Not every rival trains; below the same student without a teacher: {', '.join(below)}."


def verdicts(study: Study, frame: pd.DataFrame, contrasts: Sequence[Contrast]) -> str:
    """The verdicts on some primary contrasts, those of one word together."""
    words: dict[str, list[str]] = {}
    for contrast in contrasts:
        words.setdefault(verdict_text(study, contrast, frame), []).append(f"{contrast.name} ({contrast.text})")
    if set(words) <= {str(Verdict.NOT_MEASURED)}:
        return f"None of the {len(contrasts)} contrasts that were fixed beforehand is measured yet."
    parts = [f"**{word}**: {', '.join(names)}" for word, names in words.items()]
    return f"Of the {len(contrasts)} contrasts that were fixed beforehand, {'; '.join(parts)}."


def equal(study: Study, frame: pd.DataFrame, name: str = "F2") -> str:
    """Whether the two arms of a contrast do equally well, once all of its seeds are there."""
    contrast = study.contrast(name)
    values = list(contrast_values(contrast, frame).values()) if contrast else []
    if not contrast or len(values) < max(2, study.planned(contrast)):
        return GAP
    found = equivalence(values)
    return f"{found} ({100 * found.interval.level:.0f} % interval {span(found.interval, '+.2f')}, n = {len(values)})"
