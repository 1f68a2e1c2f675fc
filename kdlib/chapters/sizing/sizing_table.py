"""Candidates for a profile side by side: how good students are under each, and which one the profile uses."""

from collections.abc import Callable, Mapping

import pandas as pd

from kdlib.chapters.registry import create_study
from kdlib.chapters.sizing import QUESTIONS, VIEWS, label_of
from kdlib.lab.forecasts import run_cost, training_images
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.study.arms import Arm, Contrast
from kdlib.study.setting import Study
from kdlib.study.stats import PRIMARY_LEVEL, Interval, mean_interval, paired_interval
from kdlib.study.tables import (
    arm_intervals,
    by_seed,
    contrast_interval,
    contrast_values,
    digits,
    in_words,
    runs_frame,
    span,
    training_gap,
)

GAP = "not measured"
#: Question -> what a run of a candidate answers.
ANSWERS: Mapping[str, Callable[[RunSpec], str]] = {
    "images x views of each": lambda spec: f"{training_images(spec):,}\nx {spec.recipe.views_per_image}",
    "learning rate": lambda spec: f"{spec.recipe.learning_rate:g}",
    "views in a step": lambda spec: f"{spec.recipe.views_per_step}\nrate {spec.recipe.learning_rate:g}",
    "student": lambda spec: spec.student,
    "views of an image": lambda spec: f"{spec.recipe.views_per_image}",
}


def candidates(study: Study) -> list[str]:
    """Their names, in the order of the study."""
    return list(dict.fromkeys(label.rsplit(": ", 1)[0] for label in study.arms))


def scores(frame: pd.DataFrame, candidate: str) -> dict[int, float]:
    """Seed -> what a candidate is judged by: the mean of its arms' accuracies, for the seeds that both have."""
    arms = [by_seed(frame, label_of(candidate, view)) for view in VIEWS]
    return {seed: sum(arm[seed] for arm in arms) / len(arms) for seed in arms[0] if all(seed in arm for arm in arms)}


def finished(frame: pd.DataFrame, names: list[str]) -> dict[str, dict[int, float]]:
    """The `scores` of those candidates that have any."""
    return {name: values for name in names if (values := scores(frame, name))}


def shared_seeds(found: Mapping[str, Mapping[int, float]]) -> set[int]:
    """The seeds that all candidates have."""
    return set.intersection(*map(set, found.values())) if found else set()


def used(study: Study) -> str | None:
    """The candidate that the study's profile itself uses; None if it is none of them."""
    for name in candidates(study):
        specs = {view: study.specs(label_of(name, view))[0] for view in VIEWS}
        own = {v: study.setting.run(s.seed, Arm("", VIEWS[v], validation=True)) for v, s in specs.items()}
        if specs == own:
            return name
    return None


def best(frame: pd.DataFrame, names: list[str]) -> str | None:
    """The finished candidate of the largest mean score, over the seeds that all finished ones share; None without.

    If it has more seeds than these, it is compared once more, with the others that have more, over all that they share.
    """
    found = finished(frame, names)
    shared = shared_seeds(found)
    if not shared:
        return None
    leader = max(found, key=lambda name: sum(found[name][seed] for seed in shared))
    more = [name for name, values in found.items() if len(values) > len(shared)]
    return best(frame, more) if leader in more else leader


def table(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """One row per candidate: what it is, the accuracy of both arms, the mean that decides, what the profile uses.

    The first three are over the seeds that both arms have; where there are none, over those of the one arm. The mean
    stands there once more over the seeds that all finished candidates share.
    """
    found = finished(frame, candidates(study))
    chosen, rows, shared = used(study), {}, shared_seeds(found)
    for name in candidates(study):
        specs, by = study.specs(label_of(name, "weak2")), found.get(name, {})
        recipe = specs[0].recipe
        rows[name] = {
            "images x views": f"{training_images(specs[0]):,} x {recipe.views_per_image}",
            "views in a step": recipe.views_per_step,
            "learning rate": f"{recipe.learning_rate:g}",
            "student": specs[0].student,
            **{f"{view} %": _shown(frame, name, view) for view in VIEWS},
            "mean %": _mean(mean_interval(list(by.values()))),
            "of shared seeds %": _mean(mean_interval([by[seed] for seed in sorted(shared) if by])),
            "n": f"{len(by)} of {len(specs)}",
            "used": "yes" if name == chosen else "",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def beside(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """One row per candidate: what stands beside the mean and does not decide. JDA - weak2, paired by seed; points by
    which accuracy on training images is above the other one, for both arms; and what a run costs."""
    rows = {}
    for name in candidates(study):
        plain, jda = (label_of(name, view) for view in VIEWS)
        gain = contrast_interval(Contrast.of("", jda, plain), frame)
        rows[name] = {
            "JDA - weak2": f"{gain.mean:+.2f}" if gain.n else GAP,
            "95 % interval": span(gain, "+.2f"),
            "training - validation, weak2": training_gap(frame, plain) or "",
            "the same, JDA": training_gap(frame, jda) or "",
            "TMACs of a run": digits(run_cost(study.specs(plain)[0]).run_macs / 1e12),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _shown(frame: pd.DataFrame, name: str, view: str) -> str:
    """Mean top-1 of one arm of a candidate, over the seeds that count for its score where it has any."""
    top1, both = by_seed(frame, label_of(name, view)), scores(frame, name)
    return _mean(mean_interval([value for seed, value in top1.items() if seed in both or not both])) or "not run"


def _mean(interval: Interval) -> str:
    return f"{interval.mean:.2f}" if interval.n else ""


def panels(study: Study, frame: pd.DataFrame) -> dict[str, dict[str, dict[str, Interval]]]:
    """Question -> view policy -> answer -> interval of top-1, for questions with two candidates or more."""
    found, top1 = {}, arm_intervals(study, frame)
    for question, names in asked(study).items():
        answers = {name: ANSWERS[question](study.specs(label_of(name, "weak2"))[0]) for name in names}
        found[question] = {view: {answers[n]: top1[label_of(n, view)] for n in names} for view in VIEWS}
    return found


def asked(study: Study) -> dict[str, list[str]]:
    """Question -> the candidates that answer it, where the study has two of them or more."""
    here = candidates(study)
    found = {question: [name for name in names if name in here] for question, names in QUESTIONS.items()}
    return {question: names for question, names in found.items() if len(names) > 1}


def words(study: Study, frame: pd.DataFrame) -> dict[str, str]:
    """What the prose says: the `best` candidate and the one that is `used`, the paired `difference` of their scores,
    the `choice` in a sentence, and the best candidate of each of the `questions`."""
    names, chosen = candidates(study), used(study)
    found, done = best(frame, names), len(finished(frame, names))
    answers = {question: _won(frame, some) for question, some in asked(study).items()}
    said = {
        "best": (found if done == len(names) else f"{found}, of the {done} that are measured") if found else GAP,
        "used": chosen or "none of the candidates",
        "difference": GAP,
        "choice": "The profile's own is not measured yet." if chosen else "The profile uses none of them.",
        "questions": "; ".join(f"{question}: {name}" for question, name in answers.items()),
    }
    if found and chosen and scores(frame, chosen):
        macs = [run_cost(study.specs(label_of(name, "weak2"))[0]).run_macs for name in (found, chosen)]
        same = found == chosen
        said["choice"] = _choice(same, macs[0] / macs[1])
        said["difference"] = "none" if same else in_words(paired_interval(scores(frame, found), scores(frame, chosen)))
    return said


def _won(frame: pd.DataFrame, names: list[str]) -> str:
    """The best of several candidates, and its lead over the closest; there is none before two can be compared."""
    found, first = finished(frame, names), best(frame, names)
    if first is None or len(found) < 2:
        return GAP
    leads = {name: paired_interval(found[first], found[name]) for name in found if name != first}
    closest = min(leads, key=lambda name: leads[name].mean)
    return f"{first}, {in_words(leads[closest])} against {closest}"


def from_seed_to_seed(study: Study, frame: pd.DataFrame) -> str:
    """How far apart the best and the worst seed of an arm are, of the arms with three seeds or more, in words."""
    arms = [list(by_seed(frame, arm).values()) for arm in study.arms]
    ranges = [max(values) - min(values) for values in arms if len(values) > 2]
    return f"{min(ranges):.1f} to {max(ranges):.1f} points" if ranges else GAP


def untouched(study: Study, store: Store) -> str:
    """JDA - weak2 on the test images (a1), in words, over the seeds whose students had no part in the choice."""
    headline = create_study("03_blind_teacher", study.setting)
    values = contrast_values(headline.contrast("a1"), runs_frame(headline, store))
    tuned = {spec.seed for arm in study.arms for spec in study.specs(arm)}
    return in_words(mean_interval([value for seed, value in values.items() if seed not in tuned], PRIMARY_LEVEL))


def _choice(same: bool, work: float) -> str:
    if same:
        return "The profile uses the best one."
    amount = "just as much" if f"{work:.2f}" == "1.00" else f"{work:.2f} times as much"
    return f"The profile does not use the best one, of which a run computes {amount} as one of its own."
