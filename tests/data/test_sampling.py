"""Subsets, the validation split, and the order of images."""

import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from kdlib.data.sampling import (
    VALIDATION_SHARE,
    Order,
    class_counts,
    stratified,
    training_count,
    training_ids,
    validation_ids,
)
from kdlib.randomness import uniforms_of

RATE = 1e-6
SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 1.0)


@pytest.fixture
def labels() -> Tensor:
    """1,000 labels of 10 classes of 100, in no order."""
    return torch.arange(1000)[torch.randperm(1000, generator=torch.Generator().manual_seed(0))] % 10


def counts(labels: Tensor, ids: Tensor) -> dict[int, int]:
    return dict(Counter(labels[ids].tolist()))


# --- stratified draws


@pytest.mark.parametrize("share", SHARES)
def test_exact_counts_of_every_class(labels: Tensor, share: float):
    ids = stratified(labels, torch.arange(1000), share, 0, "subset")
    assert counts(labels, ids) == dict.fromkeys(range(10), round(100 * share))
    assert ids.dtype == torch.int64 and (ids[1:] > ids[:-1]).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.001, 1), st.integers(0, 5))
def test_counts_of_unequal_classes(classes: list[int], share: float, seed: int):
    labels = torch.tensor(classes)
    ids = stratified(labels, torch.arange(len(labels)), share, seed, "subset")
    assert counts(labels, ids) == {c: max(1, round(share * n)) for c, n in Counter(classes).items()}
    assert len(set(ids.tolist())) == len(ids)


def test_draws_come_from_the_given_ids(labels: Tensor):
    ids = torch.arange(1000)[::3]
    chosen = stratified(labels, ids, 0.5, 0, "subset")
    assert torch.isin(chosen, ids).all()
    expected = {c: round(n / 2) for c, n in counts(labels, ids).items()}
    assert counts(labels, chosen) == expected


def test_nested_in_share(labels: Tensor):
    draws = [set(stratified(labels, torch.arange(1000), share, 3, "subset").tolist()) for share in SHARES]
    assert all(small < large for small, large in zip(draws, draws[1:], strict=False))


def test_seeds_and_roles_differ(labels: Tensor):
    draw = lambda seed, role: tuple(stratified(labels, torch.arange(1000), 0.25, seed, role).tolist())  # noqa: E731
    assert draw(0, "subset") == draw(0, "subset")
    assert len({draw(0, "subset"), draw(1, "subset"), draw(0, "pool"), draw(1, "pool")}) == 4


def test_every_image_is_as_likely():
    """How often each of 20 images of a class is among the chosen 5, over 2,000 seeds: a chi-square test on the counts
    (divided by the variance of draws without replacement), error rate 1e-6."""
    labels, seeds = torch.zeros(20, dtype=torch.int64), 2000
    chosen = [stratified(labels, torch.arange(20), 0.25, seed, "subset") for seed in range(seeds)]
    tally = torch.bincount(torch.cat(chosen), minlength=20).double().numpy()
    variance = seeds * 0.25 * 0.75 * 20 / 19
    assert stats.chi2.sf(((tally - seeds / 4) ** 2).sum() / variance, 19) > RATE


# --- what a run trains on


def test_without_options_all_images_are_trained_on(labels: Tensor):
    assert torch.equal(training_ids(labels, 0, 1.0, None, False), torch.arange(1000))


def test_validation_split_is_fixed_stratified_and_never_trained_on(labels: Tensor):
    held = validation_ids(labels)
    assert counts(labels, held) == dict.fromkeys(range(10), round(100 * VALIDATION_SHARE))
    assert torch.equal(held, validation_ids(labels))
    rest = training_ids(labels, 0, 1.0, None, True)
    assert sorted([*held.tolist(), *rest.tolist()]) == list(range(1000))
    for seed in range(3):
        for fraction in (0.1, 0.5, 1.0):
            for pool, validation in ((None, True), (400, True), (400, False)):
                assert not torch.isin(training_ids(labels, seed, fraction, pool, validation), held).any()


def test_validation_of_cifar100_is_5000_images():
    assert len(validation_ids(torch.arange(100).repeat(500))) == 5000


def test_pool_is_the_same_for_every_seed(labels: Tensor):
    pools = [training_ids(labels, seed, 1.0, 400, False) for seed in range(4)]
    assert counts(labels, pools[0]) == dict.fromkeys(range(10), 40)
    assert all(torch.equal(pools[0], pool) for pool in pools)
    assert torch.equal(pools[0], training_ids(labels, 0, 1.0, 400, True))
    assert len(training_ids(labels, 0, 1.0, 900, False)) == 900


def test_fractions_are_nested_within_the_pool_and_differ_by_seed(labels: Tensor):
    pool = set(training_ids(labels, 0, 1.0, 400, False).tolist())
    for seed in range(3):
        previous = set()
        for fraction in (0.05, 0.25, 0.5, 0.75, 1.0):
            ids = training_ids(labels, seed, fraction, 400, False)
            assert counts(labels, ids) == dict.fromkeys(range(10), round(40 * fraction))
            assert previous < set(ids.tolist()) <= pool
            previous = set(ids.tolist())
    assert not torch.equal(training_ids(labels, 0, 0.5, 400, False), training_ids(labels, 1, 0.5, 400, False))


def test_pool_too_large_is_named(labels: Tensor):
    with pytest.raises(ValueError, match="pool = 901 is larger than the 900 images that may be trained on"):
        training_ids(labels, 0, 1.0, 901, False)


@pytest.mark.parametrize(("pool", "validation"), [(None, False), (None, True), (300, False)])
def test_halves_are_fixed_stratified_disjoint_and_complete(labels: Tensor, pool: int | None, validation: bool):
    halves = [
        [training_ids(labels, seed, 1.0, pool, validation, part) for seed in (0, 1)]
        for part in ("first half", "second half")
    ]
    assert all(torch.equal(*both) for both in halves)  # the same for every seed
    first, second = (both[0] for both in halves)
    assert not torch.isin(first, second).any()
    assert counts(labels, first) == counts(labels, second)
    if pool is None:
        assert sorted([*first.tolist(), *second.tolist()]) == training_ids(labels, 0, 1.0, None, validation).tolist()
    else:
        assert len(first) == pool
    few = training_ids(labels, 3, 0.5, pool, validation, "second half")
    assert set(few.tolist()) < set(second.tolist())
    sizes = tuple(torch.bincount(labels).tolist())
    assert training_count(sizes, 0.5, pool, validation, "second half") == len(few)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 25), min_size=1, max_size=6).filter(any),
    st.sampled_from([0.05, 0.5, 1.0]),
    st.none() | st.integers(1, 60),
    st.booleans(),
    st.sampled_from(["all", "first half", "second half"]),
)
def test_what_is_planned_is_what_is_drawn_or_both_refuse(sizes, fraction, pool, validation, part):
    labels = torch.tensor([label for label, size in enumerate(sizes) for _ in range(size)])
    names = [f"class {i}" for i in range(len(sizes))]
    try:
        drawn = training_ids(labels, 0, fraction, pool, validation, part, names)
    except ValueError as error:
        assert "\n" not in str(error)
        with pytest.raises(ValueError, match=f"^{re.escape(str(error))}$"):
            training_count(sizes, fraction, pool, validation, part, names)
        return
    assert labels[drawn].bincount(minlength=len(sizes)).tolist() == class_counts(
        sizes, fraction, pool, validation, part
    )
    assert len(drawn) == training_count(sizes, fraction, pool, validation, part)
    assert set(labels[drawn].tolist()) == set(labels.tolist())  # no class that has images is without


@pytest.mark.parametrize(
    ("sizes", "pool", "part", "said"),
    [
        ([1] * 16, None, "all", "class 'c0' has 1 training image that the validation split takes, as have 15 other"),
        (
            [1, 20],
            None,
            "all",
            r"class 'c0' has 1 training image that the validation split takes: none is left to train on",
        ),
        ([20, 1], 5, "all", "class 'c1' has 1 training image that the validation split takes"),
        ([20, 2], None, "second half", "class 'c1' has 2 training images of which the second half gets none"),
    ],
)
def test_a_class_of_which_nothing_would_be_left_is_named(sizes, pool, part, said):
    names = [f"c{i}" for i in range(len(sizes))]
    with pytest.raises(ValueError, match=f"^{said}"):
        class_counts(sizes, 1.0, pool, True, part, names)
    with pytest.raises(ValueError, match=f"^{said.replace(repr(names[0]), '0').replace(repr(names[1]), '1')}"):
        class_counts(sizes, 1.0, pool, True, part)


# --- order


IDS = tuple(range(3, 103, 2))  # 50 images of a set of 120


def stream(order: Order, steps: int) -> tuple[list[int], list[int]]:
    parts = [order.at(step) for step in range(steps)]
    return tuple(torch.cat(column).tolist() for column in zip(*parts, strict=True))


@pytest.mark.parametrize("batch", [1, 7, 10, 50, 64, 130])
def test_every_epoch_is_a_permutation_and_the_cut_does_not_matter(batch: int):
    steps = -(-200 // batch)
    ids, epochs = (part[:200] for part in stream(Order(IDS, 120, batch, 5), steps))
    assert epochs == [i // 50 for i in range(200)]
    for epoch in range(4):
        assert sorted(ids[50 * epoch : 50 * epoch + 50]) == list(IDS)
    assert ids == stream(Order(IDS, 120, 1, 5), 200)[0]
    assert len({tuple(ids[e * 50 : e * 50 + 50]) for e in range(4)}) == 4


def test_batches_are_full_and_cross_epochs():
    order = Order(IDS, 120, 32, 0)
    ids, epochs = order.at(1)
    assert ids.shape == epochs.shape == (32,) and ids.dtype == epochs.dtype == torch.int64
    assert epochs.tolist() == [0] * 18 + [1] * 14
    assert set(Order(IDS, 120, 130, 0).at(0)[1].tolist()) == {0, 1, 2}


def test_random_access_equals_sequential_access():
    order = Order(IDS, 120, 7, 1)
    sequential = [order.at(step) for step in range(60)]
    for step in torch.randperm(60, generator=torch.Generator().manual_seed(0)).tolist():
        ids, epochs = Order(IDS, 120, 7, 1).at(step)
        assert torch.equal(ids, sequential[step][0]) and torch.equal(epochs, sequential[step][1])


def test_arms_with_one_two_or_four_views_make_equal_steps_from_one_stream():
    """S = 16 views a step and 24 views an image: 16 / V images a step, 24 / V epochs, 75 steps for every V."""
    streams = {}
    for views in (1, 2, 4):
        steps = len(IDS) * 24 // 16
        ids, epochs = stream(Order(IDS, 120, 16 // views, 2), steps)
        assert len(ids) * views == 16 * steps == 24 * len(IDS)
        assert set(Counter(ids).values()) == {24 // views} and max(epochs) == 24 // views - 1
        streams[views] = ids
    assert streams[2] == streams[1][: len(streams[2])] and streams[4] == streams[1][: len(streams[4])]


def test_seeds_differ_and_subsets_keep_the_relative_order():
    assert stream(Order(IDS, 120, 50, 0), 1) != stream(Order(IDS, 120, 50, 1), 1)
    whole = stream(Order(IDS, 120, 50, 0), 1)[0]
    some = IDS[::3]
    assert stream(Order(some, 120, len(some), 0), 1)[0] == [i for i in whole if i in some]


def test_places_are_uniform():
    """Chi-square of where an image stands in 500 epochs (5 images, 25 cells), error rate 1e-6."""
    ids, _ = stream(Order((0, 1, 2, 3, 4), 5, 5, 0), 500)
    table = np.zeros((5, 5))
    np.add.at(table, (np.arange(2500) % 5, ids), 1)
    statistic = ((table - 100) ** 2 / 100).sum() * 4 / 5  # rows and columns are fixed: 16 degrees of freedom
    assert stats.chi2.sf(statistic, 16) > RATE


def test_views_of_a_step_do_not_depend_on_the_batch_size():
    """The same image in the same epoch gets the same row of uniforms, however the stream is cut."""
    rows = []
    for batch in (5, 25):
        parts = [Order(IDS, 120, batch, 0).at(step) for step in range(100 // batch)]
        rows.append(torch.cat([uniforms_of(0, "original crop", e, i, 120, 3) for i, e in parts]))
    assert torch.equal(*rows)
