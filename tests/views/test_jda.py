"""JDA: the published lists, firing, order and pixels, against slow references, and independence.

The statistical tests have fixed seeds. Each states the probability, over seeds, that a correct program fails it.
"""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from kdlib.randomness import uniforms
from kdlib.views.jda import JDA_LISTS, jda
from kdlib.views.ops import OPS, apply_op, is_identity

RATE = 1e-6  # of false alarms, of each statistical test as a whole
COUNT = 50_000

# The published lists as they are printed, and the number of entries that act.
PUBLISHED = {
    "cifar100": (0.3, 14, 12, "autocontrast 2, contrast 3, posterize 0, solarize 4, translateY 8, shearX 5, "
        "brightness 3, shearY 0, translateX 1, sharpness 5, invert 4, color 4, equalize 8, rotate 3"),
    "cifar10": (0.5, 14, 14, "invert 7, rotate 2, shearY 8, posterize 9, autocontrast 8, color 3, sharpness 9, "
        "equalize 5, contrast 7, translateY 3, brightness 6, solarize 2, translateX 3, shearX 8"),
    "imagenet": (0.2, 25, 24, "posterize 8, solarize 5, equalize 8, posterize 7, equalize 7, equalize 4, solarize 3, "
        "posterize 5, rotate 3, equalize 8, rotate 8, rotate 9, equalize 7, invert 4, color 4, rotate 8, color 8, "
        "sharpness 7, shearX 5, color 0, equalize 7, solarize 5, invert 4, color 4, equalize 8"),
}  # fmt: skip


def source_of_uniforms(source: str, count: int, columns: int) -> Tensor:
    if source == "stream":
        return uniforms(3, "augmented ops", 7, count, columns)
    return torch.rand(count, columns, generator=torch.Generator().manual_seed(5))


# --- the op lists


@pytest.mark.parametrize("name", PUBLISHED)
def test_lists_are_the_published_ones(name: str):
    p, entries, acting, text = PUBLISHED[name]
    expected = tuple((op, int(magnitude)) for op, magnitude in (item.split() for item in text.split(", ")))
    transform = jda(name)
    assert set(JDA_LISTS) == set(PUBLISHED)
    assert (transform.p, transform.ops) == (p, expected)
    assert len(transform.ops) == entries
    assert sum(not is_identity(*op) for op in transform.ops) == acting


@pytest.mark.parametrize(
    ("name", "identities"),
    [("cifar100", {("posterize", 0), ("shearY", 0)}), ("cifar10", set()), ("imagenet", {("color", 0)})],
)
def test_identities_are_exactly_those_that_change_no_tile(tiles: Tensor, name: str, identities: set):
    """By the pixels, past the short cut for identities."""
    for op, magnitude in jda(name).ops:
        value = OPS[op].magnitudes[magnitude] if OPS[op].magnitudes else 0.0
        unchanged = torch.equal(OPS[op].apply(tiles, value), tiles)
        assert unchanged == ((op, magnitude) in identities), op


# --- firing


@pytest.mark.parametrize("source", ["stream", "torch.Generator"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_firing_rates_and_signs(name: str, source: str):
    """Binomial tests of every op's rate against p and of every sign against 1/2; error rate 1e-6 in all."""
    transform = jda(name)
    draws = source_of_uniforms(source, COUNT, transform.draws)
    fired, positive = transform.fired(draws), draws[:, len(transform.ops) :] < 0.5
    for column in fired.sum(0).tolist():
        assert stats.binomtest(column, COUNT, transform.p).pvalue > RATE / transform.draws
    for column in positive.sum(0).tolist():
        assert stats.binomtest(column, COUNT, 0.5).pvalue > RATE / transform.draws


@pytest.mark.parametrize("source", ["stream", "torch.Generator"])
def test_fired_signs_show_in_the_pixels(ramps: Tensor, source: str):
    """A binomial test, on translated ramps, of how often translateX fires and of its sign; error rate 1e-6."""
    transform = jda("cifar10")
    only = type(transform)((("translateX", 3),), 0.5)
    draws = source_of_uniforms(source, 4_000, 2)
    moved = only(ramps[:4_000], draws)[:, 1, 0, 16].long() - 17  # columns that the middle pixel came from
    assert set(moved.tolist()) == {-5, 0, 5}  # a third of 150 / 331 of 32 pixels is 4.83
    assert stats.binomtest(int((moved != 0).sum()), 4_000, 0.5).pvalue > RATE / 2
    assert stats.binomtest(int((moved > 0).sum()), int((moved != 0).sum()), 0.5).pvalue > RATE / 2


@pytest.mark.parametrize("source", ["stream", "torch.Generator"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_ops_fire_independently_of_each_other_and_of_neighbours(name: str, source: str):
    """Chi-square tests (1 degree of freedom, n r^2) of all pairs of events, firing or sign, within an image and
    between an image and the next one of the batch; error rate 1e-6 in all."""
    transform = jda(name)
    draws = source_of_uniforms(source, COUNT, transform.draws)
    events = torch.cat([transform.fired(draws), draws[:, len(transform.ops) :] < 0.5], 1).double().numpy()
    k = events.shape[1]
    within = np.corrcoef(events.T)[np.triu_indices(k, 1)]
    between = np.corrcoef(events[:-1].T, events[1:].T)[:k, k:].ravel()
    statistics = np.concatenate([COUNT * within**2, (COUNT - 1) * between**2])
    assert len(statistics) == k * (k - 1) // 2 + k * k
    assert stats.chi2.sf(statistics.max(), 1) * len(statistics) > RATE


def test_mean_number_of_acting_ops_on_the_cifar100_list():
    """3.6 fire on average, and 0.7^12 of the images stay untouched: a z-test and a binomial test, error rate 1e-6."""
    transform = jda("cifar100")
    acting = torch.tensor([not is_identity(*op) for op in transform.ops])
    assert transform.p * int(acting.sum()) == pytest.approx(3.6)
    fired = transform.fired(uniforms(0, "augmented ops", 0, COUNT, transform.draws))[:, acting].sum(1).double()
    z = (fired.mean().item() - 3.6) / (12 * 0.3 * 0.7 / COUNT) ** 0.5
    assert 2 * stats.norm.sf(abs(z)) > RATE / 2
    assert stats.binomtest(int((fired == 0).sum()), COUNT, 0.7**12).pvalue > RATE / 2


def test_firing_is_nested_in_p():
    draws = uniforms(0, "augmented ops", 0, 1000, 28)
    previous = jda(p=0.0).fired(draws)
    assert not previous.any()
    for p in np.linspace(0.05, 1, 20).tolist():
        fired = jda(p=p).fired(draws)
        assert (fired | ~previous).all() and fired.sum() > previous.sum()
        previous = fired
    assert previous.all()


# --- pixels of JDA


def one_by_one(transform, images: Tensor, draws: Tensor) -> Tensor:
    """The slow reference: image by image, op by op in the order of the list."""
    results, count = [], len(transform.ops)
    for image, row in zip(images, draws.tolist(), strict=True):
        result = image[None]
        for k, (name, magnitude) in enumerate(transform.ops):
            if row[k] < transform.p:
                result = apply_op(name, result, magnitude, 1 if row[count + k] < 0.5 else -1)
        results.append(result)
    return torch.cat(results)


@pytest.mark.parametrize("p", [0.0, None, 1.0])
@pytest.mark.parametrize("name", PUBLISHED)
def test_equals_the_ops_one_after_another(tiles: Tensor, name: str, p: float | None):
    transform, before = jda(name, p), tiles.clone()
    draws = uniforms(0, "augmented ops", 0, len(tiles), transform.draws)
    result = transform(tiles, draws)
    assert result.dtype == torch.uint8 and result.shape == tiles.shape
    assert torch.equal(result, one_by_one(transform, tiles, draws))
    assert torch.equal(result, transform.rule(tiles, draws))  # what the book prints
    result.zero_()
    assert torch.equal(tiles, before)


@pytest.mark.parametrize("name", PUBLISHED)
def test_p_zero_changes_nothing_and_p_one_fires_all(tiles: Tensor, name: str):
    draws = uniforms(0, "augmented ops", 0, len(tiles), jda(name).draws)
    result = jda(name, 0)(tiles, draws)
    assert torch.equal(result, tiles) and result.data_ptr() != tiles.data_ptr()
    assert jda(name, 1).fired(draws).all()
    everything = tiles
    for k, (op, magnitude) in enumerate(jda(name).ops):
        positive = draws[:, len(jda(name).ops) + k] < 0.5
        plus, minus = apply_op(op, everything, magnitude, 1), apply_op(op, everything, magnitude, -1)
        everything = torch.where(positive[:, None, None, None], plus, minus)
    assert torch.equal(jda(name, 1)(tiles, draws), everything)


def test_a_list_of_identities_returns_an_equal_copy(tiles: Tensor):
    transform = type(jda())((("color", 0), ("posterize", 0)), 1.0)
    result = transform(tiles, torch.rand(len(tiles), transform.draws))
    assert torch.equal(result, tiles) and result.data_ptr() != tiles.data_ptr()


@pytest.mark.parametrize("name", PUBLISHED)
def test_order_of_ops_matters(tiles: Tensor, name: str):
    forward = jda(name, 1.0)
    backward = type(forward)(forward.ops[::-1], 1.0)
    draws = uniforms(0, "augmented ops", 0, len(tiles), forward.draws)
    same_signs = torch.cat([half.flip(1) for half in draws.chunk(2, 1)], 1)
    changed = (forward(tiles, draws) != backward(tiles, same_signs)).flatten(1).any(1)
    assert changed.all()


@pytest.mark.parametrize("name", PUBLISHED)
def test_batch_equals_image_by_image_and_permutes_with_the_batch(tiles: Tensor, name: str):
    transform = jda(name)
    draws = uniforms(0, "augmented ops", 0, len(tiles), transform.draws)
    batch = transform(tiles, draws)
    single = [transform(tiles[i : i + 1], draws[i : i + 1]) for i in range(len(tiles))]
    assert torch.equal(batch, torch.cat(single))
    order = torch.randperm(len(tiles), generator=torch.Generator().manual_seed(0))
    assert torch.equal(transform(tiles[order], draws[order]), batch[order])
    assert transform(tiles[:0], draws[:0]).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("ops", PUBLISHED)
def test_every_op_list_runs_on_the_meta_device(ops: str):
    images = torch.empty(8, 3, 32, 32, dtype=torch.uint8, device="meta")
    transform = jda(ops, 1.0)
    assert transform(images, torch.rand(8, transform.draws)).device.type == "meta"


@pytest.mark.parametrize("p", [0.0, None, 1.0])
@pytest.mark.parametrize("name", PUBLISHED)
def test_in_steady_shapes_pixels_are_the_same(tiles: Tensor, name: str, p: float | None):
    transform, before = jda(name, p), tiles.clone()
    draws = uniforms(4, "augmented ops", 0, len(tiles), transform.draws)
    assert torch.equal(transform.steady(tiles, draws), transform(tiles, draws)) and torch.equal(tiles, before)
