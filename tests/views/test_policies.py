"""View policies: which views they make, of which draws, and their options. Each statistical test states the
probability, over seeds, that a correct program fails it."""

from collections.abc import Mapping
from math import nan

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from kdlib.randomness import uniforms, uniforms_of
from kdlib.views.crops import crop_flip
from kdlib.views.jda import JDA_LISTS, jda
from kdlib.views.orientations import SPREADS, spread
from kdlib.views.policies import POLICIES, create_policy, policy_options, smallest
from kdlib.views.policy import ViewPolicy, resized
from kdlib.views.randaugment import randaugment

RATE = 1e-6  # of false alarms, of each statistical test as a whole
VIEWS = {
    "weak1": 1, "weak2": 2, "twin": 2, "jda": 2, "rot2": 2, "rot4": 4, "randaugment": 2, "cutout": 2, "crld": 2,
    "coarse": 2, "cutmix": 2, "share": 2, "he_da": 2, "attention_crop": 2, "attention_drop": 2,
}  # fmt: skip


def draws_of(policy: ViewPolicy, count: int, seed: int = 0, epoch: int = 0) -> dict[str, Tensor]:
    return {role: uniforms(seed, role, epoch, count, n) for role, n in policy.roles.items()}


def make(name: str, images: Tensor, seed: int = 0, **options) -> Tensor:
    policy = create_policy(name, **options)
    partners = images.roll(1, 0) if policy.mixes else None
    return policy(images, draws_of(policy, len(images), seed), partners)


# --- JDA


def test_weak2_is_jda_at_p_zero_bit_for_bit(tiles: Tensor):
    for ops in JDA_LISTS:
        assert torch.equal(make("weak2", tiles, seed=4), make("jda", tiles, seed=4, ops=ops, p=0.0))


def test_jda_view_is_the_crop_of_the_transformed_image(tiles: Tensor):
    policy = create_policy("jda", p=0.7)
    draws = draws_of(policy, len(tiles))
    changed = jda(p=0.7)(tiles, draws["augmented ops"])
    assert torch.equal(policy(tiles, draws)[:, 1], crop_flip(changed, draws["augmented crop"]))


def test_policies_of_one_seed_share_the_original_crops(tiles: Tensor):
    originals = [make(name, tiles, seed=9, **({"share": 0} if name == "share" else {}))[:, 0] for name in POLICIES]
    assert all(torch.equal(originals[0], other) for other in originals[1:])
    assert not torch.equal(originals[0], make("weak1", tiles, seed=10)[:, 0])


@pytest.mark.parametrize("name", ["jda", "cutout", "crld", "coarse"])
def test_views_of_an_image_do_not_depend_on_its_batch(tiles: Tensor, name: str):
    policy, ids = create_policy(name), torch.tensor([31, 2, 17])
    few = {r: uniforms_of(0, r, torch.zeros(3, dtype=torch.int64), ids, len(tiles), n) for r, n in policy.roles.items()}
    assert torch.equal(policy(tiles[ids], few), make(name, tiles)[ids])


# --- RandAugment


def test_randaugment_view_is_the_crop_of_the_transformed_image(tiles: Tensor):
    policy = create_policy("randaugment", num_ops=2, magnitude=9)
    draws = draws_of(policy, len(tiles))
    views = policy(tiles, draws)
    changed = randaugment(2, 9)(tiles, draws["augmented ops"])
    assert torch.equal(views[:, 1], crop_flip(changed, draws["augmented crop"]))
    assert torch.equal(views[:, 0], make("weak2", tiles)[:, 0])


# --- an exact share of augmented views


def test_share_zero_is_weak2_bit_for_bit(tiles: Tensor):
    assert torch.equal(make("share", tiles, seed=4, share=0), make("weak2", tiles, seed=4))


def test_share_one_augments_both_views_on_their_own(tiles: Tensor):
    policy = create_policy("share", p=0.7, share=1)
    draws = draws_of(policy, len(tiles))
    views = policy(tiles, draws)
    assert torch.equal(views[:, 1], make("jda", tiles, p=0.7)[:, 1])
    changed = jda(p=0.7)(tiles, draws["original ops"])
    assert torch.equal(views[:, 0], crop_flip(changed, draws["original crop"]))
    assert not torch.equal(draws["original ops"], draws["augmented ops"])


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_exactly_the_share_of_a_batchs_views_is_augmented(tiles: Tensor, count: int):
    """At p = 1 every op fires and no tile stays what it was, so augmented views show; those of a smaller share stay."""
    plain, all_augmented = make("weak2", tiles), make("share", tiles, p=1, share=1)
    assert (plain != all_augmented).flatten(2).any(2).all()
    draws, previous = draws_of(create_policy("share"), len(tiles)), torch.zeros(count, 2, dtype=torch.bool)
    batch = {role: table[:count] for role, table in draws.items()}
    for share in (0, 0.1, 0.25, 0.5, 0.55, 0.9, 1):
        views = create_policy("share", p=1, share=share)(tiles[:count], batch)
        augmented = (views == all_augmented[:count]).flatten(2).all(2)
        untouched = (views == plain[:count]).flatten(2).all(2)
        assert torch.equal(augmented, ~untouched)
        assert int(augmented.sum()) == round(share * 2 * count)
        order = np.argsort(batch["augmented share"].numpy().ravel(), kind="stable")
        assert set(order[: int(augmented.sum())]) == set(np.flatnonzero(augmented.numpy()))
        assert (augmented | ~previous).all()
        previous = augmented


def test_of_equal_uniforms_the_first_are_taken():
    tied = torch.tensor([[0.5, 0.25], [0.5, 0.5], [0.25, 0.75]])
    expected = {0: "000000", 1 / 6: "010000", 0.5: "110010", 4 / 6: "111010", 1: "111111"}
    for share, bits in expected.items():
        assert "".join(str(int(bit)) for bit in smallest(tied, share).flatten()) == bits


def test_first_and_second_views_are_augmented_alike_and_independently():
    """A hypergeometric test of the number of first views among half of all views, and of the images with both views
    augmented given that number; error rate 1e-6 in all."""
    count = 20_000
    chosen = smallest(uniforms(2, "augmented share", 0, count, 2), 0.5)
    first, second, both = int(chosen[:, 0].sum()), int(chosen[:, 1].sum()), int(chosen.all(1).sum())
    for law, value in ((stats.hypergeom(2 * count, count, count), first),
                       (stats.hypergeom(count, first, second), both)):  # fmt: skip
        assert 2 * min(law.cdf(value), law.sf(value - 1)) > RATE / 2


# --- twin, cutout


def test_twin_is_one_crop_twice(tiles: Tensor):
    views = make("twin", tiles, seed=4)
    assert torch.equal(views[:, 0], make("weak1", tiles, seed=4)[:, 0])
    assert torch.equal(views[:, 1], views[:, 0])
    assert create_policy("twin").roles == create_policy("weak1").roles
    assert create_policy("twin").distinct == 1 and create_policy("weak2").distinct == 2
    assert spread(create_policy("twin"), "turns").distinct == spread(create_policy("weak1"), "turns").distinct == 4


@pytest.mark.parametrize("side", [32, 33, 24])
def test_cutout_is_the_square_of_devries_and_taylor(tiles: Tensor, side: int):
    """mask[clip(y - s/2) : clip(y + s/2), clip(x - s/2) : clip(x + s/2)] = 0 about a pixel (y, x), s half the side."""
    policy, images = create_policy("cutout"), torch.nn.functional.interpolate(tiles, (side, side))
    draws = draws_of(policy, len(tiles), seed=5)
    draws["cutout"] = draws["cutout"].clone()
    draws["cutout"][:2] = torch.tensor([[0, 1 - 2**-24], [1 - 2**-24, 0]])  # corners
    views, plain = policy(images, draws), create_policy("weak2")(images, draws)
    assert torch.equal(views[:, 0], plain[:, 0])
    for k, centre in enumerate(draws["cutout"].double().numpy()):
        y, x = (int(u * side) for u in centre)
        half = side // 4
        expected = plain[k, 1].numpy().copy()
        expected[:, max(0, y - half) : min(side, y + half), max(0, x - half) : min(side, x + half)] = 0
        assert np.array_equal(views[k, 1].numpy(), expected)
    assert draws["cutout"].shape == (len(tiles), 2)


def test_centres_of_cutout_are_uniform_over_the_pixels():
    """Rows and columns are told from where the square begins and ends, in white crops from the middle of the frame;
    chi-square over 32 of each, error rate 1e-6 in all."""
    policy, count = create_policy("cutout"), 8_000
    draws = draws_of(policy, count, seed=6)
    draws["augmented crop"] = torch.full((count, 3), 0.5)
    black = policy(torch.full((count, 3, 32, 32), 255, dtype=torch.uint8), draws)[:, 1, 0] == 0
    for axis in (1, 2):
        inside = black.any(3 - axis).int()
        first, last = inside.argmax(1), 31 - inside.flip(1).argmax(1)
        centres = torch.where(first > 0, first + 8, last - 7)
        assert (inside.sum(1) == torch.minimum(centres + 8, torch.tensor(32)) - (centres - 8).clamp(min=0)).all()
        assert stats.chisquare(centres.bincount(minlength=32).numpy()).pvalue > RATE / 2


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


@pytest.mark.parametrize(("name", "count"), VIEWS.items())
def test_shape_and_interleaving(tiles: Tensor, name: str, count: int):
    policy, before = create_policy(name), tiles.clone()
    views = make(name, tiles)
    assert set(VIEWS) == set(POLICIES)
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
    images = torch.empty(8, 3, 32, 32, dtype=torch.uint8, device="meta")
    views = policy(images, draws_of(policy, 8), images if policy.mixes else None)
    assert views.device.type == "meta" and views.shape == (8, policy.views, 3, 32, 32)


def test_options_are_written_out_with_the_lists_own_p():
    for ops, (p, *_) in JDA_LISTS.items():
        assert policy_options("jda", {"ops": ops}).model_dump() == {"ops": ops, "p": p}
        assert policy_options("jda", {"ops": ops, "p": None}).model_dump() == {"ops": ops, "p": p}
    assert policy_options("jda", {}).model_dump() == {"ops": "cifar100", "p": 0.3}
    assert policy_options("jda", {"p": 1}).model_dump() == {"ops": "cifar100", "p": 1.0}
    assert isinstance(policy_options("jda", {"p": 1}).model_dump()["p"], float)
    assert all(
        policy_options(name, {}).model_dump() == {}
        for name in ("weak1", "weak2", "twin", "rot2", "rot4", "cutout", "crld", "cutmix")
    )


def test_options_of_the_other_policies_are_written_out():
    assert policy_options("randaugment", {}).model_dump() == {"num_ops": 3, "magnitude": 5}
    assert policy_options("randaugment", {"magnitude": 9}).model_dump() == {"num_ops": 3, "magnitude": 9}
    assert policy_options("share", {}).model_dump() == {"ops": "cifar100", "p": 0.3, "share": 0.5}
    assert policy_options("coarse", {}).model_dump() == {"scales": (1, 2, 4), "ops": None}
    assert policy_options("he_da", {}).model_dump() == {"view": "cutmix", "share": 0.5, "by": "highest"}
    for share in (1, -0.0):
        options = policy_options("share", {"ops": "cifar10", "share": share}).model_dump()
        assert options == {"ops": "cifar10", "p": 0.5, "share": share}
        assert str(options["share"]) == str(abs(float(share)))


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
    "p of share": ("share", {"p": 2}, "p = 2.*0 to 1"),
    "share below": ("share", {"share": -0.01}, "share = -0.01.*0 to 1"),
    "share above": ("share", {"share": 1.01}, "share = 1.01.*0 to 1"),
    "share nan": ("share", {"share": nan}, "share = nan.*0 to 1"),
    "share bool": ("share", {"share": True}, "share = True.*0 to 1"),
    "share None": ("share", {"share": None}, "share = None.*0 to 1"),
    "num_ops": ("randaugment", {"num_ops": 0}, "num_ops = 0.*1 to 14"),
    "magnitude": ("randaugment", {"magnitude": 31}, "magnitude = 31.*0 to 30"),
    "option of randaugment": ("randaugment", {"p": 1}, "'randaugment' has no option 'p'.*num_ops, magnitude"),
    "option of cutout": ("cutout", {"length": 16}, "'cutout' has no option 'length'.*none"),
    "option of crld": ("crld", {"num_ops": 3}, "'crld' has no option 'num_ops'.*none"),
    "share of he_da": ("he_da", {"share": 1.5}, "share = 1.5 is not a share.*0 to 1"),
    "by": ("he_da", {"by": "energy"}, "by = 'energy' .*'highest', 'lowest' or 'random'"),
    "view": ("he_da", {"view": "rot4"}, "view = 'rot4' .*'cutmix' or 'jda'"),
    "option of cutmix": ("cutmix", {"alpha": 1}, "'cutmix' has no option 'alpha'.*none"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_named_in_one_sentence(case: str):
    name, options, words = BAD[case]
    for call in (lambda: create_policy(name, **options), lambda: policy_options(name, options)):
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


# --- in steady shapes, for a graph of a GPU

STEADY = ("weak1", "weak2", "twin", "jda", "rot2", "rot4")


@pytest.mark.parametrize("kind", SPREADS)
@pytest.mark.parametrize("name", STEADY)
def test_in_steady_shapes_views_are_the_same(tiles: Tensor, name: str, kind: str):
    policy = create_policy(name)
    policy = spread(policy, kind) if kind == "none" or policy.spreadable else policy
    draws = draws_of(policy, len(tiles), seed=6)
    assert torch.equal(policy.in_steady_shapes()(tiles, draws), policy(tiles, draws))


OTHERS = [*(create_policy(name) for name in POLICIES if name not in STEADY), resized(create_policy("jda"), 24)]


@pytest.mark.parametrize("policy", OTHERS, ids=lambda policy: policy.name)
def test_other_policies_have_no_such_form(policy: ViewPolicy):
    with pytest.raises(ValueError, match=f"^policy '{policy.name}' makes views in shapes that depend") as caught:
        policy.in_steady_shapes()
    assert "\n" not in str(caught.value)
