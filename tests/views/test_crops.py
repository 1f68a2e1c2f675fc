"""Crops and flips against a slow reference, and their distribution. Turned crops: tests/views/test_spread.py."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from kdlib.randomness import uniforms
from kdlib.views.crops import crop_flip, quarter_turns
from kdlib.views.policies import create_policy

RATE = 1e-6  # of false alarms, of each statistical test as a whole


def crops_of(views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(row offset 0..8, column offset 0..8, flipped) that views [B, 3, 32, 32] of `ramps` went through."""
    pixel, right = views[:, :, 16, 16].long(), views[:, :, 16, 17].long()
    flipped = right[:, 1] < pixel[:, 1]
    columns = torch.where(flipped, pixel[:, 1] - 1 - 15 + 4, pixel[:, 1] - 1 - 16 + 4)
    return pixel[:, 0] - 1 - 16 + 4, columns, flipped


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


def test_crops_are_uniform_and_flips_are_fair(ramps: Tensor):
    """Chi-square over the 9 x 9 x 2 crops, error rate 1e-6."""
    count = 12_000
    rows, columns, flipped = crops_of(crop_flip(ramps, uniforms(0, "original crop", 0, count, 3)))
    cells = torch.bincount((rows * 9 + columns) * 2 + flipped, minlength=162)
    assert len(cells) == 162
    assert stats.chisquare(cells.numpy()).pvalue > RATE


@pytest.mark.parametrize("name", ["weak2", "jda"])
def test_the_two_views_have_independent_crops(ramps: Tensor, name: str):
    """Chi-square tests of the pairs of (row, column, flip) of the two views; error rate 1e-6 in all."""
    count = 12_000
    policy = create_policy(name, **({"p": 0.0} if name == "jda" else {}))
    views = policy(ramps, {role: uniforms(0, role, 0, count, n) for role, n in policy.roles.items()})
    first, second = crops_of(views[:, 0]), crops_of(views[:, 1])
    assert not torch.equal(views[:, 0], views[:, 1])
    for a in first:
        for b in second:
            table = stats.contingency.crosstab(a.numpy(), b.numpy()).count
            assert stats.chi2_contingency(table, correction=False).pvalue > RATE / 9


def test_quarter_turns_are_numpys_and_need_squares(tiles: Tensor):
    for turns, turned in enumerate(quarter_turns(tiles)):
        assert np.array_equal(turned.numpy(), np.rot90(tiles.numpy(), turns, (2, 3)))
    with pytest.raises(ValueError, match="^images of 32 x 24 pixels cannot be turned by 90 degrees; .*square"):
        quarter_turns(tiles[..., :24])
