"""Intervals, verdicts, power and metrics against SciPy, simulations and slow obvious references."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from kdlib.study.stats import (
    MARGIN,
    MINIMUM_SEEDS,
    PRIMARY_LEVEL,
    Interval,
    Verdict,
    claim_verdict,
    mean_interval,
    paired_differences,
    paired_interval,
    power,
    required_seeds,
    verdict,
)

points = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 4))
samples = st.lists(points, min_size=2, max_size=12)
levels = st.sampled_from([0.5, 0.8, 0.95, PRIMARY_LEVEL])


def ends(interval: Interval) -> tuple[float, float, float]:
    return interval.mean, interval.low, interval.high


# --- intervals


@pytest.mark.parametrize("level", [0.5, 0.95, PRIMARY_LEVEL])
@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_mean_interval_is_scipys(n, level):
    values = np.random.default_rng(n).normal(70, 0.5, n)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(level)
    found = mean_interval(values, level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.mean == pytest.approx(values.mean())
    assert (found.n, found.level) == (n, level)


@pytest.mark.parametrize("level", [0.5, 0.95, PRIMARY_LEVEL])
def test_paired_interval_is_scipys(level):
    a, b = np.random.default_rng(0).normal([[71.0], [70.5]], 0.4, (2, 6))
    expected = scipy_stats.ttest_rel(a, b).confidence_interval(level)
    found = paired_interval(dict(enumerate(a)), dict(enumerate(b)), level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_pairs_are_made_by_seed():
    a, b = {3: 10.0, 1: 20.0, 7: 5.0}, {1: 19.0, 9: 0.0, 3: 8.0}
    assert paired_differences(a, b).tolist() == [1.0, 2.0]
    assert paired_interval(a, b).n == 2
    assert paired_interval(a, {}).n == 0


def test_pandas_series_pair_by_their_index():
    pandas = pytest.importorskip("pandas")
    a = pandas.Series([10.0, 20.0], index=[3, 1])
    b = pandas.Series([19.0, 8.0, 1.0], index=[1, 3, 2])
    assert paired_differences(a, b).tolist() == [1.0, 2.0]


def test_too_few_values_have_no_ends():
    none, one = mean_interval([]), mean_interval([4.0])
    assert all(math.isnan(value) for value in ends(none))
    assert none.n == 0
    assert (one.mean, one.n) == (4.0, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_equal_values_have_an_interval_of_no_width():
    assert ends(mean_interval([0.25] * 5)) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_must_be_finite(bad):
    with pytest.raises(ValueError, match="finite"):
        mean_interval([1.0, bad])


@pytest.mark.parametrize("level", [0, 1, 95, -0.1, math.nan])
def test_level_must_be_a_probability(level):
    for call in (lambda: mean_interval([1.0, 2.0], level), lambda: power(1, 1, 5, level)):
        with pytest.raises(ValueError, match="level"):
            call()


@given(samples, points, levels)
def test_interval_moves_with_the_values(values, shift, level):
    moved = mean_interval([value + shift for value in values], level)
    assert ends(moved) == pytest.approx([v + shift for v in ends(mean_interval(values, level))], abs=1e-6)


@given(samples, st.floats(0.01, 100), levels)
def test_interval_scales_with_the_values(values, factor, level):
    scaled = mean_interval([value * factor for value in values], level)
    expected = [v * factor for v in ends(mean_interval(values, level))]
    assert ends(scaled) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.lists(st.tuples(points, points), min_size=2, max_size=12), levels)
def test_swapping_the_arms_mirrors_the_interval(pairs, level):
    a, b = ({seed: pair[arm] for seed, pair in enumerate(pairs)} for arm in (0, 1))
    there, back = paired_interval(a, b, level), paired_interval(b, a, level)
    assert ends(there) == pytest.approx((-back.mean, -back.high, -back.low), abs=1e-9)


@given(samples)
def test_higher_level_is_wider(values):
    narrow, wide = mean_interval(values, 0.8), mean_interval(values, 0.99)
    assert wide.low <= narrow.low <= narrow.mean <= narrow.high <= wide.high


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_coverage(level):
    """4,000 normal samples of 5; the share that covers the mean is within 4 standard errors.

    A correct interval fails this once in 16,000 for a fresh generator; the generator here is fixed.
    """
    draws = np.random.default_rng(1).normal(2.0, 3.0, (4000, 5))
    intervals = [mean_interval(row, level) for row in draws]
    covered = np.mean([i.low <= 2.0 <= i.high for i in intervals])
    assert abs(covered - level) < 4 * math.sqrt(level * (1 - level) / len(draws))


# --- verdicts


def primary(low: float, high: float, n: int = 5) -> Interval:
    return Interval((low + high) / 2, low, high, n, PRIMARY_LEVEL)


CASES = [
    (0.1, 2.0, Verdict.SUPPORTED),
    (1e-9, 0.2, Verdict.SUPPORTED),  # above 0, though smaller than the margin
    (0.0, 2.0, Verdict.INCONCLUSIVE),  # L > 0 is strict
    (0.0, 0.29, Verdict.CONTRADICTED),
    (-1.0, 0.29, Verdict.CONTRADICTED),
    (-2.0, -1.0, Verdict.CONTRADICTED),
    (-1.0, 0.3, Verdict.INCONCLUSIVE),  # U < margin is strict
    (-1.0, 1.0, Verdict.INCONCLUSIVE),
]
SWAPPED = {
    Verdict.SUPPORTED: Verdict.CONTRADICTED,
    Verdict.CONTRADICTED: Verdict.SUPPORTED,
    Verdict.INCONCLUSIVE: Verdict.INCONCLUSIVE,
}


def test_the_rule_has_the_stated_constants():
    assert pytest.approx(1 - 0.05 / 9) == PRIMARY_LEVEL
    assert (MARGIN, MINIMUM_SEEDS) == (0.3, 5)


@pytest.mark.parametrize(("low", "high", "expected"), CASES)
def test_verdict(low, high, expected):
    assert verdict(primary(low, high), planned=5) is expected
    assert verdict(primary(low, high), planned=5, claim="no better") is SWAPPED[expected]
    assert verdict(primary(-high, -low), planned=5, claim="less") is expected


@pytest.mark.parametrize(
    ("n", "planned", "expected"),
    [
        (0, 0, Verdict.NOT_MEASURED),
        (0, 5, Verdict.NOT_MEASURED),
        (4, 5, Verdict.NOT_MEASURED),
        (1, 3, Verdict.NOT_MEASURED),
        (9, 10, Verdict.NOT_MEASURED),
        (1, 1, Verdict.NOT_ENOUGH_SEEDS),
        (4, 4, Verdict.NOT_ENOUGH_SEEDS),
        (5, 5, Verdict.SUPPORTED),
        (10, 10, Verdict.SUPPORTED),
    ],
)
def test_verdict_needs_all_planned_seeds_and_five(n, planned, expected):
    assert verdict(primary(1.0, 2.0, n), planned) is expected


def test_verdict_of_measured_pairs():
    a = {seed: 70 + 0.01 * seed for seed in range(5)}
    b = {seed: 69.0 for seed in range(5)}
    assert verdict(paired_interval(a, b, PRIMARY_LEVEL), 5) is Verdict.SUPPORTED
    assert verdict(paired_interval(b, a, PRIMARY_LEVEL), 5) is Verdict.CONTRADICTED
    assert verdict(paired_interval(a, {}, PRIMARY_LEVEL), 5) is Verdict.NOT_MEASURED


def test_verdict_refuses_what_the_rule_does_not_cover():
    with pytest.raises(ValueError, match=r"interval.level is 0.95"):
        verdict(Interval(1, 0.5, 1.5, 5, 0.95), 5)
    with pytest.raises(ValueError, match="fixed beforehand"):
        verdict(primary(1, 2, 6), 5)
    with pytest.raises(ValueError, match="claim is 'worse'"):
        verdict(primary(1, 2), 5, claim="worse")


def test_level_and_margin_can_be_others():
    interval = Interval(0.2, -0.1, 0.4, 5, 0.95)
    assert verdict(interval, 5, level=0.95, margin=0.5) is Verdict.CONTRADICTED
    assert verdict(interval, 5, level=0.95, margin=0.4) is Verdict.INCONCLUSIVE


def test_claim_verdict_over_all_pairs():
    for pair in itertools.product(Verdict, repeat=2):
        found = claim_verdict(pair)
        if Verdict.CONTRADICTED in pair:
            assert found is Verdict.CONTRADICTED
        elif Verdict.NOT_MEASURED in pair:
            assert found is Verdict.NOT_MEASURED
        elif Verdict.NOT_ENOUGH_SEEDS in pair:
            assert found is Verdict.NOT_ENOUGH_SEEDS
        elif Verdict.NOT_TESTED in pair:
            assert found is Verdict.NOT_TESTED
        else:
            assert found is (Verdict.SUPPORTED if set(pair) == {Verdict.SUPPORTED} else Verdict.INCONCLUSIVE)


@given(st.permutations(list(Verdict)), st.integers(1, 5))
def test_claim_verdict_ignores_order_and_repetition(verdicts, count):
    some = verdicts[:count]
    assert claim_verdict(some) is claim_verdict(reversed(some)) is claim_verdict(some + some)
    assert all(claim_verdict([word]) is word for word in some)


def test_claim_without_contrasts():
    with pytest.raises(ValueError, match="at least one"):
        claim_verdict([])


def test_verdicts_print_as_words():
    assert f"{Verdict.NOT_ENOUGH_SEEDS}" == "not enough seeds"


# --- power


@pytest.mark.parametrize(("effect", "sd", "n", "level"), [(0.5, 0.4, 5, 0.95), (0.3, 0.3, 10, PRIMARY_LEVEL)])
def test_power_is_the_share_of_supported_simulations(effect, sd, n, level):
    """20,000 simulated studies, compared within 4 standard errors: exceeded once in 16,000."""
    draws = np.random.default_rng(2).normal(effect, sd, (20_000, n))
    low = scipy_stats.ttest_1samp(draws, 0, axis=1).confidence_interval(level).low
    expected = power(effect, sd, n, level)
    assert abs((low > 0).mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / len(draws))


@pytest.mark.parametrize("n", [2, 3, 5, 10, 57, 59, 300])
@pytest.mark.parametrize("ratio", [-1.0, 0.01, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("level", [0.95, 1 - 0.05 / 9])
def test_power_is_the_tail_of_the_noncentral_t_distribution(n, ratio, level):
    quantile = scipy_stats.t.ppf((1 + level) / 2, n - 1)
    expected = scipy_stats.nct.sf(quantile, n - 1, ratio * math.sqrt(n))
    assert power(ratio * 0.7, 0.7, n, level) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_power_without_an_effect_is_half_the_error_rate():
    assert power(0, 0.3, 7, 0.95) == pytest.approx(0.025)


@given(st.floats(0, 2), st.floats(0.05, 2), st.integers(2, 40))
def test_power_grows(effect, sd, n):
    base = power(effect, sd, n)
    assert 0 <= base <= 1
    assert power(effect + 0.1, sd, n) >= base - 1e-9
    assert power(effect, sd, n + 1) >= base - 1e-9
    assert power(effect, sd, n, 0.9) >= base - 1e-9


def test_required_seeds_is_the_first_that_suffices():
    n = required_seeds(0.3, 0.3, target=0.8)
    assert power(0.3, 0.3, n) >= 0.8 > power(0.3, 0.3, n - 1)
    assert required_seeds(5, 0.1) == MINIMUM_SEEDS
    assert required_seeds(0.3, 0.3, maximum=n - 1) is None
    assert required_seeds(-0.3, 0.3, maximum=30) is None


def test_power_checks_its_arguments():
    with pytest.raises(ValueError, match="sd is 0"):
        power(1, 0, 5)
    with pytest.raises(ValueError, match="n is 1"):
        power(1, 1, 1)
    with pytest.raises(ValueError, match="target is 1"):
        required_seeds(1, 1, target=1)
