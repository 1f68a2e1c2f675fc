"""CutMix: boxes, pasting and shares against torchvision's own class, their distribution, and the policy."""

from unittest import mock

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from kdlib.randomness import uniforms, uniforms_of
from kdlib.views.crops import crop_flip
from kdlib.views.cutmix import boxes, kept, paste
from kdlib.views.policies import POLICIES, create_policy
from kdlib.views.policy import ViewPolicy

RATE = 1e-6  # of false alarms over seeds, of each statistical test as a whole
SIZES = [(32, 32), (7, 3), (24, 40), (1, 1)]


def torchvisions(size: tuple[int, int], lam: float | None = None, centre: tuple[int, int] | None = None) -> dict:
    """Parameters that torchvision's class makes: its own draws, or with this lambda and centre (row, column)."""
    transform, images = v2.CutMix(num_classes=2), [torch.zeros(2, 3, *size)]
    if lam is None:
        return transform.make_params(images)
    column_then_row = iter(centre[::-1])
    transform._dist = mock.Mock(sample=lambda shape: torch.tensor([lam], dtype=torch.float64))
    with mock.patch.object(torch, "randint", lambda high, size: torch.tensor([next(column_then_row)])):
        return transform.make_params(images)


def draws_of(policy: ViewPolicy, count: int, seed: int = 0) -> dict[str, Tensor]:
    return {role: uniforms(seed, role, 0, count, n) for role, n in policy.roles.items()}


@pytest.mark.parametrize("size", SIZES)
def test_boxes_and_shares_are_torchvisions(size: tuple[int, int]):
    draws = uniforms(0, "box", 0, 300, 3).clone()
    draws[0], draws[1], draws[2, 0], draws[3, 0] = 0, 1 - 2**-24, 0, 1 - 2**-24  # the ends of the interval
    found = boxes(draws, *size)
    shares = kept(found, *size)
    for box, share, (lam, row, column) in zip(found.tolist(), shares.tolist(), draws.double().tolist(), strict=True):
        expected = torchvisions(size, lam, (int(row * size[0]), int(column * size[1])))
        left, top, right, bottom = expected["box"]
        assert box == [top, left, bottom, right]
        assert share == pytest.approx(expected["lam_adjusted"], abs=1e-7)


@pytest.mark.parametrize("size", SIZES)
def test_boxes_lie_in_the_image_and_shares_in_the_unit_interval(size: tuple[int, int]):
    found = boxes(uniforms(1, "box", 0, 5_000, 3), *size)
    top, left, bottom, right = found.unbind(1)
    assert ((top >= 0) & (top <= bottom) & (bottom <= size[0])).all()
    assert ((left >= 0) & (left <= right) & (right <= size[1])).all()
    shares = kept(found, *size)
    assert shares.dtype == torch.float32 and shares.shape == (5_000,)
    assert shares.min() >= 0 and shares.max() <= 1


@pytest.mark.parametrize("size", SIZES)
def test_the_share_is_the_counted_share_of_pixels(size: tuple[int, int]):
    found = boxes(uniforms(2, "box", 0, 1_000, 3), *size)
    own, other = (torch.full((1_000, 3, *size), value, dtype=torch.uint8) for value in (1, 0))
    counted = paste(own, other, found).double().mean((1, 2, 3))
    assert torch.allclose(counted, kept(found, *size).double(), rtol=0, atol=1e-7)


def test_pasting_is_torchvisions(tiles: Tensor):
    """torchvision pastes the image before in the batch, and one box for the whole batch."""
    found, labels = boxes(uniforms(3, "box", 0, 40, 3), 32, 32), torch.zeros(40)
    result = paste(tiles, tiles.roll(1, 0), found)
    assert result.dtype == torch.uint8
    for k, (top, left, bottom, right) in enumerate(found.tolist()):
        params = {"box": (left, top, right, bottom), "labels": labels, "batch_size": 40}
        assert torch.equal(result[k], v2.CutMix(num_classes=2).transform(tiles, params)[k])


def test_lambda_is_uniform():
    """Kolmogorov-Smirnov test of the share kept by boxes about the middle of an image so large that neither the border
    nor whole pixels matter; error rate 1e-6."""
    draws = uniforms(4, "box", 0, 20_000, 3).clone()
    draws[:, 1:] = 0.5
    assert stats.kstest(kept(boxes(draws, 100_000, 100_000), 100_000, 100_000).numpy(), "uniform").pvalue > RATE


def test_centres_are_uniform_over_the_pixels():
    """Chi-square over the 5 x 7 pixels that empty boxes (lambda near 1) lie at; error rate 1e-6."""
    draws = uniforms(5, "box", 0, 20_000, 3).clone()
    draws[:, 0] = 1 - 2**-24
    top, left, bottom, right = boxes(draws, 5, 7).unbind(1)
    assert torch.equal(top, bottom) and torch.equal(left, right)
    cells = torch.bincount(top * 7 + left, minlength=35)
    assert len(cells) == 35
    assert stats.chisquare(cells.numpy()).pvalue > RATE


def test_shares_are_distributed_as_torchvisions():
    """Two-sample Kolmogorov-Smirnov test against torchvision's own draws (ties make it conservative); error rate at
    most 1e-6."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = [torchvisions((32, 32))["lam_adjusted"] for _ in range(4_000)]
    ours = kept(boxes(uniforms(6, "box", 0, 20_000, 3), 32, 32), 32, 32).numpy()
    assert stats.ks_2samp(ours, theirs).pvalue > RATE


# --- the policy


def test_views_are_a_crop_and_a_mixed_crop(tiles: Tensor):
    policy, partners = create_policy("cutmix"), tiles.roll(7, 0)
    draws, before = draws_of(policy, 40), tiles.clone()
    views = policy(tiles, draws, partners)
    plain = create_policy("weak2")(tiles, draws)
    other = crop_flip(partners, draws["partner crop"])
    assert views.shape == (40, 2, 3, 32, 32) and views.dtype == torch.uint8
    assert torch.equal(views[:, 0], plain[:, 0])
    for k, (top, left, bottom, right) in enumerate(boxes(draws["box"], 32, 32).tolist()):
        expected = plain[k, 1].clone()
        expected[:, top:bottom, left:right] = other[k, :, top:bottom, left:right]
        assert torch.equal(views[k, 1], expected)
    assert torch.equal(tiles, before) and torch.equal(partners, tiles.roll(7, 0))


def test_shares_of_the_views_are_counted_in_the_pixels():
    policy = create_policy("cutmix")
    draws = draws_of(policy, 500)
    for role in ("augmented crop", "partner crop"):  # no padding in sight, which is black in both images
        draws[role] = draws[role].clone()
        draws[role][:, :2] = 0.5
    own, other = (torch.full((500, 3, 32, 32), value, dtype=torch.uint8) for value in (1, 0))
    shares = policy.shares(draws, 32, 32)
    assert shares.shape == (500, 2) and shares.dtype == torch.float32
    assert (shares[:, 0] == 1).all()
    assert torch.equal(shares[:, 1], policy(own, draws, other)[:, 1].float().mean((1, 2, 3)))
    assert 0.5 < shares[:, 1].mean() < 1


def test_mixed_views_do_not_depend_on_the_batch(tiles: Tensor):
    policy, ids, partners = create_policy("cutmix"), torch.tensor([31, 2, 17]), tiles.flip(0)
    few = {r: uniforms_of(0, r, torch.zeros(3, dtype=torch.int64), ids, 40, n) for r, n in policy.roles.items()}
    views = policy(tiles, draws_of(policy, 40), partners)
    assert torch.equal(policy(tiles[ids], few, partners[ids]), views[ids])
    assert torch.equal(policy.shares(few, 32, 32), policy.shares(draws_of(policy, 40), 32, 32)[ids])


def test_only_cutmix_and_what_chooses_it_mix_and_take_partners(tiles: Tensor):
    for name in POLICIES:
        policy = create_policy(name)
        draws = draws_of(policy, 40)
        assert policy.mixes == (name in ("cutmix", "he_da"))
        if policy.mixes:
            assert policy.roles["partner"] == 1
            with pytest.raises(ValueError, match=f"^partners of policy '{name}' are missing; it mixes"):
                policy(tiles, draws)
            with pytest.raises(ValueError, match=r"^partners have shape \[39, 3, 32, 32\]; .*\[40, 3, 32, 32\]$"):
                policy(tiles, draws, tiles[:39])
        else:
            assert policy.shares(draws, 32, 32) is None
            with pytest.raises(ValueError, match=f"^partners of policy '{name}' are given; it .* takes none$"):
                policy(tiles, draws, tiles)
