"""The picture of maps and views: real images, each row what its name says."""

import pytest
import torch

from kdlib.chapters.few_shot import drawing
from kdlib.data.images import BUNDLED, load_data
from kdlib.lab.survey import maps
from kdlib.views.attention import boxes, largest, response, zoomed

from ...conftest import drawn

pytestmark = pytest.mark.usefixtures("isolated", "strict_figures")


def test_rows_are_views_of_the_images_above_them():
    images, ids, teacher = load_data(BUNDLED).test, torch.tensor([3, 70, 500]), drawing.demonstration_teacher()
    rows = drawing.attended(images, ids, teacher)
    plain = images.images[ids]
    seen = response(maps(teacher, images, ids)[ids].float(), 32, 32)
    assert torch.equal(rows["image"], plain)
    assert torch.equal(rows["attention drop"], plain.masked_fill(largest(seen, 0.25)[:, None], 128))
    assert torch.equal(rows["attention crop"], zoomed(plain, boxes(seen)))
    colours = rows["where the teacher looks"]
    brightest = seen.flatten(1).argmax(1)
    assert colours.shape == plain.shape and colours.dtype == torch.uint8
    for colour, place in zip(colours.flatten(2), brightest, strict=True):
        assert colour[:, place].tolist() == [253, 231, 36]  # the bright end of viridis


def test_the_picture_names_its_rows():
    figure = drawn(drawing.looked_at(2))
    names = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert names == ["image", "where the teacher looks", *drawing.SHOWN] and len(figure.axes) == 2 * len(names)
