"""Candidates for a profile: the mean of two arms decides, over shared seeds, and the profile's own one is found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kdlib.chapters.registry import create_study
from kdlib.chapters.sizing import CANDIDATES, CENTRE, IMAGES, QUESTIONS, label_of, sizing_table
from kdlib.lab import forecasts
from kdlib.lab.store import Store
from kdlib.study import tables
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")


USED = "lower rate"


@pytest.fixture
def study():
    """The study of a profile that uses USED, whatever the real one does."""
    setting = Setting.of("reference", seeds=[0, 1, 2], device="cpu")
    images, views, rate, student, step = CANDIDATES[USED]
    recipe = {"views_per_image": views, "learning_rate": rate, "views_per_step": step}
    scale = replace(
        setting.profile, recipe=setting.profile.recipe.model_copy(update=recipe), fraction=images / IMAGES,
        pairs={setting.pair: (setting.networks[0], student)},
    )  # fmt: skip
    return create_study("16_sizing", replace(setting, profile=scale))


@pytest.fixture
def filled(study, invented):
    """filled({candidate: (top-1 of weak2 by seed, of JDA by seed)}) stores runs; returns the frame."""

    def fill(values: dict, **metrics) -> pd.DataFrame:
        store = Store("reference")
        for name, pair in values.items():
            for view, numbers in zip(("weak2", "JDA"), pair, strict=True):
                for spec, top1 in zip(study.specs(label_of(name, view)), numbers, strict=False):
                    store.put(invented(spec, "reference", top1=top1, **metrics))
        return tables.runs_frame(study, Store("reference"))

    return fill


def test_a_candidate_is_judged_by_the_mean_of_both_arms(filled):
    frame = filled({"centre": ([40, 41, 42], [44, 47])})
    assert sizing_table.scores(frame, "centre") == {0: 42, 1: 44}
    assert sizing_table.scores(frame, "lower rate") == {}


def test_neither_arm_alone_decides(filled):
    frame = filled({"centre": ([40], [44]), "lower rate": ([30], [50]), "higher rate": ([41.5], [42])})
    assert sizing_table.best(frame, list(CANDIDATES)) == "centre"
    assert sizing_table.best(frame, ["lower rate", "higher rate"]) == "higher rate"


def test_candidates_are_compared_over_the_seeds_that_all_have(filled):
    frame = filled({"centre": ([40, 60], [40, 60]), "lower rate": ([41], [41])})  # the second seed is a lucky one
    assert sizing_table.best(frame, list(CANDIDATES)) == "lower rate"
    assert sizing_table.best(frame, ["student"]) is None


def test_those_with_more_seeds_are_compared_over_all_of_them(filled):
    one, two = ([40, 42, 44], [40, 42, 44]), ([41, 42, 41], [41, 42, 41])  # the second is ahead at the first seed alone
    frame = filled({"centre": one, "higher rate": two, "lower rate": ([39], [39])})
    assert sizing_table.best(frame, list(CANDIDATES)) == "centre"
    frame = filled({"larger student": ([50], [50])})
    assert sizing_table.best(frame, list(CANDIDATES)) == "larger student"


def test_the_candidate_of_the_profile_is_found(study):
    assert sizing_table.used(study) == USED
    assert sizing_table.used(create_study("16_sizing", Setting.of("reference", device="cpu"))) in CANDIDATES
    for scale in ("smoke", "quick"):
        assert sizing_table.used(create_study("16_sizing", Setting.of(scale, device="cpu"))) == "centre"


def test_a_profile_may_use_none_of_them(study, filled):
    study = replace(study, arms={label: arm for label, arm in study.arms.items() if not label.startswith(USED)})
    assert sizing_table.used(study) is None
    assert sizing_table.words(study, filled({}))["choice"] == "The profile uses none of them."


def test_the_table_has_a_row_for_each(study, filled):
    table = sizing_table.table(study, filled({"centre": ([40, 41, 42], [44, 46, 48])}))
    assert list(table.index) == list(CANDIDATES)
    row, gap = table.loc["centre"], table.loc["lower rate"]
    assert (row["weak2 %"], row["JDA %"], row["mean %"], row["n"]) == ("41.00", "46.00", "43.50", "3 of 3")
    assert (gap["weak2 %"], gap["JDA %"], gap["mean %"], gap["n"]) == ("not run", "not run", "", "0 of 3")
    assert row["images x views"] == f"{CENTRE[0]:,} x {CENTRE[1]}" and gap["learning rate"] == f"{CANDIDATES[USED][2]}"
    assert [name for name, mark in table.used.items() if mark] == [USED]


def test_the_arms_of_a_row_are_over_the_seeds_of_its_mean(study, filled):
    frame = filled({"centre": ([40, 41, 45], [44]), "lower rate": ([30, 32], [])})
    row, half = (sizing_table.table(study, frame).loc[name] for name in ("centre", "lower rate"))
    assert (row["weak2 %"], row["JDA %"], row["mean %"], row["n"]) == ("40.00", "44.00", "42.00", "1 of 3")
    assert (half["weak2 %"], half["JDA %"], half["mean %"], half["n"]) == ("31.00", "not run", "", "0 of 3")


def test_the_mean_stands_there_once_more_over_shared_seeds(study, filled):
    frame = filled({"centre": ([40, 50], [44, 54]), "lower rate": ([43], [43])})
    table = sizing_table.table(study, frame)
    assert table.loc[["centre", "lower rate"], "mean %"].tolist() == ["47.00", "43.00"]
    assert table.loc[["centre", "lower rate"], "of shared seeds %"].tolist() == ["42.00", "43.00"]
    assert table.loc["higher rate", "of shared seeds %"] == ""
    said = sizing_table.words(study, frame)["questions"]
    assert "learning rate: lower rate, +1.00 points (one seed) against centre" in said


def test_how_far_seeds_are_apart(study, filled):
    assert sizing_table.from_seed_to_seed(study, filled({"lower rate": ([30, 39], [30, 39])})) == "not measured"
    frame = filled({"centre": ([40, 41, 42], [44, 46, 49.5])})
    assert sizing_table.from_seed_to_seed(study, frame) == "2.0 to 5.5 points"


def test_the_headline_without_the_seeds_of_the_choice(invented):
    setting, store = Setting.of("reference", device="cpu"), Store("reference")
    headline = create_study("03_blind_teacher", setting)
    gains = dict(enumerate([9.0, 9.0, 9.0, 1.0, 2.0, 3.0, 1.5, 2.5, 2.0, 2.0]))
    for arm, share in (("JDA", 1), ("weak2", 0)):
        for spec in headline.specs(arm):
            store.put(invented(spec, "reference", top1=40 + share * gains[spec.seed]))
    others = [gain for seed, gain in gains.items() if seed > 2]  # the candidates have seeds 0, 1 and 2
    said = sizing_table.untouched(create_study("16_sizing", setting), Store("reference"))
    assert said.startswith(f"{np.mean(others):+.2f} points (99.4 % interval [") and said.endswith(", n = 7)")


def test_a_question_with_one_candidate_measured_has_no_best(study, filled):
    said = sizing_table.words(study, filled({"centre": ([40], [44]), "lower rate": ([30], [31])}))
    assert "learning rate: centre" in said["questions"] and "student: not measured" in said["questions"]


def test_what_does_not_decide_stands_beside(study, filled):
    table = sizing_table.beside(study, filled({"centre": ([40, 41, 42], [44, 46, 48])}, train_top1=50.0))
    assert list(table.index) == list(CANDIDATES)
    row, gap = table.loc["centre"], table.loc["lower rate"]
    low, high = (5 + s * 4.302653 * np.std([4, 5, 6], ddof=1) / np.sqrt(3) for s in (-1, 1))
    assert (row["JDA - weak2"], row["95 % interval"]) == ("+5.00", f"[{low:+.2f}, {high:+.2f}]")
    assert (row["training - validation, weak2"], row["the same, JDA"]) == ("+9.0", "+4.0")
    assert gap.tolist() == ["not measured", "", "", "", row["TMACs of a run"]]


def test_panels_hold_the_intervals_of_every_question(study, filled):
    frame = filled({"centre": ([40, 41, 42], [44, 46, 48]), "lower rate": ([30], [31])})
    panels = sizing_table.panels(study, frame)
    assert list(panels) == list(QUESTIONS) == list(sizing_table.ANSWERS)
    rates = panels["learning rate"]
    expected = [f"{CANDIDATES[name][2]:g}" for name in QUESTIONS["learning rate"]]
    assert {view: list(points) for view, points in rates.items()} == {"weak2": expected, "JDA": expected}
    assert [i.n for i in rates["JDA"].values()] == [1, 3, 0, 0]
    assert [i.mean for i in rates["JDA"].values()][:2] == [31, 46]
    for question, names in QUESTIONS.items():
        assert all(len(points) == len(names) for points in panels[question].values()), question
    small = create_study("16_sizing", Setting.of("smoke", device="cpu"))
    assert list(sizing_table.panels(small, frame)) == ["learning rate"]


def test_what_is_said_when_nothing_is_there(study, filled):
    said = sizing_table.words(study, filled({}))
    assert said["best"] == said["difference"] == "not measured" and said["used"] == USED
    assert said["choice"] == "The profile's own is not measured yet." and "student: not measured" in said["questions"]


def test_what_is_said_before_the_profile_itself_is_measured(study, filled):
    said = sizing_table.words(study, filled({"larger student": ([50, 52], [52, 54])}))
    assert said["best"] == "larger student, of the 1 that are measured" and said["difference"] == "not measured"
    assert said["choice"] == "The profile's own is not measured yet."


def test_what_is_said_when_the_profile_uses_the_best(study, filled):
    others = {name: ([30, 31], [30, 31]) for name in CANDIDATES if name != USED}
    said = sizing_table.words(study, filled(others | {USED: ([40, 41], [40, 41])}))
    assert (said["best"], said["used"], said["difference"]) == (USED, USED, "none")
    assert said["choice"] == "The profile uses the best one."


def test_what_is_said_when_it_does_not(study, filled):
    frame = filled({"larger student": ([50, 52, 54], [52, 54, 57]), USED: ([40, 41, 42],) * 2})
    said = sizing_table.words(study, frame)
    assert said["best"] == "larger student, of the 2 that are measured"
    assert said["difference"].startswith("+12.17 points (95 % interval [")
    costs = [forecasts.run_cost(study.specs(label_of(n, "JDA"))[0]).run_macs for n in ("larger student", USED)]
    assert f"computes {costs[0] / costs[1]:.2f} times as much" in said["choice"]
    frame = filled({"larger student": ([50], [52]), "centre": ([40], [41]), USED: ([42], [42])})
    questions = sizing_table.words(study, frame)["questions"]
    assert "student: larger student" in questions and "learning rate: lower rate" in questions
    frame = filled({name: ([30],) * 2 for name in CANDIDATES if name != "higher rate"} | {"higher rate": ([90],) * 2})
    assert "a run computes just as much as one of its own" in sizing_table.words(study, frame)["choice"]
