"""Stateless randomness. The statistical tests have fixed seeds and state their error rates."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdlib.randomness import draws_of, generator, seeded, stream_seed, uniforms, uniforms_of

RATE = 1e-6
STREAMS = [(seed, role, epoch) for seed in (0, 1, 10) for role in ("order", "original crop") for epoch in (0, 1, 11)]


def test_streams_differ_by_seed_role_and_epoch():
    assert len({stream_seed(*stream) for stream in STREAMS}) == len(STREAMS)
    tables = [uniforms(*stream, 50, 2) for stream in STREAMS]
    assert not any(torch.equal(a, b) for a, b in combinations(tables, 2))
    # Names that would run together without a separator.
    assert len({stream_seed(1, "order", 11), stream_seed(1, "order1", 1), stream_seed(11, "order", 1)}) == 3


def test_streams_are_uncorrelated():
    """Correlations of all pairs of 18 streams, and with the next image of the other; error rate 1e-6 in all."""
    n = 20_000
    table = torch.stack([uniforms(*stream, n, 1).squeeze(1) for stream in STREAMS]).double().numpy()
    k = len(STREAMS)
    same = np.corrcoef(table)[np.triu_indices(k, 1)]
    shifted = np.corrcoef(table[:, :-1], table[:, 1:])[:k, k:].ravel()
    r = np.abs(np.concatenate([same, shifted])).max()
    assert 2 * stats.norm.sf(r * n**0.5) * (same.size + shifted.size) > RATE


def test_seeds_fit_in_63_bits():
    assert all(0 <= stream_seed(*stream) < 2**63 for stream in STREAMS)


@pytest.mark.parametrize("stream", STREAMS)
def test_uniformity(stream: tuple):
    """Kolmogorov-Smirnov on every column, error rate 1e-6 per stream and 2e-5 in all."""
    table = uniforms(*stream, 20_000, 3)
    assert table.dtype == torch.float32 and table.shape == (20_000, 3)
    assert table.min() >= 0 and table.max() < 1
    for column in table.double().numpy().T:
        assert stats.kstest(column, "uniform").pvalue > RATE / 3


def test_same_name_same_numbers_whatever_was_drawn_before():
    first = torch.rand(5, generator=generator(3, "order", 2))
    torch.rand(100)
    torch.manual_seed(99)
    uniforms.cache_clear()
    assert torch.equal(first, torch.rand(5, generator=generator(3, "order", 2)))
    assert torch.equal(first, uniforms(3, "order", 2, 5, 1).squeeze(1))


def test_tables_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    uniforms.cache_clear()
    uniforms(0, "order", 5, 100, 3)
    uniforms_of(0, "order", torch.tensor([6, 7]), torch.tensor([1, 2]), 100, 3)
    assert torch.equal(before, torch.get_rng_state())


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 19)), min_size=1, max_size=30), st.integers(1, 3))
def test_a_row_depends_on_its_image_and_epoch_only(pairs: list[tuple[int, int]], draws: int):
    epochs, ids = torch.tensor(pairs).T
    batch = uniforms_of(5, "original crop", epochs, ids, 20, draws)
    assert batch.dtype == torch.float32 and batch.shape == (len(pairs), draws)
    for row, (epoch, image) in zip(batch, pairs, strict=True):
        assert torch.equal(row, uniforms(5, "original crop", epoch, 20, draws)[image])
        alone = uniforms_of(5, "original crop", torch.tensor([epoch]), torch.tensor([image]), 20, draws)
        assert torch.equal(row, alone[0])


def test_looked_up_rows_are_copies():
    ids = torch.arange(10)
    uniforms_of(0, "order", torch.zeros_like(ids), ids, 10, 2).zero_()
    assert uniforms(0, "order", 0, 10, 2).min() > 0


def test_seeded_starts_a_stream_and_restores_the_global_generator():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with seeded(3, "student init"):
        inside = torch.nn.Linear(4, 4).weight
        torch.rand(1000)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(8)
    with seeded(3, "student init"):
        assert torch.equal(inside, torch.nn.Linear(4, 4).weight)
    with seeded(4, "student init"):
        assert not torch.equal(inside, torch.nn.Linear(4, 4).weight)
    with seeded(3, "head init"):
        assert not torch.equal(inside, torch.nn.Linear(4, 4).weight)


def test_seeded_restores_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="inside"), seeded(0, "student init"):
        torch.rand(3)
        raise RuntimeError("inside")
    assert torch.equal(before, torch.get_rng_state())


def test_each_role_has_its_own_draws():
    epochs, ids = torch.tensor([0, 1]), torch.tensor([3, 4])
    found = draws_of(5, {"original crop": 3, "partner": 1}, epochs, ids, 20)
    assert {role: tuple(rows.shape) for role, rows in found.items()} == {"original crop": (2, 3), "partner": (2, 1)}
    assert all(torch.equal(rows, uniforms_of(5, role, epochs, ids, 20, rows.shape[1])) for role, rows in found.items())


def test_threads_that_initialise_networks_at_once_do_not_mix_their_draws():
    """Each draws a little at a time, and lets the others run in between."""

    def drawn(seed: int) -> list[float]:
        with seeded(seed, "init"):
            found = []
            for _ in range(20):
                found.append(torch.rand(()).item())
                time.sleep(0.001)
            return found

    alone = [drawn(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, range(4))) == alone
