"""Ratios are taken round by round; targets are met or not; growth is relative to the least work."""

import numpy as np
import pytest

from kdlib.chapters.benchmark.records import Comparison, Growth, Spread


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_ratio_is_taken_within_each_round(generator, count):
    fast, slow = (generator.uniform(1, 9, count).tolist() for _ in range(2))
    value = Comparison.of("x", "X", "per s", {"fast": fast, "slow": slow}).value
    expected = np.percentile(np.array(fast) / np.array(slow), (25, 50, 75))
    assert (value.first_quartile, value.median, value.third_quartile) == pytest.approx(tuple(expected))


def test_a_machine_that_slows_down_changes_rates_and_not_the_ratio(generator):
    slowness = generator.uniform(1, 3, 7)
    rates = {"a": (6 / slowness).tolist(), "b": (2 / slowness).tolist()}
    value = Comparison.of("x", "X", "per s", rates).value
    assert value.first_quartile == pytest.approx(3.0) and value.third_quartile == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("value", "target", "higher", "met"),
    [(2.0, 2.0, True, True), (1.9, 2.0, True, False), (2.0, 2.0, False, True), (2.1, 2.0, False, False)],
)
def test_a_target_is_met_from_the_right_side(value, target, higher, met):
    assert Comparison.of("x", "X", "GB", {"one": [value]}, target=target, higher=higher).met is met
    assert Comparison.of("x", "X", "GB", {"one": [value]}).met is None


def test_rounds_must_agree_in_number():
    with pytest.raises(ValueError, match="zip"):
        Comparison.of("x", "X", "per s", {"a": [1.0, 2.0], "b": [1.0]})


def test_growth_is_relative_to_the_least_work_of_the_same_round():
    growth = Growth(title="t", unit="u", work=[2, 4], seconds=[[1.0, 10.0, 100.0], [3.0, 20.0, 100.0]])
    assert growth.times_work == [1, 2]
    least, most = growth.times_seconds
    assert least == Spread.of([1.0, 1.0, 1.0])
    assert most == Spread.of([3.0, 2.0, 1.0])
