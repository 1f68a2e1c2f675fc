"""Seeds that primary contrasts need: the power of kdlib.study.stats, invented results and published ones."""

import math

import numpy as np
import pytest

from kdlib.chapters import claims
from kdlib.chapters.power_plan import LEAST_PAIRS, MOST_SEEDS, POWER, lines, measured_spread, required, typical_spread
from kdlib.chapters.registry import create_study, studies_of
from kdlib.lab.store import Store
from kdlib.study import tables
from kdlib.study.setting import Setting
from kdlib.study.stats import MARGIN, mean_interval, power, required_seeds


def setting(name: str = "reference", **fields) -> Setting:
    return Setting.of(name, device="cpu", **fields)


@pytest.mark.parametrize("claim", ["better", "no better"])
def test_so_many_seeds_find_the_margin_in_four_of_five_studies(claim):
    """4,000 studies, within 4 standard errors of a share of 80 %, which are 2.5 %."""
    spread, level = 0.4, 0.95
    n = required_seeds(MARGIN, spread, POWER, level, MOST_SEEDS)
    true, found = {"better": (MARGIN, lambda i: i.low > 0), "no better": (0.0, lambda i: i.high < MARGIN)}[claim]
    draws = np.random.default_rng(2).normal(true, spread, (4000, n))
    share, exact = np.mean([found(mean_interval(row, level)) for row in draws]), power(MARGIN, spread, n, level)
    assert exact >= POWER > power(MARGIN, spread, n - 1, level)
    assert abs(share - exact) < 4 * math.sqrt(0.16 / len(draws))


# --- from results


@pytest.fixture
def put(isolated, invented):
    """put(profile, chapter, {arm: accuracies}): stores a result for each accuracy, from the first seed on."""

    def store_all(profile: str, chapter: str, arms: dict[str, list[float]]) -> None:
        study = create_study(chapter, setting(profile))
        for arm, values in arms.items():
            for spec, top1 in zip(study.specs(arm), values, strict=False):
                Store(profile).put(invented(spec, profile, top1=top1))

    return store_all


@pytest.mark.parametrize("pairs", [0, 2, LEAST_PAIRS, 5])
def test_three_pairs_measure_a_spread(put, pairs):
    put("reference", "03_blind_teacher", {"JDA": [50.0, 51, 53, 50, 50], "weak2": [50.0] * pairs})
    study = create_study("03_blind_teacher", setting())
    spread, n = measured_spread(study, Store("reference"), study.contrast("a1"))
    assert n == pairs
    if pairs < LEAST_PAIRS:
        assert math.isnan(spread)
    else:
        assert spread == pytest.approx(np.std([0, 1, 3, 0, 0][:pairs], ddof=1))


def test_what_is_not_measured_takes_the_median_of_what_is(put):
    put("reference", "03_blind_teacher", {"JDA": [50.0, 51, 52], "weak2": [50.0, 50, 50], "rot4": [50.0, 53, 56]})
    put("reference", "06_few_shot", {"10 %: JDA": [50.0, 60, 70], "10 %: weak2": [50.0, 50, 50]})
    spreads = [1, 2, 1, 10]  # a1, a2, d, and c1, which has the runs of a1
    store = Store("reference")
    assert typical_spread(setting(), store) == pytest.approx(np.median(spreads))
    needs = {need.contrast: need for need in required(create_study("03_blind_teacher", setting()), store)}
    assert {name: (n.source, n.spread) for name, n in needs.items()} == {
        "a1": ("measured on 3 pairs", pytest.approx(1)),
        "a2": ("measured on 3 pairs", pytest.approx(2)),
    }
    (need,) = required(create_study("09_ccd_versus_hsakd", setting()), store)
    assert (need.source, need.spread) == ("taken from profile reference", pytest.approx(1.5))
    assert need.seeds == required_seeds(MARGIN, 1.5, POWER, need.level, MOST_SEEDS)
    (need,) = required(create_study("09_ccd_versus_hsakd", setting()), store, typical=0.5)
    assert need.spread == 0.5


def test_each_contrast_has_its_own_level_and_number_of_seeds(put):
    put("reference", "03_blind_teacher", {"JDA": [50.0, 51, 52], "weak2": [50.0, 50, 50]})
    studies, found = studies_of(setting()), {}
    for study in studies:
        for need in required(study, Store("reference")):
            contrast = study.contrast(need.contrast)
            assert (need.level, need.planned) == (contrast.level, study.planned(contrast))
            assert need.margin == contrast.margin
            if contrast.metric == "top1":
                assert need.power == pytest.approx(power(MARGIN, need.spread, need.planned, need.level))
            else:  # of which nothing is measured, and the spread of accuracies says nothing
                assert math.isnan(need.spread) and math.isnan(need.power) and need.seeds is None
            found[need.contrast] = need
    assert set(claims.CONTRASTS) <= set(found)


def test_a_line_says_what_is_needed_and_what_is_assumed(put):
    put("reference", "03_blind_teacher", {"JDA": [50.0, 50.3, 50.6], "weak2": [50.0, 50, 50]})
    store, study = Store("reference"), create_study("03_blind_teacher", setting())
    (first, second), contrast = lines([study], store), study.contrast("a1")
    level, planned = contrast.level, study.planned(contrast)
    share, seeds = power(MARGIN, 0.3, planned, level), required_seeds(MARGIN, 0.3, 0.8, level)
    assert first == (
        f"03_blind_teacher, a1: {planned} seeds planned, power {100 * share:.0f} % for 0.3 points at level "
        f"{100 * level:.2f} %; 80 % need {seeds}, if differences vary by 0.30 points from seed to seed (measured on "
        "3 pairs)"
    )
    assert second.startswith("03_blind_teacher, a2: ")
    assert second.endswith("(taken from profile reference)")
    assert lines([study, study], store) == 2 * [first, second]
    (far,) = (str(need) for need in required(create_study("09_ccd_versus_hsakd", setting()), store, typical=20.0))
    assert f"80 % need more than {MOST_SEEDS}, if differences vary by 20.00 points" in far


def test_without_any_result_nothing_is_assumed(isolated):
    study = create_study("03_blind_teacher", setting())
    for need in required(study, Store("reference")):
        assert math.isnan(need.spread) and math.isnan(need.power) and need.seeds is None
        planned = study.planned(study.contrast(need.contrast))
        assert str(need) == f"{need.contrast}: {planned} seeds planned, no spread is known yet"


def test_where_no_verdict_is_given_nothing_is_needed(isolated):
    for here in (setting("quick"), setting("smoke"), setting(seeds=[0, 1, 2, 3, 4])):
        studies = studies_of(here)
        assert any(contrast.primary for study in studies for contrast in study.contrasts)
        assert lines(studies, Store(here.profile.name)) == []


def test_published_results_measure_reference_and_stand_in_for_paper():
    store, spreads = Store("reference"), []
    for study in studies_of(setting()):
        frame = tables.runs_frame(study, store)
        for need in required(study, store, typical=math.nan):
            values = list(tables.contrast_values(study.contrast(need.contrast), frame).values())
            if len(values) >= LEAST_PAIRS:
                assert (need.spread, need.source) == (
                    pytest.approx(np.std(values, ddof=1)),
                    f"measured on {len(values)} pairs",
                )
                spreads += [need.spread] if study.contrast(need.contrast).metric == "top1" else []
    assert len(spreads) >= 9
    paper = create_study("03_blind_teacher", setting("paper"))
    assert [(need.source, need.spread) for need in required(paper, Store("paper"))] == 2 * [
        ("taken from profile reference", pytest.approx(np.median(spreads)))
    ]
