"""Pictures to look at: which images are shown."""

import torch

from kdlib.data.images import BUNDLED, ImageSet, load_data
from kdlib.show.pictures import some_images


def labelled(labels: list[int], classes: int) -> ImageSet:
    """Images whose pixels say which they are."""
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    names = tuple(map(str, range(classes)))
    return ImageSet("some", images, torch.tensor(labels), names, (0.5,) * 3, (0.5,) * 3, "0" * 16)


def test_classes_take_turns():
    images = labelled([1, 0, 0, 2, 1, 2], 3)
    assert some_images(images, 5)[:, 0, 0, 0].tolist() == [1, 0, 3, 2, 4]


def test_a_small_set_shows_what_it_has():
    assert some_images(labelled([0, 1, 1], 2), 9)[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert some_images(labelled([0, 2], 3), 9)[:, 0, 0, 0].tolist() == [0, 1]  # no image of class 1


def test_the_bundled_images_fill_a_row():
    test = load_data(BUNDLED).test
    shown = some_images(test, 12)
    assert shown.shape == (12, *test.images.shape[1:])
    assert torch.equal(shown[10], test.images[(test.labels == 0).nonzero()[1, 0]])
