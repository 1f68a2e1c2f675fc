"""What is left of an image: means over squares, as an image of their own or repeated, against NumPy."""

import numpy as np
import pytest
import torch

from kdlib.models import create_model
from kdlib.models.network import Network
from kdlib.models.resolution import WHOLE, Resolution


def images(height: int = 8, width: int = 12, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, 3, height, width), generator=draw).to(torch.uint8)


@pytest.mark.parametrize("scale", [2, 4])
def test_pixels_are_rounded_means_over_squares(scale: int):
    x = images()
    found = Resolution(scale)(x)
    squares = x.numpy().astype(np.float64).reshape(3, 3, 8 // scale, scale, 12 // scale, scale)
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), np.round(squares.mean((3, 5))))


@pytest.mark.parametrize("scale", [2, 4])
def test_enlarged_pixels_are_repeated_and_hold_nothing_more(scale: int):
    x = images()
    small, large = Resolution(scale)(x), Resolution(scale, enlarged=True)(x)
    assert torch.equal(large, small.repeat_interleave(scale, 2).repeat_interleave(scale, 3))
    assert torch.equal(Resolution(scale)(large), small)


@pytest.mark.parametrize("seen", [Resolution(2), Resolution(4), Resolution(4, enlarged=True)])
@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_a_constant_stays_constant(seen: Resolution, level: int):
    assert (seen(torch.full((2, 3, 8, 8), level, dtype=torch.uint8)) == level).all()


@pytest.mark.parametrize("scale", [2, 4])
def test_a_checkerboard_of_its_period_becomes_its_mean(scale: int):
    """Fields of half a square: each square holds as many dark pixels as bright ones."""
    rows = torch.arange(16) // (scale // 2) % 2
    board = (254 * (rows[:, None] ^ rows)).to(torch.uint8).expand(1, 3, 16, 16)
    assert {0, 254} == set(board.unique().tolist())
    assert (Resolution(scale, enlarged=True)(board) == 127).all()


def test_where_the_scale_does_not_divide_a_side_all_pixels_count():
    x = images(5, 7)
    found = Resolution(2)(x)
    assert found.shape == (3, 3, 2, 3) and Resolution(2, enlarged=True)(x).shape == x.shape
    for row in range(5):
        for column in range(7):
            changed = x.clone()
            changed[:, :, row, column] = 255 - 255 * (x[:, :, row, column] > 127)
            assert not torch.equal(Resolution(2)(changed), found)


def test_the_whole_image_is_handed_on_as_it_is():
    x = images()
    assert WHOLE(x) is x and Resolution(1, enlarged=True)(x) is x
    assert (WHOLE.shrinks, Resolution(4).shrinks, Resolution(4, enlarged=True).shrinks) == (1, 4, 1)


def test_nothing_left_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="^scale = 4 leaves nothing of images of 9x3 pixels; allowed is at most 3$"):
        Resolution(4)(images(3, 9))


@pytest.mark.parametrize("seen", [Resolution(2), Resolution(2, enlarged=True)])
def test_a_network_reads_what_it_is_given_whoever_asks(seen: Resolution):
    network = Network(create_model("resnet8", 5), (0.5,) * 3, (0.2,) * 3).eval()
    x = images(16, 16)
    expected, whole = network(seen(x)), network(x).logits
    network.resolution = seen
    for asked in (network, network.frozen()):
        torch.testing.assert_close(asked(x).logits, expected.logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(asked.logits(x), expected.logits, rtol=1e-4, atol=1e-5)
    assert (network.logits(x) - whole).abs().max() > 1e-3
