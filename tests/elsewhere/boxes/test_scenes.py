"""Scenes: what is pasted fills its box, and a scene depends on its number alone."""

import pytest
import torch

from kdlib.elsewhere.boxes import scenes
from kdlib.elsewhere.boxes.pictures import FRAME, SIDE
from kdlib.elsewhere.boxes.scenes import INK, OVERLAP, SIZES, background, layout, load_scenes, paste, scene
from kdlib.elsewhere.boxes.tensors import paired_iou
from kdlib.randomness import generator

pytestmark = pytest.mark.usefixtures("isolated")
SPLITS = ("train", "test")


def some_objects(count: int = 40) -> list[list[scenes.Pasted]]:
    return [layout(SPLITS[i % 2], SIDE, generator(0, "scenes of a test", i)) for i in range(count)]


def test_each_object_fills_its_box() -> None:
    """What is changed by pasting lies in the box, and what is the object touches each of its four sides."""
    for objects in some_objects():
        for one in objects:
            x1, y1, x2, y2 = one.corners
            ink = one.grey > INK
            assert all(side.any() for side in (ink[0], ink[-1], ink[:, 0], ink[:, -1]))
            image = torch.full((3, SIDE, SIDE), 300.0)  # no object is so bright
            paste(image, one)
            changed = (image != 300).any(0)
            assert changed[y1:y2, x1:x2].sum() == changed.sum() > 0
            rows, columns = (changed.any(axis).nonzero().squeeze(1) for axis in (1, 0))
            assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (x1, y1, x2, y2)


def test_sizes_numbers_and_overlaps_are_what_is_said() -> None:
    found = some_objects(80)
    long = [max(one.grey.shape) for objects in found for one in objects]
    assert SIZES[0] - 2 <= min(long) and max(long) <= SIZES[1]
    assert {len(objects) for objects in found} == {1, 2, 3, 4, 5, 6}
    for objects in found:
        for k, one in enumerate(objects):
            for other in objects[:k]:
                assert paired_iou(*(torch.tensor(box.corners, dtype=torch.float32) for box in (one, other))) <= OVERLAP
    assert {one.label for objects in found for one in objects} == set(range(10))


@pytest.mark.parametrize("split", SPLITS)
def test_one_number_is_one_scene(split: scenes.Split) -> None:
    first, again, other = (scene(0, split, i) for i in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[0], scene(1, split, 5)[0])
    image, corners, labels = first
    assert image.shape == (3, SIDE, SIDE) and image.dtype == torch.uint8 and labels.dtype == torch.int64
    assert corners.shape == (len(labels), 4) and (corners >= 0).all() and (corners <= SIDE).all()


def test_test_scenes_stand_on_other_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = torch.zeros(3, 427, 640, dtype=torch.uint8)
    marked[..., 384:] = 255  # the right 40 %
    monkeypatch.setattr(scenes, "_photographs", lambda: [marked])
    for i in range(30):
        assert background("train", FRAME, generator(0, "a", i)).max() == 0
        assert 0.5 * 255 <= background("test", FRAME, generator(0, "a", i)).min() <= 255


def test_the_data_set_is_those_scenes_and_is_kept() -> None:
    load_scenes.cache_clear()
    data = load_scenes(6, 4)
    assert (data.frames.count, len(data.tests["test"].images), len(data.classes)) == (6, 4, 10)
    images, boxes = data.frames(torch.tensor([4, 1]), {})
    image, corners, labels = scene(0, "train", 4, FRAME)
    assert torch.equal(images[0], image) and torch.equal(boxes.corners[0, : len(labels)], corners)
    assert boxes.labels[0, : len(labels)].tolist() == labels.tolist()
    load_scenes.cache_clear()
    assert load_scenes(6, 4).fingerprint == data.fingerprint != load_scenes(5, 4).fingerprint
    load_scenes.cache_clear()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("val", 0, SIDE), "split = 'val' is unknown; allowed are train and test"),
        (("train", -1, SIDE), "index = -1 is not a scene"),
        (("train", 0, 32), "side = 32 is not possible; allowed are 48 to 256 pixels"),
    ],
)
def test_bad_scenes_are_one_sentence(asked: tuple, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        scene(0, *asked)
