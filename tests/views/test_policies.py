"""View policies: firing, order and pixels of JDA, crops and turns against slow references, and independence.

The statistical tests have fixed seeds. Each states the probability, over seeds, that a correct program fails it.
"""

from collections.abc import Mapping
from math import nan

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_sample_images
from torch import Tensor

from kdlib.randomness import uniforms, uniforms_of
from kdlib.views.ops import OPS, apply_op, is_identity
from kdlib.views.policies import JDA_LISTS, POLICIES, ViewPolicy, create_policy, crop_flip, jda, policy_options

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


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    """uint8 [40, 3, 32, 32], cut from two photographs."""
    rng, cut = np.random.default_rng(0), []
    for photo in load_sample_images().images:
        for y, x in zip(
            *(rng.integers(0, room, 20) for room in (photo.shape[0] - 32, photo.shape[1] - 32)), strict=True
        ):
            cut.append(photo[y : y + 32, x : x + 32])
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).contiguous()


def ramps(count: int) -> Tensor:
    """Images that carry their coordinates: red = row + 1, green = column + 1; black is outside."""
    grid = torch.arange(1, 33, dtype=torch.uint8)
    image = torch.stack([grid[:, None].expand(32, 32), grid[None].expand(32, 32), torch.full((32, 32), 255)])
    return image.to(torch.uint8).expand(count, -1, -1, -1)


def crops_of(views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(row offset 0..8, column offset 0..8, flipped) that views [B, 3, 32, 32] of `ramps` went through."""
    pixel, right = views[:, :, 16, 16].long(), views[:, :, 16, 17].long()
    flipped = right[:, 1] < pixel[:, 1]
    columns = torch.where(flipped, pixel[:, 1] - 1 - 15 + 4, pixel[:, 1] - 1 - 16 + 4)
    return pixel[:, 0] - 1 - 16 + 4, columns, flipped


def draws_of(policy: ViewPolicy, count: int, seed: int = 0, epoch: int = 0) -> dict[str, Tensor]:
    return {role: uniforms(seed, role, epoch, count, n) for role, n in policy.roles.items()}


def make(name: str, images: Tensor, seed: int = 0, **options) -> Tensor:
    policy = create_policy(name, **options)
    return policy(images, draws_of(policy, len(images), seed))


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
def test_fired_signs_show_in_the_pixels(source: str):
    """A binomial test, on translated ramps, of how often translateX fires and of its sign; error rate 1e-6."""
    transform = jda("cifar10")
    only = type(transform)((("translateX", 3),), 0.5)
    draws = source_of_uniforms(source, 4_000, 2)
    moved = only(ramps(4_000), draws)[:, 1, 0, 16].long() - 17  # columns that the middle pixel came from
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


# --- crops


def slow_crop_flip(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    results = []
    for image, (row, column, flip) in zip(images, draws, strict=True):
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
        y, x = int(np.floor(row * 9)), int(np.floor(column * 9))
        crop = padded[:, y : y + image.shape[1], x : x + image.shape[2]]
        results.append(crop[:, :, ::-1] if flip < 0.5 else crop)
    return np.stack(results)


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (33, 31), (1, 1)])
def test_crop_flip_equals_the_slow_reference(size: tuple[int, int]):
    images = torch.randint(0, 256, (200, 3, *size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    draws = uniforms(0, "original crop", 0, 200, 3).clone()
    draws[0], draws[1] = 0, 1 - 2**-24  # the ends of the interval
    result = crop_flip(images, draws)
    assert result.dtype == torch.uint8
    assert np.array_equal(result.numpy(), slow_crop_flip(images.numpy(), draws.numpy()))


def test_crops_are_uniform_and_flips_are_fair():
    """Chi-square over the 9 x 9 x 2 crops, error rate 1e-6."""
    count = 12_000
    rows, columns, flipped = crops_of(crop_flip(ramps(count), uniforms(0, "original crop", 0, count, 3)))
    cells = torch.bincount((rows * 9 + columns) * 2 + flipped, minlength=162)
    assert len(cells) == 162
    assert stats.chisquare(cells.numpy()).pvalue > RATE


@pytest.mark.parametrize("name", ["weak2", "jda"])
def test_the_two_views_have_independent_crops(name: str):
    """Chi-square tests of the pairs of (row, column, flip) of the two views; error rate 1e-6 in all."""
    count = 12_000
    views = make(name, ramps(count), **({"p": 0.0} if name == "jda" else {}))
    first, second = crops_of(views[:, 0]), crops_of(views[:, 1])
    assert not torch.equal(views[:, 0], views[:, 1])
    for a in first:
        for b in second:
            table = stats.contingency.crosstab(a.numpy(), b.numpy()).count
            assert stats.chi2_contingency(table, correction=False).pvalue > RATE / 9


def test_weak2_is_jda_at_p_zero_bit_for_bit(tiles: Tensor):
    for ops in JDA_LISTS:
        assert torch.equal(make("weak2", tiles, seed=4), make("jda", tiles, seed=4, ops=ops, p=0.0))


def test_jda_view_is_the_crop_of_the_transformed_image(tiles: Tensor):
    policy = create_policy("jda", p=0.7)
    draws = draws_of(policy, len(tiles))
    changed = one_by_one(jda(p=0.7), tiles, draws["augmented ops"])
    expected = slow_crop_flip(changed.numpy(), draws["augmented crop"].numpy())
    assert np.array_equal(policy(tiles, draws)[:, 1].numpy(), expected)


def test_policies_of_one_seed_share_the_original_crops(tiles: Tensor):
    originals = [make(name, tiles, seed=9)[:, 0] for name in POLICIES]
    assert all(torch.equal(originals[0], other) for other in originals[1:])
    assert not torch.equal(originals[0], make("weak1", tiles, seed=10)[:, 0])


def test_views_of_an_image_do_not_depend_on_its_batch(tiles: Tensor):
    policy, ids = create_policy("jda"), torch.tensor([31, 2, 17])
    few = {r: uniforms_of(0, r, torch.zeros(3, dtype=torch.int64), ids, len(tiles), n) for r, n in policy.roles.items()}
    assert torch.equal(policy(tiles[ids], few), make("jda", tiles)[ids])


# --- turns


def test_rot4_is_numpys_rot90_of_one_crop(tiles: Tensor):
    views = make("rot4", tiles).numpy()
    for turns in range(4):
        assert np.array_equal(views[:, turns], np.rot90(views[:, 0], turns, (2, 3)))
    assert np.array_equal(views[:, 0], make("weak1", tiles)[:, 0].numpy())


def test_rot2_is_a_crop_and_one_of_its_three_turns(tiles: Tensor):
    """Chi-square of the turns on 1, 2, 3, error rate 1e-6; no image stays upright."""
    images = tiles.repeat(100, 1, 1, 1)
    views = make("rot2", images).numpy()
    matches = np.stack([(np.rot90(views[:, 0], k, (2, 3)) == views[:, 1]).all((1, 2, 3)) for k in range(4)], 1)
    assert (matches.sum(1) == 1).all()
    counts = matches.sum(0)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > RATE


# --- what a policy is


@pytest.mark.parametrize(("name", "count"), [("weak1", 1), ("weak2", 2), ("jda", 2), ("rot2", 2), ("rot4", 4)])
def test_shape_and_interleaving(tiles: Tensor, name: str, count: int):
    policy, before = create_policy(name), tiles.clone()
    views = policy(tiles, draws_of(policy, len(tiles)))
    assert (policy.name, policy.views) == (name, count)
    assert views.shape == (len(tiles), count, 3, 32, 32) and views.dtype == torch.uint8
    flat = views.flatten(0, 1)
    for i in range(len(tiles)):
        for v in range(count):
            assert torch.equal(flat[i * count + v], views[i, v])
    assert torch.equal(tiles, before)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_runs_on_the_meta_device(name: str):
    """Images are on the device, draws on the CPU: a tensor made on the wrong device would raise."""
    policy = create_policy(name)
    views = policy(torch.empty(8, 3, 32, 32, dtype=torch.uint8, device="meta"), draws_of(policy, 8))
    assert views.device.type == "meta" and views.shape == (8, policy.views, 3, 32, 32)


@pytest.mark.parametrize("ops", PUBLISHED)
def test_every_op_list_runs_on_the_meta_device(ops: str):
    images = torch.empty(8, 3, 32, 32, dtype=torch.uint8, device="meta")
    transform = jda(ops, 1.0)
    assert transform(images, torch.rand(8, transform.draws)).device.type == "meta"


def test_options_are_written_out_with_the_lists_own_p():
    for ops, (p, *_) in PUBLISHED.items():
        assert policy_options("jda", {"ops": ops}) == {"ops": ops, "p": p}
        assert policy_options("jda", {"ops": ops, "p": None}) == {"ops": ops, "p": p}
    assert policy_options("jda", {}) == {"ops": "cifar100", "p": 0.3}
    assert policy_options("jda", {"p": 1}) == {"ops": "cifar100", "p": 1.0}
    assert isinstance(policy_options("jda", {"p": 1})["p"], float)
    assert all(policy_options(name, {}) == {} for name in POLICIES if name != "jda")


BAD: Mapping[str, tuple[str, dict, str]] = {
    "policy": ("mixup", {}, "policy = 'mixup' is unknown.*weak1.*jda"),
    "option": ("jda", {"probability": 0.1}, "no option 'probability'.*ops, p"),
    "option of a policy without": ("rot4", {"p": 0.1}, "'rot4' has no option 'p'.*none"),
    "ops": ("jda", {"ops": "cifar"}, "ops = 'cifar' is unknown.*cifar100, cifar10, imagenet"),
    "ops None": ("jda", {"ops": None}, "ops = None is unknown"),
    "ops of another type": ("jda", {"ops": ["invert"]}, r"ops = \['invert'\]"),
    "p below": ("jda", {"p": -0.01}, "p = -0.01.*0 to 1"),
    "p above": ("jda", {"p": 1.01}, "p = 1.01.*0 to 1"),
    "p nan": ("jda", {"p": nan}, "p = nan.*0 to 1"),
    "p bool": ("jda", {"p": True}, "p = True.*0 to 1"),
    "p text": ("jda", {"p": "x"}, "p = 'x'.*0 to 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_named_in_one_sentence(case: str):
    name, options, words = BAD[case]
    for call in (lambda: create_policy(name, **options), lambda: policy_options(name, options)):
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
