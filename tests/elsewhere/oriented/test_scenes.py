"""Turned scenes: what is pasted lies in its turned box, and turns are those that are asked for."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as v2

from kdlib.elsewhere.boxes.pictures import FRAME, SIDE
from kdlib.elsewhere.boxes.scenes import INK, OVERLAP
from kdlib.elsewhere.oriented import scenes
from kdlib.elsewhere.oriented.geometry import axes, holds, table
from kdlib.elsewhere.oriented.scenes import ALL, RANGES, SEEN, UNSEEN, box_of, load_turned_scenes, turned_grey
from kdlib.elsewhere.oriented.scenes import turned_scene as scene

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.mark.parametrize("degrees", [0.0, 17.0, 45.0, -60.0, 90.0, 133.0, 180.0])
@pytest.mark.parametrize("size", [(30, 11), (12, 31), (20, 20)])
def test_turned_ink_fills_its_turned_box(degrees: float, size: tuple[int, int]) -> None:
    patch = turned_grey(torch.full(size, 200.0), degrees)
    box = box_of(torch.zeros(size), patch, 0, 0, degrees)
    ink = (patch > INK).nonzero().flip(1) + 0.5
    longest = max(size)
    assert holds(box, ink, 0.8 / longest).all()  # the middle of each pixel lies in the box, or within one of it
    assert len(ink) == pytest.approx(size[0] * size[1], rel=0.15)
    for axis, side in zip(axes(box[4]), box[2:4], strict=True):
        along = (ink - box[:2]) @ axis
        assert along.max() >= side / 2 - 1.2 and along.min() <= 1.2 - side / 2  # and it touches all four sides
    assert box[2] >= box[3]


def test_a_turned_patch_is_that_of_torchvision() -> None:
    grey = v2.gaussian_blur(255 * torch.rand(1, 24, 40, generator=torch.Generator().manual_seed(0)), [7, 7])[0]
    for degrees in (33.0, -120.0):
        patch = turned_grey(grey, degrees)
        height, width = patch.shape
        pads = [(80 - grey.shape[1]) // 2] * 2 + [(80 - grey.shape[0]) // 2] * 2
        expected = v2.rotate(F.pad(grey, pads)[None], degrees, interpolation=v2.InterpolationMode.BILINEAR)[0]
        middle = v2.center_crop(expected[None], [height - height % 2, width - width % 2])[0]
        own = (
            patch
            if not (height % 2 or width % 2)
            else F.interpolate(patch[None, None], middle.shape, mode="area")[0, 0]
        )
        assert (own - middle).abs().median() < 3 and middle.abs().median() > 20
    torch.testing.assert_close(turned_grey(grey, 0.0), grey, rtol=0, atol=1e-3)


def test_boxes_are_apart_and_turned_as_asked() -> None:
    """An object of a known long side has the angle by which it was turned, or that plus a quarter."""
    for name, (low, high) in RANGES.items():
        for index in range(12):
            image, boxes, labels = scene(3, "test", index, SIDE, (low, high))
            assert image.shape == (3, SIDE, SIDE) and image.dtype == torch.uint8 and len(boxes) == len(labels) >= 1
            assert (boxes[:, 2] >= boxes[:, 3]).all() and (boxes[:, 4] >= -90).all() and (boxes[:, 4] < 90).all()
            assert table(boxes, boxes).triu(1).max() <= OVERLAP + 1e-6
            turn = torch.minimum(boxes[:, 4].abs(), 90 - boxes[:, 4].abs())  # from an upright or lying pose
            assert name != SEEN or turn.max() <= 30 + 1e-3


def test_one_number_is_one_scene_and_ranges_differ() -> None:
    first, again = scene(0, "train", 5), scene(0, "train", 5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], scene(0, "train", 6)[0]) and not torch.equal(first[0], scene(0, "test", 5)[0])
    assert not torch.equal(first[1], scene(0, "train", 5, turns=RANGES[SEEN])[1])


def test_the_data_set_learns_from_small_turns_and_is_tested_on_three_ranges() -> None:
    load_turned_scenes.cache_clear()
    data = load_turned_scenes(5, 3)
    assert list(data.tests) == [ALL, SEEN, UNSEEN] and data.frames.count == 5 and len(data.classes) == 10
    images, boxes = data.frames(torch.tensor([4, 1]), {})
    image, own, labels = scene(0, "train", 4, FRAME, RANGES[SEEN])
    assert torch.equal(images[0], image) and torch.allclose(boxes.turned[0, : len(labels)], own, atol=1e-4)
    for name, test in data.tests.items():
        image, own, labels = scene(0, "test", 2, SIDE, RANGES[name])
        assert torch.equal(test.images[2], image) and torch.allclose(test.boxes.angles[2, : len(labels)], own[:, 4])
    load_turned_scenes.cache_clear()
    assert load_turned_scenes(5, 3).fingerprint == data.fingerprint != load_turned_scenes(4, 3).fingerprint
    load_turned_scenes.cache_clear()


@pytest.mark.parametrize("turns", [(30.0, 30.0), (-1.0, 5.0), (0.0, 181.0)])
def test_a_range_that_is_none_is_one_sentence(turns) -> None:
    with pytest.raises(ValueError, match=r"^turns = \(.*\) is no range; allowed are two rising numbers from 0 to 180$"):
        scene(0, "train", 0, turns=turns)


def test_pasted_objects_are_seen_in_their_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a black background all that is not black lies in the boxes."""
    monkeypatch.setattr(scenes, "background", lambda split, side, draws: torch.zeros(3, side, side))
    for index in range(10):
        image, boxes, _ = scene(0, "train", index)
        places = (image.amax(0) > 0).nonzero().flip(1) + 0.5
        assert holds(boxes[:, None], places, 0.06).any(0).all()
        assert all(holds(box, places).sum() > 0.3 * box[2:4].prod() for box in boxes)
