"""The strong view of CRLD against PIL, image by image, and the randomness of its draws. Each statistical test states
the probability, over seeds, that a correct program fails it."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from scipy import stats
from torch import Tensor

from kdlib.randomness import uniforms
from kdlib.views.policies import create_policy
from kdlib.views.strong import GREY, STRONG_OPS, drawn_ops, grey_square, random_ops, squares

RATE = 1e-6  # of false alarms, of each statistical test as a whole
NAMES = list(STRONG_OPS)
LAST = 1 - 2**-24  # the largest uniform
#: Op -> the value at the uniforms 0 and 1, of those that take a value.
RANGES = {
    "brightness": (0.05, 0.95), "color": (0.05, 0.95), "contrast": (0.05, 0.95), "sharpness": (0.05, 0.95),
    "posterize": (4, 8), "solarize": (0, 256), "rotate": (-30, 30), "shearX": (-0.3, 0.3), "shearY": (-0.3, 0.3),
    "translateX": (-0.3, 0.3), "translateY": (-0.3, 0.3),
}  # fmt: skip


def pil_op(name: str, image: Image.Image, uniform: float) -> Image.Image:
    """The reference: one op written with PIL alone."""
    low, high = RANGES.get(name, (0, 0))
    value = low + (high - low) * uniform
    moves = {
        "shearX": (1, value, 0, 0, 1, 0), "shearY": (1, 0, 0, value, 1, 0),
        "translateX": (1, 0, value * image.width, 0, 1, 0), "translateY": (1, 0, 0, 0, 1, value * image.height),
    }  # fmt: skip
    match name:
        case "identity":
            return image
        case "autocontrast" | "equalize":
            return getattr(ImageOps, name)(image)
        case "posterize" | "solarize":
            return getattr(ImageOps, name)(image, int(value) if name == "posterize" else value)
        case "rotate":
            return image.rotate(value)
        case "brightness" | "color" | "contrast" | "sharpness":
            return getattr(ImageEnhance, name.capitalize())(image).enhance(value)
    return image.transform(image.size, Image.Transform.AFFINE, moves[name])


def picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).transpose(2, 0, 1).astype(int)


def noise(count: int) -> Tensor:
    """uint8 [count, 3, 32, 32], of which some are flat or of two levels."""
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[::7], images[3::7] = images[::7, :, :1, :1], images[3::7] // 128 * 255
    return images


def leading_to(name: str, magnitudes: Tensor) -> Tensor:
    """float32 [B, 4]: uniforms of an op at magnitudes [B], and then of the identity."""
    index = torch.tensor([NAMES.index(name), NAMES.index("identity")])
    chosen = ((index + 0.5) / 14).expand(len(magnitudes), 2)
    return torch.cat([chosen, magnitudes[:, None], torch.full((len(magnitudes), 1), 0.5)], 1).float()


def test_the_list_has_fourteen_ops():
    assert set(NAMES) == set(RANGES) | {"autocontrast", "equalize", "identity"} and len(NAMES) == 14
    for name, op in STRONG_OPS.items():
        assert (op.low, op.high) == RANGES.get(name, (0, 0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(32, 32), (32, 24), (21, 33)])
def test_each_op_is_pils_at_every_magnitude(tiles: Tensor, name: str, size: tuple[int, int]):
    """Autocontrast may differ by one grey level, as that of JDA does; the others not at all."""
    images = torch.cat([tiles, noise(40)])[..., : size[0], : size[1]]
    images = torch.nn.functional.pad(images, (0, size[1] - images.shape[3]), value=77)
    magnitudes = torch.rand(len(images), generator=torch.Generator().manual_seed(1))
    magnitudes[:3] = torch.tensor([0.0, 0.5, LAST])
    before = images.clone()
    found = random_ops(images, leading_to(name, magnitudes))
    assert found.dtype == torch.uint8 and torch.equal(images, before)
    for image, magnitude, view in zip(images, magnitudes.double().tolist(), found, strict=True):
        expected = levels(pil_op(name, picture(image), magnitude))
        assert np.abs(view.numpy().astype(int) - expected).max() <= (name == "autocontrast"), magnitude


def test_what_enhances_never_goes_up(tiles: Tensor):
    for name, measure in (
        ("brightness", lambda x: x.float().mean((1, 2, 3))),
        ("contrast", lambda x: x.float().std((1, 2, 3))),
        ("color", lambda x: x.float().std(1).mean((1, 2))),
        ("sharpness", lambda x: x.float().diff(dim=3).abs().mean((1, 2, 3))),
    ):
        for magnitude in (0.0, 0.5, LAST):
            made = random_ops(tiles, leading_to(name, torch.full((len(tiles),), magnitude)))
            assert (measure(made) <= measure(tiles) + 1e-3).all(), name


def slow_view(crop: Tensor, ops: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Two ops and a square on one crop, by PIL."""
    image = picture(crop)
    for turn in (0, 1):
        image = pil_op(NAMES[int(ops[turn] * 14)], image, ops[2 + turn])
    side, (row, column) = 0.5 * image.width * square[0], square[1:] * (image.height, image.width)
    top, left = (max(0, int(np.floor(centre - side / 2))) for centre in (row, column))
    bottom = min(image.height, int(np.floor(row + side / 2)))
    right = min(image.width, int(np.floor(column + side / 2)))
    if bottom > top and right > left:
        ImageDraw.Draw(image := image.copy()).rectangle((left, top, right - 1, bottom - 1), GREY)
    return levels(image)


def draws_of(count: int, seed: int = 0) -> dict[str, Tensor]:
    return {role: uniforms(seed, role, 0, count, n) for role, n in create_policy("crld").roles.items()}


def test_the_view_is_a_plain_crop_after_two_ops_and_with_a_square(tiles: Tensor):
    images = tiles.repeat(10, 1, 1, 1)
    draws, plain = draws_of(len(images)), create_policy("weak2")
    views, crops = create_policy("crld")(images, draws), plain(images, draws)
    assert torch.equal(views[:, 0], crops[:, 0])
    rows = draws["strong ops"].double().numpy(), draws["square"].double().numpy()
    autocontrast = NAMES.index("autocontrast")
    for view, crop, ops, square in zip(views[:, 1], crops[:, 1], *rows, strict=True):
        distance = np.abs(view.numpy().astype(int) - slow_view(crop, ops, square)).max()
        # One grey level that autocontrast differs by can grow in the op that follows.
        assert distance == 0 or autocontrast in (ops[:2] * 14).astype(int)


def test_torchs_generator_plays_no_part_and_a_batch_may_be_empty(tiles: Tensor):
    policy, state, draws = create_policy("crld"), torch.get_rng_state(), draws_of(len(tiles))
    assert torch.equal(policy(tiles, draws), policy(tiles, draws))
    assert torch.equal(torch.get_rng_state(), state)
    assert policy(tiles[:0], {role: rows[:0] for role, rows in draws.items()}).shape == (0, 2, 3, 32, 32)


def test_ops_are_uniform_and_drawn_with_repetition_and_magnitudes_uniform():
    """Chi-square of the 196 pairs of ops; Kolmogorov-Smirnov of both magnitudes, and of those of one op; error rate
    1e-6 in all."""
    count = 50_000
    table = uniforms(1, "strong ops", 3, count, 4)
    drawn = drawn_ops(table)
    pairs = torch.bincount(14 * drawn[:, 0] + drawn[:, 1], minlength=196)
    assert len(pairs) == 196 and stats.chisquare(pairs.numpy()).pvalue > RATE / 4
    for column in (2, 3):
        assert stats.kstest(table[:, column].numpy(), "uniform").pvalue > RATE / 4
    of_one = table[drawn[:, 0] == NAMES.index("rotate"), 2]
    assert stats.kstest(of_one.numpy(), "uniform").pvalue > RATE / 4


def test_the_ends_of_the_uniforms_are_the_first_and_the_last_op():
    assert drawn_ops(torch.tensor([[0.0, LAST, 0.0, LAST]])).tolist() == [[0, 13]]


def test_magnitudes_show_in_the_pixels_as_uniform():
    """Of a white image brightness leaves the grey level 255 factor, rounded down: chi-square over groups of eight
    levels; and a row of pixels shows a shift in whole pixels: chi-square over shifts of -10 to 10; error rate 1e-6 in
    all."""
    count = 9_000
    table = leading_to("brightness", torch.rand(count, generator=torch.Generator().manual_seed(4)))
    grey = random_ops(torch.full((count, 3, 4, 4), 255, dtype=torch.uint8), table)[:, 0, 0, 0]
    share = np.diff(np.clip(np.arange(257) / 255, 0.05, 0.95)) / 0.9
    ramp = torch.arange(1, 33, dtype=torch.uint8).expand(count, 3, 2, 32)
    moved = random_ops(ramp, leading_to("translateX", table[:, 2]))
    shifts = moved[:, 0, 0, 16].long() - 17  # a pixel in the middle never leaves the image
    for observed, expected in (
        (grey.long().bincount(minlength=256).view(32, 8).sum(1), share.reshape(32, 8).sum(1)),
        ((shifts + 10).bincount(minlength=21), np.diff(np.clip(np.arange(-10.5, 11), -9.6, 9.6)) / 19.2),
    ):
        possible = expected > 0
        assert observed.sum() == observed[possible].sum() == count
        assert stats.chisquare(observed.numpy()[possible], expected[possible] * count).pvalue > RATE / 2


def test_the_side_and_the_place_of_the_square():
    """Sides in whole pixels against U(0, 16): their mean difference by a normal test, and Kolmogorov-Smirnov of the
    uniforms; chi-square of the rows and columns of centres, told from squares of side 0; error rate 1e-6 in all."""
    count = 20_000
    table = uniforms(5, "square", 0, count, 3)
    central = table.clone()
    central[:, 1:] = 0.25 + 0.5 * central[:, 1:]  # centres from which no square reaches the border
    found = squares(central, 32, 32)
    heights, widths = found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]
    side = 16 * table[:, 0].double()
    assert ((heights - side).abs() < 1 + 1e-9).all() and ((widths - side).abs() < 1 + 1e-9).all()
    for sides in (heights, widths):
        error = (sides.double() - side).std() / count**0.5
        assert stats.norm.sf(abs((sides - side).mean() / error).item()) > RATE / 8
    assert stats.kstest(side.numpy() / 16, "uniform").pvalue > RATE / 4
    points = squares(table * torch.tensor([0, 1, 1]), 32, 32)
    assert torch.equal(points[:, :2], points[:, 2:])
    for axis in (0, 1):
        assert stats.chisquare(points[:, axis].bincount(minlength=32).numpy()).pvalue > RATE / 8


def test_the_square_is_grey_clipped_and_may_be_empty():
    images = torch.zeros(4, 3, 32, 24, dtype=torch.uint8)
    table = torch.tensor([[LAST, 0.5, 0.5], [0.0, 0.5, 0.5], [LAST, 0.0, 0.0], [LAST, LAST, LAST]])
    found = grey_square(images, table)
    assert squares(table, 32, 24).tolist() == [[10, 6, 21, 17], [16, 12, 16, 12], [0, 0, 5, 5], [25, 17, 32, 24]]
    assert (found[0, :, 10:21, 6:17] == torch.tensor(GREY)[:, None, None]).all()
    assert [int((view != 0).any(0).sum()) for view in found] == [121, 0, 25, 49]
    assert not images.any()
