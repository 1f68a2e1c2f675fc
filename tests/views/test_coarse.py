"""Views of fewer details: means over squares against NumPy and against what a student of few pixels is given, and that
nothing else changes."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from kdlib.models.resolution import Resolution
from kdlib.randomness import uniforms
from kdlib.views.coarse import averaged
from kdlib.views.policies import create_policy


def made(tiles: Tensor, name: str, scale: float | None = None, **options) -> Tensor:
    """Views; scale: of all images, the number by which the side of the squares is drawn."""
    policy = create_policy(name, **options)
    draws = {role: uniforms(3, role, 0, len(tiles), n) for role, n in policy.roles.items()}
    if scale is not None:
        draws["scale"] = torch.full_like(draws["scale"], scale)
    return policy(tiles, draws)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [(32, 32), (8, 12), (11, 11), (30, 33)])
def test_it_is_what_a_student_of_few_pixels_is_given(scale: int, size: tuple[int, int]):
    images = torch.randint(0, 256, (5, 3, *size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert torch.equal(averaged(images, scale), Resolution(scale, enlarged=True)(images))


@pytest.mark.parametrize("scale", [2, 4])
def test_each_pixel_is_the_mean_of_its_square(tiles: Tensor, scale: int):
    grid = tiles.numpy().astype(np.float64).reshape(len(tiles), 3, 32 // scale, scale, 32 // scale, scale)
    means = np.round(grid.mean((3, 5)))  # halves to the even level, as torch does
    expected = means.repeat(scale, 2).repeat(scale, 3).astype(np.uint8)
    assert np.array_equal(averaged(tiles, scale).numpy(), expected)


def test_of_a_chequerboard_of_its_own_squares_nothing_is_left():
    board = torch.tensor([[0, 200], [200, 0]], dtype=torch.uint8).repeat(8, 8).expand(1, 3, 16, 16)
    assert (averaged(board, 2) == 100).all() and (averaged(board, 4) == 100).all()
    flat = torch.full((1, 3, 16, 16), 7, dtype=torch.uint8)
    assert all(torch.equal(averaged(flat, scale), flat) for scale in (1, 2, 4))
    assert averaged(torch.tensor([[[[1, 3]]]], dtype=torch.uint8).expand(1, 3, 1, 2), 4).unique() == 2


def test_squares_of_one_pixel_are_weak2_and_jda_bit_for_bit(tiles: Tensor):
    assert torch.equal(made(tiles, "coarse", scales=(1,)), made(tiles, "weak2"))
    assert torch.equal(made(tiles, "coarse", scales=(1,), ops="cifar100"), made(tiles, "jda"))


@pytest.mark.parametrize("ops", [None, "cifar100"])
def test_the_second_view_is_that_of_weak2_or_jda_in_squares_and_the_first_is_plain(tiles: Tensor, ops: str | None):
    plain = made(tiles, "weak2" if ops is None else "jda")
    for k, scale in enumerate((1, 2, 4)):
        views = made(tiles, "coarse", scale=(k + 0.5) / 3, ops=ops)
        assert torch.equal(views[:, 0], plain[:, 0])
        assert torch.equal(views[:, 1], averaged(plain[:, 1], scale))


def test_each_view_has_a_side_of_its_own_and_all_are_as_frequent(tiles: Tensor):
    """A test of counts, error rate 1e-6."""
    policy, count = create_policy("coarse"), 3_000
    noise = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    draws = {role: uniforms(0, role, 0, count, n) for role, n in policy.roles.items()}
    second, plain = policy(noise, draws)[:, 1], create_policy("weak2")(noise, draws)[:, 1]
    fits = torch.stack([(second == averaged(plain, scale)).flatten(1).all(1) for scale in (1, 2, 4)])
    assert fits.any(0).all() and stats.chisquare(fits.sum(1).numpy()).pvalue > 1e-6
    ends = torch.tensor([0.0, 1 - 2**-24])  # the least and the largest number that is drawn
    for end, scale in zip(ends.tolist(), (1, 4), strict=True):
        assert torch.equal(made(tiles, "coarse", scale=end)[:, 1], averaged(made(tiles, "weak2")[:, 1], scale))


def test_views_of_an_image_do_not_depend_on_its_batch_and_both_count_as_different(tiles: Tensor):
    policy, ids = create_policy("coarse", ops="cifar100"), torch.tensor([31, 2, 17])
    draws = {role: uniforms(3, role, 0, len(tiles), n) for role, n in policy.roles.items()}
    few = {role: values[ids] for role, values in draws.items()}
    assert torch.equal(policy(tiles[ids], few), policy(tiles, draws)[ids])
    assert policy.distinct == policy.views == 2 and not policy.mixes and not policy.by_run and not policy.by_batch


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scales": ()}, "scales"),
        ({"scales": (3,)}, "scales.0 = 3 is not allowed"),
        ({"scales": (4, 2)}, r"scales = \[4, 2\] must rise from one to the next"),
        ({"scales": (2, 2)}, r"scales = \[2, 2\] must rise from one to the next"),
        ({"ops": "mine"}, "ops = 'mine' is unknown; allowed are cifar100, cifar10, imagenet, or None"),
        ({"share": 0.5}, "policy 'coarse' has no option 'share'; allowed are scales, ops"),
    ],
)
def test_bad_options_are_named_in_one_sentence(options: dict, words: str):
    with pytest.raises(ValueError, match=words) as caught:
        create_policy("coarse", **options)
    assert "\n" not in str(caught.value)
