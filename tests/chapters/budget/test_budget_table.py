"""The budget curve in words: the rule of the rates, where lines cross, what is not settled; from invented results."""

import numpy as np
import pytest

from kdlib.chapters.budget import CCD, HSAKD, JDA, ONE, PLAIN, RATES, budget_table, label_of
from kdlib.chapters.registry import create_study
from kdlib.lab import forecasts
from kdlib.lab.store import Store
from kdlib.study import tables
from kdlib.study.setting import Setting
from kdlib.study.stats import mean_interval

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture(scope="module")
def study():
    return create_study("18_budget", Setting.of("full", device="cpu"))


@pytest.fixture
def filled(study, invented):
    """filled(arm -> values of its seeds): the frame of those runs."""

    def fill(values: dict):
        store = Store("full")
        for arm, accuracies in values.items():
            for spec, top1 in zip(study.specs(arm), accuracies, strict=False):
                store.put(invented(spec, "full", top1=float(top1), mean_pretext=0.25))
        return tables.runs_frame(study, Store("full"))

    return fill


def tried(way: str, accuracies: list[float], views: int = 10) -> dict:
    return {f"{label_of(way, views)}, rate {rate:g}": [a] for rate, a in zip(RATES, accuracies, strict=False)}


def everything(study, **shifts) -> dict:
    """All arms of the test set, five and more seeds, shifted by way: 50 % and a spread that is the same for all."""
    noise = np.arange(10) / 100
    return {
        arm: 50 + noise[: len(study.specs(arm))] + shifts.get(arm.split(",")[0].replace(" ", "_"), 0)
        for arm, field in study.arms.items()
        if not field.validation
    }


# --- learning rates


def test_the_rate_of_the_largest_mean_is_chosen(study, filled):
    frame = filled(
        tried(PLAIN, [30, 33, 31, 20])
        | tried(JDA, [30, 30, 33, 20])
        | tried(ONE, [1, 2, 3, 4])
        | tried(HSAKD, [9, 8, 7, 6])
    )
    assert budget_table.choose(study, frame) == {"logits": 0.4, "one view": 0.8, "hsakd": 0.1}


def test_of_equal_rates_the_smaller_one_is(study, filled):
    frame = filled(tried(PLAIN, [30, 31, 32, 20]) | tried(JDA, [30, 32, 31, 20]) | tried(HSAKD, [9, 9, 9, 9]))
    assert budget_table.choose(study, frame) == {"logits": 0.2, "one view": None, "hsakd": 0.1}


def test_a_longer_run_does_not_choose(study, filled):
    frame = filled(tried(HSAKD, [9, 8, 7, 6]) | tried(HSAKD, [10, 99], views=40))
    assert budget_table.choose(study, frame)["hsakd"] == 0.1


def test_nothing_is_chosen_while_a_run_is_missing(study, filled):
    frame = filled(tried(PLAIN, [30, 33, 31, 20]) | tried(JDA, [30, 30, 33]) | tried(HSAKD, [9, 8, 7, 6]))
    assert budget_table.choose(study, frame) == {"logits": None, "one view": None, "hsakd": 0.1}
    said = budget_table.choice(study, frame)
    parts = ["by two plain crops and JDA not measured", "by one plain crop not measured", "by HSAKD 0.1"]
    assert all(part in said for part in parts)


def test_a_rate_at_the_edge_is_called_so(study, filled):
    edge, inside = (budget_table.choice(study, filled(tried(ONE, a))) for a in ([1, 2, 3, 4], [1, 2, 4, 3]))
    assert "by one plain crop 0.8, the largest that was tried" in edge
    assert "by one plain crop 0.4 (" in inside


def test_rates_that_were_tried_have_a_row(study, filled):
    assert budget_table.rates(study, filled({})).empty
    table = budget_table.rates(study, filled(tried(JDA, [30, 31, 32]) | tried(HSAKD, [40, 41], views=40)))
    assert list(table.index) == ["JDA, 10 views", "HSAKD, 40 views"]
    assert table.loc["JDA, 10 views"].tolist() == ["30.00", "31.00", "32.00", ""]
    assert table.loc["HSAKD, 40 views"].tolist() == ["40.00", "41.00", "", ""]


# --- where lines cross


def differences(*means: float, spread: float = 0.01) -> dict:
    return {10 * 2**k: mean_interval([m - spread, m, m + spread]) for k, m in enumerate(means)}


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ((), None), ((1.0,), None), ((3, 2, 1), None), ((-3, -2, -1), None),
        ((1, -1), 10 * 2**0.5), ((3, 1, -1), 20 * 2**0.5), ((3, -1), 10 * 2**0.75),
        ((1, -1, 1, 3), 20 * 2**0.5),  # the last of several
        ((1, 0, -1), 20),
    ],
)  # fmt: skip
def test_lines_cross_where_the_sign_changes_for_the_last_time(means, expected):
    found = budget_table.crossing(differences(*means))
    assert found == (None if expected is None else pytest.approx(expected))


def test_what_is_said_of_a_crossing():
    assert budget_table.settled({}, 80) == "Whether HSAKD passes CCD is not measured."
    said = budget_table.settled(differences(3, 2, 1, 0.5), 80)
    assert said.startswith("CCD is ahead at every measured budget, at 80 views of an image CCD - HSAKD is +0.50 points")
    assert said.endswith("where the lines cross is not settled.")
    said = budget_table.settled(differences(3, 1, -1, -2), 80)
    assert said.startswith("From about 28 views of an image on HSAKD is ahead of CCD: at 80 views")
    assert "not settled" not in said


def test_a_crossing_of_means_alone_is_not_settled():
    said = budget_table.settled(differences(3, 1, -0.1, spread=1), 80)
    assert said.startswith("The means cross at about 38 views of an image, but at 40 views")
    assert "budgets up to 80 views are planned" in said and said.endswith("who is ahead is not settled.")


def test_rivals_are_paired_at_every_budget(study, filled):
    ahead = {label_of(CCD, 10): [50, 52], label_of(HSAKD, 10): [48, 49, 9], label_of(CCD, 20): [50]}
    found = budget_table.rivals(study, filled(ahead))
    assert list(found) == [10] and found[10].mean == 2.5 and found[10].n == 2


# --- the finding


def test_nothing_is_found_without_runs(study, filled):
    assert budget_table.finding(study, filled({})) == (
        "Whether every rival trains at 40 views of an image is not measured. None of the 8 contrasts that were fixed "
        "beforehand is measured yet. Whether HSAKD passes CCD is not measured."
    )
    alone = create_study("18_budget", study.setting, rates_only=True)
    assert budget_table.finding(alone, filled({})) == "Nothing but learning rates is tried here."


def test_a_demonstration_finds_nothing():
    small = create_study("18_budget", Setting.of("quick", device="cpu"))
    assert budget_table.finding(small, tables.runs_frame(small, Store("quick"))).startswith("*A demonstration")


def test_the_finding_says_who_trains_and_which_verdicts_stand(study, filled):
    gains = {"JDA": 3, "CCD": 3, "mean_weight": 3, "one_plain_crop": 4, "HSAKD": 1, "no_teacher": -1}
    gains |= {"public_ResNet-56:_JDA": 1}
    said = budget_table.finding(study, filled(everything(study, **gains)))
    assert said.startswith("At 40 views of an image every rival trains: ")
    assert "Of the 8 contrasts that were fixed beforehand, **supported**: A1 (JDA - two plain crops), A2" in said
    assert "**contradicted**: A4 (JDA - one plain crop), F2 (CCD - JDA), F3 (CCD - mean weight), F4" in said
    assert said.endswith("where the lines cross is not settled.")


def test_the_finding_names_those_that_do_not_train(study, filled):
    said = budget_table.finding(study, filled(everything(study, HSAKD=-2)))
    assert said.startswith("Not every rival trains; below the same student without a teacher: HSAKD, 40 views (-2.00 ")
    assert "**not tested at this budget (by the rule alone: supported)**: F1 (CCD - HSAKD)" in said


def test_a_gain_that_the_other_teachers_students_lack_names_its_teacher(study, filled):
    said = budget_table.finding(study, filled(everything(study, JDA=3)))
    assert "**supported with the public ResNet-20 (by the rule alone: supported)**: A1" in said


def test_equal_arms_are_said_to_be_equal(study, filled):
    assert budget_table.equal(study, filled({label_of(CCD, 40): [50] * 9})) == "not measured"
    said = budget_table.equal(study, filled(everything(study, CCD=0.1)))
    assert said == "equivalent within 0.3 points (90 % interval [+0.10, +0.10], n = 10)"


# --- what is there


def test_tables_leave_the_validation_split_out(study, filled):
    tested = budget_table.tested(study)
    frame = filled(tried(JDA, [30, 31]) | {label_of(JDA, 10): [40]})
    assert list(tables.arms_table(tested, frame).index) == ["JDA, 10 views"]
    assert "rate" not in tables.not_run(tested, frame)


def test_curves_are_counted_in_views_and_in_macs(study, filled):
    curves = budget_table.curves(study, filled({label_of(JDA, v): [40 + v] for v in (10, 40)}))
    views, work = curves.values()
    assert {x: i.mean for x, i in views["JDA"].items()} == {10: 50, 40: 80} and list(views) == ["JDA"]
    costs = [forecasts.run_cost(study.specs(label_of(JDA, v))[0]).run_macs / 1e12 for v in (10, 40)]
    assert list(work["JDA"]) == pytest.approx(costs)
    assert budget_table.curves(study, filled({}).iloc[:0]) == dict.fromkeys(curves, {})
