"""Small networks, other ways to compute a step, and photographs, in words and tables."""

import pytest

from kdlib.chapters.benchmark import reasons
from kdlib.chapters.benchmark.records import Benchmark

from .conftest import CHOICES, SMALL


def test_a_small_network_that_misses_the_target_has_its_reason(found):
    table = reasons.small_table(found)
    assert table.index.tolist() == ["resnet8, AVX512", "resnet14, AVX512", "resnet14, AVX2"]
    assert table.step.tolist() == ["0.40 (0.35 to 0.45)", "0.75", "0.60"] and table.met.tolist() == ["no", "yes", "no"]
    assert table["where the time goes"].iloc[0] == "sums 25 %, rest 75 %"
    fused = "were batch norm, activations, sums part of them, for nothing, a step would reach"
    assert table["what limits it"].tolist() == [
        f"convolutions alone reach 0.60, below the target; {fused} 0.53; 25 % of its time is there for one image too",
        "–",
        f"convolutions alone reach 0.80, above the target; {fused} 0.60; 12 % of its time is there for one image too",
    ]


def test_the_sentence_counts_networks(found):
    assert reasons.small_words(found) == (
        "1 of 3 reach the target, 70 % of the rate of matrix products; if all but convolutions took no time, 2 would. "
        "Steps reach 40 % to 75 %, convolutions alone 60 % to 90 %."
    )


def test_the_best_way_is_one_that_is_worth_it(found):
    wrn, resnet = CHOICES
    assert wrn.best == "b" and wrn.gain("b").median == pytest.approx(1.2) and wrn.gain("a").median == 1
    assert reasons.choices_words(found) == (
        "The best way would bring WRN 20 % (b), ResNet no more than 5 %, per thread."
    )
    table = reasons.choices_table(found)
    assert table.loc["b"].tolist() == ["1.20", "1.02"] and table.loc["c", "WRN"] == "0.55 (0.53 to 0.57)"


def test_the_rule_is_best_where_nothing_is_better():
    (slow,) = (c.model_copy(update={"rates": {"a": [10.0], "b": [9.0]}}) for c in CHOICES[:1])
    assert slow.best == "a"


def test_an_older_benchmark_reads_and_says_what_it_lacks(found):
    fields = found.model_dump(exclude={"small", "choices"})
    older = Benchmark(**fields)
    for some in (older, None):
        assert reasons.small_table(some).empty and reasons.choices_table(some).empty
        assert reasons.small_words(some) == reasons.choices_words(some) == reasons.UNMEASURED
    assert found.small == SMALL


def test_a_terminal_shows_all(found):
    shown = "".join(reasons.printed(found))
    for word in ("JDA views on one core", "resnet14, AVX2", "WRN 20 % (b)", "WRN-16-2 alone"):
        assert word in shown


def test_targets_that_float32_cannot_meet(found, monkeypatch):
    """By hand: whole steps take 3, 80/33 and 2.4 GFLOP a pair, the plain program 10 or 11 pairs, float32 10 GFLOP/s."""
    monkeypatch.setattr(reasons, "gigaflops_of_a_pair", lambda run: 3.0 if run.teacher else 1.5)
    said = reasons.float32_words(found)
    assert "a whole WRN step is 0.38 (0.35 to 0.40) times as fast" in said
    assert said.endswith("0.75 times: the targets of 2.6 and 4.6 ask for bfloat16.")
    fast = found.model_copy(update={"comparisons": [faster(c) for c in found.comparisons]})
    assert reasons.float32_words(fast).endswith("30.00 times: the targets can be met so.")
    assert reasons.float32_words(None) == reasons.UNMEASURED
    exact = found.model_copy(update={"provenance": found.provenance | {"precision": "float32"}})
    assert reasons.float32_words(exact) == "All numbers of this benchmark are of float32."


def faster(comparison):
    """Forty times the rate in float32."""
    rates = {n: [40 * r for r in values] if n == "float32 step" else values for n, values in comparison.rates.items()}
    return comparison.model_copy(update={"rates": rates})


def test_photographs_of_imagenet_in_words(found):
    """1,281,167 at 40 a second are 8.9 hours; at 800 a second 26.7 minutes."""
    said = reasons.photograph_words(found)
    assert "the 1,281,167 photographs" in said and "8.9 hours" in said and "26.7 minutes" in said
    assert reasons.photograph_words(found.model_copy(update={"comparisons": []})) == reasons.UNMEASURED
    assert reasons.photograph_words(None) == reasons.UNMEASURED
