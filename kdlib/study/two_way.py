"""Intervals of a contrast that cover other test images as well as other seeds.

An interval over seeds says what other seeds would give on the same test images. Here both are samples, crossed: every
seed is measured on every image (Searle, Casella and McCulloch, Variance Components, 1992, chapter 4; Owen, The
pigeonhole bootstrap, Annals of Applied Statistics, 2007, on why their variances add). Differences are in points.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdlib.lab.results import RunResult, of_one_precision
from kdlib.lab.store import Store
from kdlib.study.arms import Contrast
from kdlib.study.setting import Study
from kdlib.study.stats import Interval, mean_interval
from kdlib.study.tiers import graded


class MeanSquares(NamedTuple):
    """Those of a two-way table without replication: between rows, between columns, and of what is left."""

    seeds: float
    images: float
    rest: float


def finished(study: Study, store: Store, contrast: Contrast) -> dict[int, dict[str, RunResult]]:
    """Seed -> arm -> its result, in the order of the seeds, for the seeds of which every arm is finished.

    They are those of `kdlib.study.tables.contrast_values`: machines with bfloat16 and without are never mixed.
    """
    arms = {arm: {seed: store.get(spec) for seed, spec in graded(study, arm).items()} for arm in contrast.weights}
    common = sorted(set.intersection(*(set(results) for results in arms.values())))
    found = {seed: {arm: results[seed] for arm, results in arms.items()} for seed in common}
    done = {seed: results for seed, results in found.items() if None not in results.values()}
    used = {
        seed: {one.spec.machine.precision for one in results.values() if not getattr(one.spec, "exact", False)}
        for seed, results in done.items()
    }
    return {seed: done[seed] for seed in of_one_precision(used)}


def unpack(bits: str, images: int) -> NDArray[np.uint8]:
    """[images] of 0 and 1: the inverse of `kdlib.lab.evaluate.correctness_bits`.

    Raises:
        ValueError: the text is not hexadecimal, or not of as many bytes as so many images fill.
    """
    packed = np.frombuffer(bytes.fromhex(bits), np.uint8)
    if len(packed) != math.ceil(images / 8):
        raise ValueError(f"bits fill {len(packed)} bytes, but {images} images fill {math.ceil(images / 8)}.")
    return np.unpackbits(packed, count=images)


def correct(result: RunResult) -> NDArray[np.uint8]:
    """[images]: whether a run's network is right about each test image (1 or 0), in their order.

    How many images there are follows from its accuracy: the last byte may be filled up with zeros. If it is right about
    none, as many as fill the bytes.

    Raises:
        ValueError: the result holds no bits, or others than its accuracy.
    """
    bits, top1 = result.metrics.get("correct"), result.metrics.get("top1")
    if not bits or top1 is None:
        raise ValueError(f"metrics of run {result.key} hold no top1 and correct, the bits of the test images.")
    right = int.from_bytes(bytes.fromhex(bits)).bit_count()
    images = round(100 * right / top1) if top1 else 4 * len(bits)
    if not math.isclose(100 * right, top1 * images, rel_tol=1e-9) or math.ceil(images / 8) != len(bits) // 2:
        raise ValueError(f"correct of run {result.key} says {right} of its images, but its top1 is {top1} %.")
    return unpack(bits, images)


def contrast_matrix(study: Study, store: Store, contrast: Contrast) -> NDArray[np.float64]:
    """[seeds, images]: 100 times the weighted sum of the arms' correctness bits, so that its mean is in points.

    The seeds are those of which every arm is finished, in order; without any it is [0, 0].

    Raises:
        ValueError: a result holds no bits (see `correct`), or the arms were measured on other numbers of images.
    """
    rows = [
        {arm: correct(result) for arm, result in results.items()}
        for results in finished(study, store, contrast).values()
    ]
    sizes = sorted({len(bits) for row in rows for bits in row.values()})
    if len(sizes) > 1:
        raise ValueError(f"arms of contrast {contrast.name} have {sizes} test images, but all must have the same.")
    sums = [sum(100 * weight * row[arm] for arm, weight in contrast.weights.items()) for row in rows]
    return np.array(sums, dtype=np.float64).reshape(len(rows), *(sizes or [0]))


def mean_squares(matrix: NDArray[np.float64]) -> MeanSquares:
    """The mean squares of [seeds, images], at least 2 of each, with n - 1, m - 1 and (n - 1)(m - 1) degrees."""
    n, m = matrix.shape
    grand, seeds, images = matrix.mean(), matrix.mean(axis=1), matrix.mean(axis=0)
    rest = matrix - seeds[:, None] - images + grand
    return MeanSquares(
        float(m * np.square(seeds - grand).sum() / (n - 1)),
        float(n * np.square(images - grand).sum() / (m - 1)),
        float(np.square(rest).sum() / ((n - 1) * (m - 1))),
    )


def two_way_interval(matrix: ArrayLike, level: float = 0.95) -> Interval:
    """The interval of the mean of [seeds, images] where seeds and images are crossed random effects.

    With n seeds and m images the variance of the mean is estimated by (MS_seeds + MS_images - MS_rest) / (n m), its
    degrees of freedom by Satterthwaite (Biometrics Bulletin, 1946), and its quantile is Student's t.

    The estimated variance of seeds is (MS_seeds - MS_rest) / m, that of images (MS_images - MS_rest) / n. One that
    comes out below zero counts as zero, for a variance is none: so the variance of the mean is never below that of
    seeds alone, MS_seeds / (n m), nor below that of images alone. And because Satterthwaite's quantile is too small
    with few seeds, the interval is never narrower than Student's over the seeds: images can only widen it.

    Args:
        matrix: float [seeds, images] in points, finite; see `contrast_matrix`.
        level: confidence level, between 0 and 1.

    Returns the interval, whose n is that of the seeds; both ends are nan with fewer than two.

    Raises:
        ValueError: there is no matrix, or one of a single image, or a value or the level is not in its range.
    """
    table = np.asarray(matrix, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] and table.shape[1] < 2:
        raise ValueError(
            f"matrix has the shape {table.shape}, but it must be [seeds, images], with at least two images."
        )
    seeds_only = mean_interval(table.mean(axis=1) if len(table) else [], level)
    n, m = table.shape
    if n < 2:
        return seeds_only
    mean, half = seeds_only.mean, _half_width(mean_squares(table), n, m, level)
    return Interval(mean, min(seeds_only.low, mean - half), max(seeds_only.high, mean + half), n, level)


def _half_width(squares: MeanSquares, n: int, m: int, level: float) -> float:
    from scipy import special  # not above: it takes a while to import

    total = max(squares.seeds, squares.rest) + max(squares.images, squares.rest) - squares.rest
    if total == 0:
        return 0.0
    degrees = (n - 1, m - 1, (n - 1) * (m - 1))
    freedom = total**2 / sum(square**2 / degree for square, degree in zip(squares, degrees, strict=True))
    return float(special.stdtrit(freedom, (1 + level) / 2) * math.sqrt(total / (n * m)))
