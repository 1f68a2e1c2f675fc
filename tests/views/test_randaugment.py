"""RandAugment: ops, magnitudes, signs and order against torchvision's own class, and the randomness of the draws."""

from unittest import mock

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from kdlib.randomness import uniforms
from kdlib.views.randaugment import RAND_OPS, RandAugment, randaugment

RATE = 1e-6  # of false alarms over seeds, of each statistical test as a whole
SPACE = v2.RandAugment._AUGMENTATION_SPACE


def torchvisions(image: Tensor, magnitude: int, plan: list[tuple[int, bool]]) -> Tensor:
    """torchvision's class on one image [3, H, W], its draws replaced by a plan of (op, is the sign positive)."""
    turns, current = iter(plan), {}

    def randint(high: int, size: tuple) -> Tensor:
        index, current["positive"] = next(turns)
        assert (high, size) == (len(SPACE), ())
        return torch.tensor(index)

    def rand(size: tuple) -> Tensor:
        return torch.tensor(0.9 if current["positive"] else 0.1)  # torchvision turns the sign up to 0.5

    with mock.patch.object(torch, "randint", randint), mock.patch.object(torch, "rand", rand):
        return v2.RandAugment(num_ops=len(plan), magnitude=magnitude)(image)


def draws_for(plans: list[list[tuple[int, bool]]]) -> Tensor:
    """float32 [B, 2 * num_ops]: uniforms that lead to these plans."""
    plan = torch.tensor(plans, dtype=torch.float64)  # [B, num_ops, 2]
    return torch.cat([(plan[..., 0] + 0.5) / len(SPACE), 0.75 - plan[..., 1] / 2], 1).float()


def test_ops_are_torchvisions_in_its_order():
    assert [name.lower() for name in RAND_OPS] == [name.lower() for name in SPACE]
    assert [op.signed for op in RAND_OPS.values()] == [signed for _, signed in SPACE.values()]
    assert len(RAND_OPS) == 14


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("index", range(14))
def test_each_op_and_sign_equals_torchvision_bit_by_bit(tiles: Tensor, index: int, positive: bool):
    for magnitude in (0, 1, 5, 14, 23, 30):
        for images in (tiles[10:30:4], tiles[10:30:4, :, :24]):
            plan = [(index, positive)]
            result = RandAugment(1, magnitude)(images, draws_for([plan] * len(images)))
            expected = torch.stack([torchvisions(image, magnitude, plan) for image in images])
            assert result.dtype == torch.uint8 and torch.equal(result, expected), magnitude


def test_signs_show_in_the_pixels(tiles: Tensor):
    """The two signs of every signed op, and only of those, differ at magnitude 5."""
    for index, op in enumerate(RAND_OPS.values()):
        plus, minus = (RandAugment(1, 5)(tiles, draws_for([[(index, s)]] * len(tiles))) for s in (True, False))
        assert torch.equal(plus, minus) != op.signed


@pytest.mark.parametrize(("num_ops", "magnitude"), [(1, 9), (3, 5), (5, 30)])
def test_a_batch_equals_torchvision_image_by_image(tiles: Tensor, num_ops: int, magnitude: int):
    images, before = tiles.repeat(3, 1, 1, 1), tiles.clone()
    transform = randaugment(num_ops, magnitude)
    draws = uniforms(0, "augmented ops", 0, len(images), transform.draws)
    result = transform(images, draws)
    for image, row, view in zip(images, draws.double().numpy(), result, strict=True):
        plan = [(int(np.floor(14 * row[k])), bool(row[num_ops + k] < 0.5)) for k in range(num_ops)]
        assert torch.equal(view, torchvisions(image, magnitude, plan))
    result.zero_()
    assert torch.equal(tiles, before)


def test_ops_and_signs_are_uniform_and_rounds_independent():
    """Chi-square of (op, sign) over 28 cells in each of three rounds, and of the ops of each pair of rounds; error rate
    1e-6 in all."""
    transform, count = randaugment(), 50_000
    drawn, positive = transform.drawn(uniforms(1, "augmented ops", 3, count, transform.draws))
    for turn in range(3):
        cells = torch.bincount(2 * drawn[:, turn] + positive[:, turn], minlength=28)
        assert len(cells) == 28
        assert stats.chisquare(cells.numpy()).pvalue > RATE / 6
    for one, other in ((0, 1), (0, 2), (1, 2)):
        table = torch.bincount(14 * drawn[:, one] + drawn[:, other], minlength=196).view(14, 14)
        assert stats.chi2_contingency(table.numpy(), correction=False).pvalue > RATE / 6


def test_the_ends_of_the_uniforms_are_the_first_and_the_last_op():
    drawn, positive = randaugment(2).drawn(torch.tensor([[0.0, 1 - 2**-24, 0.0, 1 - 2**-24]]))
    assert (drawn.tolist(), positive.tolist()) == ([[0, 13]], [[True, False]])


def test_batches_torchs_generator_and_devices_play_no_part(tiles: Tensor):
    transform = randaugment()
    draws, state = uniforms(0, "augmented ops", 0, len(tiles), transform.draws), torch.get_rng_state()
    batch = transform(tiles, draws)
    assert torch.equal(torch.get_rng_state(), state)
    order = torch.randperm(len(tiles), generator=torch.Generator().manual_seed(0))
    assert torch.equal(transform(tiles[order], draws[order]), batch[order])
    single = [transform(tiles[i : i + 1], draws[i : i + 1]) for i in range(len(tiles))]
    assert torch.equal(torch.cat(single), batch)
    assert transform(tiles[:0], draws[:0]).shape == (0, 3, 32, 32)
    everything = draws_for([[(index, sign)] for index in range(14) for sign in (True, False)])
    meta = torch.empty(28, 3, 32, 32, dtype=torch.uint8, device="meta")  # mixing with the CPU would raise
    assert RandAugment(1, 5)(meta, everything).device.type == "meta"


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        ("num_ops", (0, 15, -1, 3.0, True, None, "3"), "1 to 14"),
        ("magnitude", (-1, 31, 5.0, False, None, "5"), "0 to 30"),
    ],
)
def test_bad_fields_are_named(name: str, values: tuple, allowed: str):
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} = {value!r} is not allowed; .* {allowed}$"):
            randaugment(**{name: value})
