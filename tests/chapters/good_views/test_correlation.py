"""Spearman's correlation and its interval against SciPy and simulations, and the points it is computed from."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdlib.chapters.good_views import correlation
from kdlib.chapters.good_views.correlation import (
    Correlation,
    points,
    points_table,
    rank_correlation,
    rank_correlations,
    spearman,
)
from kdlib.chapters.registry import create_study
from kdlib.lab.store import Store
from kdlib.study import tables
from kdlib.study.setting import Setting
from kdlib.study.stats import mean_interval


def named(values) -> dict[str, float]:
    return {f"policy {k}": float(v) for k, v in enumerate(values)}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [4, 5, 10, 30])
def test_rho_is_scipys(generator, n, ties):
    for _ in range(5):
        x, y = generator.normal(size=(2, n))
        if ties:
            x, y = np.round(x), np.round(y)
        expected = stats.spearmanr(x, y).statistic if len(set(x)) > 1 and len(set(y)) > 1 else math.nan
        found = spearman(named(x), named(y))
        assert found.rho == pytest.approx(expected, nan_ok=True)
        assert found.n == n and found.level == 0.95
        shuffled = dict(reversed(named(y).items()))
        assert spearman(named(x), shuffled).rho == pytest.approx(expected, nan_ok=True)


def test_the_interval_is_bonett_and_wrights():
    x, y = named([1, 2, 3, 4, 5, 6, 7]), named([2, 1, 4, 3, 7, 5, 6])
    found = spearman(x, y, level=0.9)
    z, half = math.atanh(found.rho), stats.norm.ppf(0.95) * math.sqrt((1 + found.rho**2 / 2) / 4)
    assert (math.atanh(found.low), math.atanh(found.high)) == (pytest.approx(z - half), pytest.approx(z + half))
    assert -1 < found.low < found.rho < found.high < 1
    mirrored = spearman(x, {name: -v for name, v in y.items()}, level=0.9)
    assert (mirrored.rho, mirrored.low, mirrored.high) == pytest.approx((-found.rho, -found.high, -found.low))


@pytest.mark.parametrize("r", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("n", [8, 10])
def test_the_interval_covers_its_level(generator, monkeypatch, n, r):
    """For normal pairs, as the docstring says: within 2 points of 95 %, counted in 1,000 samples. The bounds are those
    of the binomial counts at 93 % and at 97 %, so that the error rate is below 1e-8 in each of the six cases."""
    monkeypatch.setattr(correlation, "PERMUTATIONS", 9)  # the p-value does not matter here
    truth = 6 / math.pi * math.asin(r / 2)  # Spearman's rho of a normal distribution
    pairs = generator.multivariate_normal([0, 0], [[1, r], [r, 1]], (1000, n))
    found = [spearman(named(x), named(y)) for x, y in pairs.transpose(0, 2, 1)]
    intervals = [(one.low, one.high) for one in found if not math.isnan(one.low)]  # equal orders have none
    assert len(intervals) > 950
    covered = sum(low <= truth <= high for low, high in intervals)
    count = len(intervals)
    assert stats.binom.ppf(5e-9, count, 0.93) <= covered <= stats.binom.isf(5e-9, count, 0.97)


def test_p_values_agree_with_all_permutations(generator):
    """Exact for n = 5 (120 permutations); 99,999 random ones are off by less than 0.012 but for 1e-12."""
    for _ in range(4):
        x, y = generator.normal(size=(2, 5))
        exact = stats.permutation_test(
            (x,), lambda a, y=y: stats.spearmanr(a, y).statistic, permutation_type="pairings", n_resamples=np.inf
        ).pvalue
        found = spearman(named(x), named(y)).p
        assert 0 < found <= 1
        assert found == pytest.approx(exact, abs=0.012)


def test_equal_orders_have_no_interval_but_a_p_value():
    x = named([1, 2, 3, 4, 5])
    for y, rho in ((x, 1), ({name: -v for name, v in x.items()}, -1)):
        found = spearman(x, y)
        assert (found.rho, math.isnan(found.low), math.isnan(found.high)) == (rho, True, True)
        assert found.p == pytest.approx(2 / 120, abs=0.005)  # the order and its reverse
        assert "no interval" in str(found)


def test_what_cannot_be_correlated_says_so():
    few = spearman(named([1, 2, 3, 4]), named([1, 2, 3]))
    assert str(few) == "not measured" and few.n == 3 and math.isnan(few.rho)
    assert str(spearman({}, {})) == "not measured"
    assert str(spearman(named([1, 1, 1, 1]), named([1, 2, 3, 4]))) == "not defined: all values are equal"
    text = str(Correlation(-0.5, -0.9, 0.25, 0.0123, 10, 0.95))
    assert text == "-0.50 (95 % interval [-0.90, +0.25], p = 0.012, 10 policies)"


# --- the points of chapter 11


@pytest.fixture
def study(isolated):
    return create_study("11_good_views", Setting.of("quick", seeds=[0, 1, 2], device="cpu"))


@pytest.fixture
def frame(study, invented):
    """Students of all arms but twin; the loss rises from arm to arm, and cutout has only two seeds."""
    store = Store("quick")
    for rank, arm in enumerate(study.arms):
        for spec in study.specs(arm):
            if arm != "twin" and (arm, spec.seed) != ("cutout", 2):
                store.put(invented(spec, "quick", nll=1 + 0.1 * rank + 0.001 * spec.seed))
    return tables.runs_frame(study, store)


@pytest.fixture
def measured(study):
    """A spread that rises from arm to arm, but for rot2, which is missing, and weak2, which has two draws."""
    found = {
        arm: {"t_stddev": 0.01 + 0.001 * rank, "t_stddev_se": 0.0002, "label_spread": 0.02, "draws": 20,
              "images_per_draw": 320, "pool": 3200}
        for rank, arm in enumerate(study.arms)
    }  # fmt: skip
    found["weak2"] |= {"draws": 2, "t_stddev_se": None}
    return found | {"rot2": None}


def test_points_hold_what_is_there(study, frame, measured):
    found = points(measured, frame)
    assert list(found.index) == list(study.arms)
    assert found.spread["cutout"] == pytest.approx(0.012) and found.error["cutout"] == 0.0002
    over = mean_interval([1.2, 1.201])
    assert tuple(found.loc["cutout", ["loss", "low", "high", "seeds"]]) == pytest.approx(
        (over.mean, over.low, over.high, 2)
    )
    assert math.isnan(found.spread["rot2"]) and found.seeds["rot2"] == 3
    assert math.isnan(found.loss["twin"]) and found.seeds["twin"] == 0 and found.labels["twin"] == 0.02
    assert math.isnan(found.error["weak2"]) and found.draws["weak2"] == 2
    assert points(measured, frame, "top1").loss["CutMix"] == 50


def test_the_correlation_is_over_policies_that_have_both(study, frame, measured):
    found = points(measured, frame)
    assert rank_correlation(found).rho == 1 and rank_correlation(found).n == len(study.arms) - 2
    by_seed = rank_correlations(found, frame)
    assert {seed: one.n for seed, one in by_seed.items()} == {0: 6, 1: 6, 2: 5}
    assert correlation.seeds_text(by_seed) == "+1.00 to +1.00 (n = 3)"
    assert correlation.draws_text(measured) == "20 draws of 320 images each, from 3,200 training images"


def test_the_table_shows_gaps(study, frame, measured):
    table = points_table(points(measured, frame), dict.fromkeys(study.arms, 3) | {"twin": 5})
    assert list(table.index) == [name for name in study.arms if name != "rot2"] + ["rot2"]  # by rising spread
    assert table.loc["rot2", "T.stddev"] == "not run" and table.loc["rot2", "students' test NLL"] == "1.3010"
    assert table.loc["twin", "students' test NLL"] == "not run" and table.loc["twin", "n"] == "0 of 5"
    assert table.loc["twin", "T.stddev"] == "0.01000" and table.loc["twin", "draws"] == "20"
    assert table.loc["weak2", "standard error"] == ""
    over = mean_interval([1.1, 1.101, 1.102])
    assert table.loc["weak2", "95 % interval"] == f"[{over.low:.4f}, {over.high:.4f}]"
    assert (table.loc["cutout", "n"], table.loc["cutout", "95 % interval"]) == ("2 of 3", "two seeds")


def test_nothing_is_not_measured(study):
    nothing = dict.fromkeys(study.arms)
    frame = tables.runs_frame(study, Store("quick"))
    found = points(nothing, frame)
    assert str(rank_correlation(found)) == correlation.seeds_text(rank_correlations(found, frame)) == "not measured"
    assert correlation.draws_text(nothing) == "no draws yet"
    assert set(points_table(found, dict.fromkeys(study.arms, 3))["T.stddev"]) == {"not run"}


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ([3.0, 2.0, 2.5], "The loss is lowest inside, at b (number 2 of 3 by spread)"),
        ([1.0, 2.0, 2.5], "The loss is lowest at an end, at a."),
        ([3.0, np.nan, 2.5], "Too few policies are measured to see a shape."),
    ],
)
def test_the_shape_says_whether_one_direction_is_the_question(loss, said):
    found = pd.DataFrame({"spread": [0.1, 0.2, 0.3], "loss": loss}, index=list("abc"))
    assert correlation.shape(found).startswith(said)
    assert correlation.shape(found.iloc[::-1]).startswith(said)  # the order of the rows does not matter
