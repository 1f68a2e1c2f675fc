"""Views where a network looks: maps, boxes and holes against slow references, and what the policies make of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from kdlib.randomness import uniforms
from kdlib.views import attention
from kdlib.views.attention import ATTENTION, PLACE, PLACES
from kdlib.views.crops import crop_flip
from kdlib.views.policies import create_policy
from kdlib.views.policy import ViewPolicy

NAMES = ("attention_crop", "attention_drop")
RATE = 1e-6  # of false alarms, over seeds


@pytest.fixture
def maps() -> Tensor:
    """float32 [40, 64]: random ones, some with a flat part, one that is the same everywhere."""
    found = uniforms(8, "maps", 0, 40, 64).clone()
    found[10:20] = found[10:20].round(decimals=1)
    found[20:30, 8:40] = 0.75
    found[39] = 0.3
    return found


def draws_of(policy: ViewPolicy, maps: Tensor, seed: int = 0, epoch: int = 0) -> dict[str, Tensor]:
    draws = {role: uniforms(seed, role, epoch, len(maps), n) for role, n in policy.roles.items()}
    return draws | ({ATTENTION: maps} if ATTENTION in policy.roles else {})


def made(name: str, images: Tensor, maps: Tensor, seed: int = 0, **options) -> Tensor:
    policy = create_policy(name, **options)
    return policy(images, draws_of(policy, maps, seed))


# --- maps


def bilinear(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Between the middles of the cells, and beyond the outermost ones what they are; in double precision."""
    at = [(np.arange(n) + 0.5) * cells / n - 0.5 for n, cells in zip((height, width), grid.shape, strict=True)]
    lines = np.array([np.interp(at[1], np.arange(grid.shape[1]), row) for row in grid])
    return np.array([np.interp(at[0], np.arange(grid.shape[0]), line) for line in lines.T]).T


@pytest.mark.parametrize("shape", [(32, 32), (28, 40), (8, 8)])
def test_a_response_is_bilinear_and_goes_from_0_to_1(maps: Tensor, shape: tuple[int, int]):
    found = attention.response(maps, *shape)
    for own, grid in zip(found[:-1], maps[:-1].double().numpy(), strict=True):
        expected = bilinear(grid.reshape(8, 8), *shape)
        expected = (expected - expected.min()) / (expected.max() - expected.min())
        assert np.allclose(own, expected, atol=1e-5) and (own.min(), own.max()) == (0, 1)
    assert (found[-1] == 1).all()


@pytest.mark.parametrize("side", [8, 7, 4])
def test_the_grid_is_the_sum_of_squares_over_channels(side: int):
    features = torch.randn(5, 6, side, side, generator=torch.Generator().manual_seed(1))
    features[3] = 2.0
    features[4] = 0.0
    found = attention.grid_of(features)
    for own, values in zip(found[:3], features[:3].double().numpy(), strict=True):
        expected = bilinear((values**2).sum(0), 8, 8)
        assert np.allclose(own.reshape(8, 8), (expected - expected.min()) / np.ptp(expected), atol=1e-5)
    assert (found[3:] == 0).all() and found.shape == (5, 64)


def test_finer_features_are_averaged_and_infinite_ones_stay_visible():
    features = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    means = (features.double().numpy() ** 2).sum(1).reshape(2, 8, 2, 8, 2).mean((2, 4)).reshape(2, 64)
    low, high = means.min(1, keepdims=True), means.max(1, keepdims=True)
    assert np.allclose(attention.grid_of(features), (means - low) / (high - low), atol=1e-5)
    for broken in (torch.inf, torch.nan, 1e30):  # the last has no finite square
        features[1, 0, 3, 4] = broken
        found = attention.grid_of(features)
        assert found[0].isfinite().all() and not found[1].isfinite().all()


# --- boxes


def slow_box(seen: np.ndarray) -> tuple[list[int], list[int]]:
    """(first, last) row and column of what is at least 1/2, before the box is grown."""
    rows, columns = np.nonzero(seen >= 0.5)
    return [rows.min(), rows.max()], [columns.min(), columns.max()]


@pytest.mark.parametrize("shape", [(32, 32), (33, 24)])
def test_a_box_holds_all_that_is_large_tightly_or_is_half_a_side(maps: Tensor, shape: tuple[int, int]):
    seen = attention.response(maps**4, *shape)  # peaked ones, whose boxes are small
    for own, found in zip(seen.numpy(), attention.boxes(seen).tolist(), strict=True):
        for (first, last), size, start, length in zip(slow_box(own), shape, found[:2], found[2:], strict=True):
            assert length == max(last - first + 1, -(-size // 2))
            assert 0 <= start <= first and last < start + length <= size
            centred = first - (length - (last - first + 1) + 1) // 2
            assert start == min(max(centred, 0), size - length)


def test_boxes_of_marked_rectangles_are_these():
    seen = torch.zeros(4, 32, 32)
    seen[0, 3:23, 5:31] = 0.5
    seen[1, 0:2, 30:32] = 1.0
    seen[2, 15:17, 10] = 0.7
    seen[3] = 1.0
    expected = [[3, 5, 20, 26], [0, 16, 16, 16], [8, 2, 16, 16], [0, 0, 32, 32]]
    assert attention.boxes(seen).tolist() == expected


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)])
def test_a_zoomed_box_is_the_bilinear_one_to_half_a_level(tiles: Tensor, shape: tuple[int, int]):
    images = F.interpolate(tiles, shape)
    found = attention.boxes(attention.response(uniforms(1, "m", 0, 40, 64) ** 6, *shape))
    assert (found[:, 2:] < torch.tensor(shape)).any()
    for image, (top, left, height, width), own in zip(
        images, found.tolist(), attention.zoomed(images, found), strict=True
    ):
        part = image[None, :, top : top + height, left : left + width].double()
        expected = F.interpolate(part, shape, mode="bilinear", align_corners=False)[0]
        assert (own - expected).abs().max() <= 0.5 + 1e-9 and own.dtype == torch.uint8


def test_a_whole_image_and_one_colour_stay_as_they_are(tiles: Tensor):
    whole = torch.tensor([[0, 0, 32, 32]]).expand(40, -1)
    assert torch.equal(attention.zoomed(tiles, whole), tiles)
    grey = torch.full_like(tiles, 77)
    assert torch.equal(attention.zoomed(grey, attention.boxes(torch.rand(40, 32, 32) ** 9)), grey)


def test_places_of_a_box_are_uniform_over_all_in_the_image():
    """Chi-square over the 13 x 7 places of a box of 20 x 26 pixels; error rate 1e-6."""
    count = 20_000
    found = attention.moved(torch.tensor([[3, 5, 20, 26]]).expand(count, -1), uniforms(1, PLACE, 0, count, 2), 32, 32)
    counts = (found[:, 0] * 7 + found[:, 1]).bincount(minlength=13 * 7)
    assert len(counts) == 13 * 7 and (found[:, 2:] == torch.tensor([20, 26])).all()
    assert stats.chisquare(counts.numpy()).pvalue > RATE


# --- holes


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.25, 0.5, 0.999, 1])
def test_exactly_the_share_of_largest_pixels_is_dropped_and_of_equal_ones_the_first(maps: Tensor, share: float):
    seen = attention.response(maps, 32, 32)
    seen[30:] = seen[30:].round(decimals=1)
    found = attention.largest(seen, share)
    for own, values in zip(found, seen.flatten(1).numpy(), strict=True):
        order = np.argsort(-values, kind="stable")[: round(share * 1024)]
        assert set(own.flatten().nonzero().squeeze(1).tolist()) == set(order.tolist())


def test_a_hole_that_is_moved_is_numpys_roll_and_keeps_its_pixels(maps: Tensor):
    holes = attention.largest(attention.response(maps, 32, 24), 0.3)
    places = uniforms(2, PLACE, 0, 40, 2)
    for own, hole, place in zip(attention.rolled(holes, places), holes, places.double().numpy(), strict=True):
        shift = int(place[0] * 32), int(place[1] * 24)
        assert np.array_equal(own, np.roll(hole.numpy(), shift, (0, 1))) and own.sum() == round(0.3 * 32 * 24)


def test_a_quarter_in_the_middle_is_the_box_of_half_the_side():
    hole = attention.largest(attention.middle(32, 32), 0.25)[0]
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[8:24, 8:24] = True
    assert torch.equal(hole, expected)


# --- policies


@pytest.mark.parametrize("by", PLACES)
def test_the_second_view_is_a_crop_of_the_plain_image_with_its_hole(tiles: Tensor, maps: Tensor, by: str):
    policy = create_policy("attention_drop", by=by)
    draws = draws_of(policy, maps)
    holes = attention.largest(attention.response(maps, 32, 32), 0.25)
    holes = attention.rolled(holes, draws[PLACE]) if by in ("random", "fresh") else holes
    holes = attention.largest(attention.middle(32, 32), 0.25).expand(40, -1, -1) if by == "centre" else holes
    dropped = tiles.masked_fill(holes[:, None], 128)
    views = policy(tiles, draws)
    assert torch.equal(views[:, 1], crop_flip(dropped, draws["augmented crop"]))
    assert (holes.flatten(1).sum(1) == 256).all()
    assert torch.equal(views[:, 0], made("weak2", tiles, maps)[:, 0])


@pytest.mark.parametrize("by", PLACES)
def test_the_second_view_is_a_crop_of_a_box_of_one_size_wherever_it_lies(tiles: Tensor, maps: Tensor, by: str):
    policy = create_policy("attention_crop", by=by)
    draws = draws_of(policy, maps)
    found = attention.boxes(attention.response(maps, 32, 32))
    if by in ("random", "fresh"):
        found = attention.moved(found, draws[PLACE], 32, 32)
    if by == "centre":
        found[:, :2] = (32 - found[:, 2:]) // 2
    expected = crop_flip(attention.zoomed(tiles, found), draws["augmented crop"])
    assert torch.equal(policy(tiles, draws)[:, 1], expected)


def test_a_map_that_tells_nothing_and_no_hole_give_weak2_bit_for_bit(tiles: Tensor, maps: Tensor):
    plain = made("weak2", tiles, maps)
    for by in PLACES:
        assert torch.equal(made("attention_crop", tiles, torch.full_like(maps, 0.5), by=by), plain)
        assert torch.equal(made("attention_drop", tiles, maps, by=by, share=0), plain)


@pytest.mark.parametrize("name", NAMES)
def test_a_mirrored_image_with_a_mirrored_map_gives_the_mirrored_view(tiles: Tensor, name: str):
    """But for rounding: pixels that are nearly equal, and boxes of an odd number of pixels to grow by, which are left
    out here by a map of one strip of cells."""
    maps = torch.zeros(40, 8, 8)
    maps[torch.arange(40), :, torch.arange(40) % 8] = 1 + 0.1 * torch.rand(40, 8)
    maps[torch.arange(40), :, (torch.arange(40) + 1) % 8] = 1.0
    source = create_policy(name).sources[1]
    one = source(tiles, {ATTENTION: maps.flatten(1)}, None)
    other = source(tiles.flip(3), {ATTENTION: maps.flip(2).flatten(1)}, None).flip(3)
    assert (one != other).float().mean() < 0.005


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("by", PLACES)
def test_views_are_a_function_of_image_map_and_draws(tiles: Tensor, maps: Tensor, name: str, by: str):
    policy, ids = create_policy(name, by=by), torch.tensor([31, 2, 17])
    draws = draws_of(policy, maps)
    few = {role: values[ids] for role, values in draws.items()}
    assert torch.equal(policy(tiles[ids], few), policy(tiles, draws)[ids])
    assert torch.equal(policy(tiles, draws), policy(tiles, draws))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_run_must_give_is_said(name: str):
    reads = {by: create_policy(name, by=by).attends for by in PLACES}
    central = None if name == "attention_drop" else "teacher"
    assert reads == {"teacher": "teacher", "untrained": "untrained", "random": "teacher", "fresh": "teacher",
                     "centre": central}  # fmt: skip
    assert {by for by in PLACES if create_policy(name, by=by).fixed} == {"random"}
    assert create_policy(name).by_run and not create_policy("jda").by_run and create_policy("he_da").by_run


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("attention_drop", {"share": 1.5}, "share = 1.5 is not allowed: input should be less than or equal to 1"),
        ("attention_drop", {"share": -0.1}, "share = -0.1 is not allowed"),
        (
            "attention_drop",
            {"by": "students"},
            "by = 'students' is not allowed: input should be 'teacher', 'untrained'",
        ),
        ("attention_crop", {"share": 0.5}, "policy 'attention_crop' has no option 'share'; allowed are by"),
    ],
)
def test_options_out_of_range_are_refused_in_one_sentence(name: str, options: dict, words: str):
    with pytest.raises(ValueError, match=f"^{words}") as refusal:
        create_policy(name, **options)
    assert "\n" not in str(refusal.value)
