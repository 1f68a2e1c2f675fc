"""Windows of pictures: what they show is what lies there, and tiles cover a picture once."""

import math

import pytest
import torch

from kdlib.elsewhere.boxes.pictures import FRAME, SIDE, Picture
from kdlib.elsewhere.boxes.windows import Windows, cut, place, tiles


def picture(height: int, width: int, corners: list) -> Picture:
    rows, columns = torch.arange(height)[:, None] % 256, torch.arange(width)[None] % 256
    pixels = torch.stack([rows.expand(height, width), columns.expand(height, width), torch.zeros(height, width)])
    boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    return Picture("a", pixels.to(torch.uint8), boxes, torch.zeros(len(boxes), dtype=torch.int64))


def test_a_window_shows_its_part_and_its_boxes() -> None:
    one = picture(250, 250, [(40, 60, 70, 100), (0, 0, 30, 30), (100, 30, 180, 70)])
    pixels, boxes = cut(one, 20, 30, SIDE, SIDE)
    assert torch.equal(pixels, one.pixels[:, 20 : 20 + SIDE, 30 : 30 + SIDE])
    assert boxes.corners[0].tolist() == [[10, 40, 40, 80], [70, 10, 128, 50]]  # the second is not seen
    assert boxes.shares[0].tolist() == pytest.approx([1, 58 / 80])


def test_scaling_moves_boxes_with_pixels() -> None:
    one = picture(300, 300, [(96, 48, 192, 144)])
    one.pixels[:] = 0
    one.pixels[:, 48:144, 96:192] = 255
    pixels, boxes = cut(one, 0, 0, 192, SIDE)
    x1, y1, x2, y2 = boxes.corners[0, 0].tolist()
    assert (x1, y1, x2, y2) == (64, 32, 128, 96)
    bright = (pixels[0] > 127).nonzero()
    assert bright.amin(0).tolist() == [32, 64] and bright.amax(0).tolist() == [95, 127]


def test_half_of_the_windows_hold_the_centre_of_a_box() -> None:
    """One small box in a large picture, 2,000 windows: within five standard errors."""
    one = picture(2000, 2000, [(1000, 1000, 1004, 1004)])
    draws = torch.rand(2000, 5, generator=torch.Generator().manual_seed(0)).tolist()
    held = 0
    for row, column in (place(one, 216, some) for some in draws):
        assert 0 <= row <= 2000 - 216 and 0 <= column <= 2000 - 216
        held += row <= 1002 < row + 216 and column <= 1002 < column + 216
    expected = 0.5 + 0.5 * (216 / 1785) ** 2
    assert abs(held / 2000 - expected) < 5 * math.sqrt(0.25 / 2000)


def test_windows_are_functions_of_their_draws_and_small_pictures_are_filled_up() -> None:
    frames = Windows([picture(100, 400, [(0, 0, 50, 50)]), picture(500, 500, [])], 192)
    assert frames.owners == [0] * 3 + [1] * 9 and frames.count == 12
    draws = {"window": torch.rand(2, 5)}
    first, again = (frames(torch.tensor([0, 11]), draws) for _ in range(2))
    assert torch.equal(first[0], again[0]) and first[0].shape == (2, 3, FRAME, FRAME)
    assert (first[0][0, :, 70:] == 128).all()  # below the picture
    assert not (first[0][1] == 128).all()


def test_tiles_cover_a_picture_once() -> None:
    one = picture(300, 400, [(10, 10, 60, 60), (120, 10, 140, 60), (350, 280, 390, 299)])
    test = tiles([one], SIDE)
    assert len(test.images) == 3 * 4
    whole = test.images.unflatten(0, (3, 4)).permute(2, 0, 3, 1, 4).reshape(3, 3 * SIDE, 4 * SIDE)
    assert torch.equal(whole[:, :300, :400], one.pixels) and (whole[:, 300:] == 128).all()
    kept = [(k // 4, k % 4) for k in test.boxes.kept.any(1).nonzero().squeeze(1).tolist()]
    assert kept == [(0, 0), (0, 1), (2, 2)]  # of boxes that tiles cut, the tile with the larger part
    assert len(tiles([one], SIDE, whole=True).images) == 2 * 3
    assert len(tiles([picture(50, 50, [])], SIDE, whole=True).images) == 1
