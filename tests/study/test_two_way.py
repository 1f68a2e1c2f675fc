"""Intervals over seeds and test images: against plain loops, by simulation, and on published results."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats

from kdlib.chapters.registry import create_study
from kdlib.lab.evaluate import correctness_bits
from kdlib.lab.store import Store
from kdlib.study import tables
from kdlib.study.setting import Setting
from kdlib.study.stats import PRIMARY_LEVEL, mean_interval
from kdlib.study.two_way import contrast_matrix, correct, finished, mean_squares, two_way_interval, unpack


def drawn(generator, n: int, m: int, seeds: float, images: float, rest: float = 1.0) -> np.ndarray:
    """[n, m] with a mean of 0 and independent normal effects of these standard deviations."""
    effects = seeds * generator.normal(size=(n, 1)) + images * generator.normal(size=m)
    return effects + rest * generator.normal(size=(n, m))


def bits_of(right: np.ndarray) -> str:
    """As a run writes them: logits of two classes whose first is the label."""
    logits = torch.tensor(np.stack([right, 1 - right], axis=1), dtype=torch.float32)
    return correctness_bits(logits, torch.zeros(len(right), dtype=torch.long))


# --- mean squares and the interval


def squares_by_loops(table: np.ndarray) -> tuple[float, float, float]:
    n, m = table.shape
    grand = sum(table[s, i] for s in range(n) for i in range(m)) / (n * m)
    rows = [sum(table[s, i] for i in range(m)) / m for s in range(n)]
    columns = [sum(table[s, i] for s in range(n)) / n for i in range(m)]
    seeds = sum(m * (row - grand) ** 2 for row in rows) / (n - 1)
    images = sum(n * (column - grand) ** 2 for column in columns) / (m - 1)
    rest = sum((table[s, i] - rows[s] - columns[i] + grand) ** 2 for s in range(n) for i in range(m))
    return seeds, images, rest / ((n - 1) * (m - 1))


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 7), (5, 40), (10, 33)])
def test_mean_squares_are_those_of_plain_loops(generator, n, m):
    table = 5 + drawn(generator, n, m, 0.5, 2.0)
    assert mean_squares(table) == pytest.approx(squares_by_loops(table), rel=1e-9)


@pytest.mark.parametrize(("seeds", "images"), [(1.0, 2.0), (0.3, 0.0), (0.0, 2.0), (0.0, 0.0)])
@pytest.mark.parametrize("level", [0.8, 0.95, PRIMARY_LEVEL])
def test_the_interval_is_that_of_the_formulas(generator, seeds, images, level):
    table = drawn(generator, 5, 60, seeds, images)
    a, b, e = squares_by_loops(table)
    variances = [max(0, (a - e) / 60), max(0, (b - e) / 5), e]  # of seeds, images and what is left
    variance = variances[0] / 5 + variances[1] / 60 + variances[2] / 300
    freedom = (300 * variance) ** 2 / (a**2 / 4 + b**2 / 59 + e**2 / (4 * 59))
    half = max(
        scipy_stats.t(freedom).ppf((1 + level) / 2) * math.sqrt(variance),
        scipy_stats.t(4).ppf((1 + level) / 2) * math.sqrt(a / 300),
    )
    found = two_way_interval(table, level)
    assert (found.low, found.high) == pytest.approx((table.mean() - half, table.mean() + half))
    assert (found.mean, found.n, found.level) == (pytest.approx(table.mean()), 5, level)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_without_image_effects_it_is_nearly_the_interval_over_seeds(generator, n):
    table = drawn(generator, n, 2000, 0.5, 0.0)
    ours, seeds = two_way_interval(table), mean_interval(table.mean(axis=1))
    assert ours.mean == pytest.approx(seeds.mean)
    assert 1 <= (ours.high - ours.low) / (seeds.high - seeds.low) < 1.02


def test_images_that_differ_widen_it(generator):
    """By as much as the mean of that many images varies: a standard error of 4 / sqrt(400) points, times 1.96."""
    table = drawn(generator, 10, 400, 0.01, 4.0)
    ours, seeds = two_way_interval(table), mean_interval(table.mean(axis=1))
    assert ours.high - ours.mean == pytest.approx(1.96 * 4 / 20, rel=0.15)
    assert ours.high - ours.low > 3 * (seeds.high - seeds.low)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_it_is_never_narrower_than_the_interval_over_seeds(generator, n):
    for seeds, images in ((0, 0), (0.1, 0), (0.1, 1), (1, 0.2)):
        for _ in range(50):
            table = drawn(generator, n, 30, seeds, images)
            ours, plain = two_way_interval(table), mean_interval(table.mean(axis=1))
            assert ours.low <= plain.low and plain.high <= ours.high


@pytest.mark.parametrize(("n", "level"), [(3, 0.95), (5, 0.95), (5, PRIMARY_LEVEL), (10, 0.95), (10, PRIMARY_LEVEL)])
@pytest.mark.parametrize(("seeds", "images"), [(0.2, 0.0), (0.1, 1.0), (0.0, 2.0)])
def test_coverage(n, level, seeds, images):
    """Of 2,000 tables of 100 images, with true effects of seeds, of images or of both.

    At least the level within 4 standard errors of a share of 2,000, which are 1.9 % at 95 % and 0.7 % at the level of
    primary contrasts; and, since the floors only widen it, not above by more than 2.5 %.
    """
    random = np.random.default_rng(n)
    found = [two_way_interval(drawn(random, n, 100, seeds, images), level) for _ in range(2000)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
    error = 4 * math.sqrt(level * (1 - level) / len(found))
    assert level - error < covered < level + 0.025 + error


@pytest.mark.parametrize("images", [1.0, 2.0])
def test_the_interval_over_seeds_does_not_cover_other_images(images):
    """What the simulation above is able to see: with effects of images it is far below 95 %."""
    random = np.random.default_rng(1)
    found = [mean_interval(drawn(random, 10, 100, 0.1, images).mean(axis=1)) for _ in range(1000)]
    assert np.mean([interval.low <= 0 <= interval.high for interval in found]) < 0.85


def test_it_moves_and_scales_with_the_values(generator):
    table = drawn(generator, 5, 50, 0.5, 1.0)
    one, other = two_way_interval(table), two_way_interval(-3 * table + 7)
    assert (other.mean, other.low, other.high) == pytest.approx((7 - 3 * one.mean, 7 - 3 * one.high, 7 - 3 * one.low))


def test_the_order_of_seeds_and_of_images_does_not_matter(generator):
    table = drawn(generator, 5, 50, 0.5, 1.0)
    mixed = table[generator.permutation(5)][:, generator.permutation(50)]
    assert two_way_interval(mixed).high == pytest.approx(two_way_interval(table).high)


def test_fewer_than_two_seeds_have_no_ends():
    none, one = two_way_interval(np.empty((0, 0))), two_way_interval([[1.0, 2.0, 3.0]])
    assert none.n == 0 and math.isnan(none.mean) and math.isnan(none.low)
    assert (one.n, one.mean) == (1, 2.0) and math.isnan(one.low) and math.isnan(one.high)


def test_equal_values_have_an_interval_of_no_width():
    found = two_way_interval(np.full((3, 8), 0.25))
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("bad", [np.zeros(5), np.zeros((3, 1)), np.zeros((3, 0)), np.zeros((2, 2, 2))])
def test_a_matrix_has_seeds_and_images(bad):
    with pytest.raises(ValueError, match="shape .*at least two images"):
        two_way_interval(bad)


def test_values_and_level_are_checked():
    with pytest.raises(ValueError, match="finite"):
        two_way_interval([[1.0, math.nan], [0.0, 1.0]])
    with pytest.raises(ValueError, match="level is 95"):
        two_way_interval(np.eye(3), 95)


# --- bits


@pytest.mark.parametrize("images", [1, 7, 8, 9, 60, 1001])
def test_unpacking_undoes_packing(generator, images):
    right = generator.integers(0, 2, images)
    assert np.array_equal(unpack(bits_of(right), images), right)


def test_bits_of_another_number_of_images_are_refused():
    with pytest.raises(ValueError, match="bits fill 2 bytes, but 17 images fill 3"):
        unpack("ffff", 17)
    with pytest.raises(ValueError, match="hexadecimal"):
        unpack("fgff", 16)


@pytest.mark.parametrize("images", [1, 7, 8, 60, 1001])
def test_the_number_of_images_follows_from_the_accuracy(generator, invented, make_spec, images):
    for right in (generator.integers(0, 2, images), np.ones(images, int)):
        right[-1] = 1
        result = invented(make_spec(), "smoke", top1=100 * right.mean(), correct=bits_of(right))
        assert np.array_equal(correct(result), right)


def test_nothing_right_is_no_image_right(invented, make_spec):
    result = invented(make_spec(), "smoke", top1=0.0, correct="0000")
    assert correct(result).tolist() == 16 * [0]


@pytest.mark.parametrize(("top1", "bits"), [(50.0, "ffff"), (99.0, "ffff"), (0.0, "8000")])
def test_bits_that_are_not_those_of_the_accuracy_are_refused(invented, make_spec, top1, bits):
    with pytest.raises(ValueError, match="of its images, but its top1 is"):
        correct(invented(make_spec(), "smoke", top1=top1, correct=bits))


# --- contrasts of a study


@pytest.fixture
def stored(isolated, invented, generator):
    """The study of chapter 3 and a store where JDA has three seeds and weak2 two; seed -> arm -> what is right."""
    study, store = create_study("03_blind_teacher", Setting.of("reference", device="cpu")), Store("reference")
    rights = {arm: generator.integers(0, 2, (count, 60)) for arm, count in (("JDA", 3), ("weak2", 2))}
    for arm, rows in rights.items():
        for spec, right in zip(study.specs(arm), rows, strict=False):
            store.put(invented(spec, "reference", top1=100 * right.mean(), correct=bits_of(right)))
    return study, store, rights


def test_a_matrix_holds_the_weighted_bits_of_common_seeds(stored):
    study, store, rights = stored
    contrast = study.contrast("a1")
    assert list(finished(study, store, contrast)) == [0, 1]
    found = contrast_matrix(study, store, contrast)
    assert found.dtype == np.float64
    assert np.array_equal(found, 100.0 * rights["JDA"][:2] - 100.0 * rights["weak2"])


@pytest.fixture
def published(isolated, invented, generator):
    """published(study, {arm: precisions}): publishes a result of a machine of each precision, from the first seed."""
    folder = isolated / "results"
    folder.mkdir()

    def publish(study, arms) -> None:
        for arm, kinds in arms.items():
            for spec, kind in zip(study.specs(arm), kinds, strict=False):
                machine, right = spec.machine.model_copy(update={"precision": kind}), generator.integers(0, 2, 64)
                made = spec.model_copy(update={"machine": machine})
                result = invented(made, "reference", top1=100 * right.mean(), correct=bits_of(right))
                (folder / f"{result.key}.json").write_text(result.model_dump_json())

    return publish


@pytest.mark.parametrize(
    ("exact", "arms", "seeds"),
    [
        (False, {"JDA": ("float32",) * 3 + ("bfloat16",), "weak2": ("float32",) * 2 + ("bfloat16",) * 2}, [0, 1]),
        (True, {"JDA": ("float32",) * 3, "weak2": ("bfloat16",) * 3}, [0, 1, 2]),  # JDA asks for float32
    ],
)
def test_precisions_are_not_mixed_just_as_in_the_tables(published, exact, arms, seeds):
    study, store = create_study("03_blind_teacher", Setting.of("reference", device="cpu")), Store("reference")
    study = replace(study, arms=study.arms | {"JDA": replace(study.arms["JDA"], exact=exact)})
    published(study, arms)
    contrast = study.contrast("a1")
    values = tables.contrast_values(contrast, tables.runs_frame(study, store))
    assert list(finished(study, store, contrast)) == list(values) == seeds
    assert contrast_matrix(study, store, contrast).mean(axis=1) == pytest.approx(list(values.values()))


def test_no_common_seed_is_an_empty_matrix(stored):
    study, store, _ = stored
    found = contrast_matrix(study, store, study.contrast("a2"))
    assert found.shape == (0, 0)
    assert two_way_interval(found).n == 0


def test_a_result_without_bits_is_named(stored, invented):
    study, store, _ = stored
    spec = study.specs("JDA")[0]
    store.put(invented(spec, "reference"))
    with pytest.raises(ValueError, match=f"run {spec.key} hold no top1 and correct"):
        contrast_matrix(study, store, study.contrast("a1"))


def test_arms_of_other_test_images_are_refused(stored, invented):
    study, store, _ = stored
    store.put(invented(study.specs("JDA")[1], "reference", top1=100.0, correct="ffff"))
    with pytest.raises(ValueError, match=r"arms of contrast a1 have \[16, 60\] test images"):
        contrast_matrix(study, store, study.contrast("a1"))


@pytest.mark.parametrize(
    ("chapter", "name"), [("03_blind_teacher", "a1"), ("04_augmented_teacher", "b2"), ("07_compatibility", "e")]
)
def test_published_results_give_the_difference_that_is_published(chapter, name):
    study, store = create_study(chapter, Setting.of("reference", device="cpu")), Store("reference")
    contrast = study.contrast(name)
    values = tables.contrast_values(contrast, tables.runs_frame(study, store))
    matrix = contrast_matrix(study, store, contrast)
    assert matrix.shape == (len(values), 10_000) and len(values) >= 5
    assert matrix.mean(axis=1) == pytest.approx(list(values.values()), abs=1e-9)
    ours, seeds = two_way_interval(matrix, PRIMARY_LEVEL), mean_interval(list(values.values()), PRIMARY_LEVEL)
    assert ours.mean == pytest.approx(seeds.mean, abs=1e-9)
    assert 1 - 1e-9 <= (ours.high - ours.low) / (seeds.high - seeds.low) < 2
