"""Views that move boxes with pixels: painted rectangles fill their boxes, and turned ones get loose as they must."""

import math

import pytest
import torch
from torch import Tensor

from kdlib.elsewhere.boxes.pictures import FRAME, SIDE
from kdlib.elsewhere.boxes.tensors import Boxes, area
from kdlib.elsewhere.boxes.views import (
    GEOMETRIC,
    LIST,
    SECONDS,
    allowed,
    augmented,
    cropped,
    looseness,
    moved_corners,
    roles,
    two_views,
)
from kdlib.randomness import draws_of
from kdlib.views.jda import JDA, jda
from kdlib.views.ops import OPS, apply_op

pytestmark = pytest.mark.usefixtures("isolated")
RECTANGLE = (50, 58, 86, 76)
WHITE, BLACK = 255, 0


def painted(corners: tuple[int, int, int, int], side: int = FRAME) -> Tensor:
    image = torch.full((1, 3, side, side), BLACK, dtype=torch.uint8)
    x1, y1, x2, y2 = corners
    image[..., y1:y2, x1:x2] = WHITE
    return image


def extent(image: Tensor) -> list[float]:
    """The smallest box around what is bright; FILL, at 128, is not."""
    bright = image[0, 0] > 180
    rows, columns = (bright.any(axis).nonzero().squeeze(1) for axis in (1, 0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("magnitude", [1, 3, 5])
def test_a_painted_rectangle_fills_its_moved_box(name: str, magnitude: int, sign: int) -> None:
    moved = moved_corners(torch.tensor([RECTANGLE]).float(), name, magnitude, sign)[0].tolist()
    found = extent(apply_op(name, painted(RECTANGLE), magnitude, sign))
    assert found == pytest.approx(moved, abs=1.5)
    assert moved != list(RECTANGLE) or not OPS[name].magnitudes[magnitude]


@pytest.mark.parametrize("degrees", [0.0, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("size", [(20, 20), (48, 12)])
def test_turned_boxes_are_as_loose_as_the_closed_form_says(
    monkeypatch: pytest.MonkeyPatch, degrees: float, size: tuple[int, int]
) -> None:
    width, height = size
    monkeypatch.setitem(OPS, "turned", OPS["rotate"].__class__("turned", OPS["rotate"].apply, (degrees,) * 10))
    box = torch.tensor([[60.0, 60, 60 + width, 60 + height]]).double()
    moved = moved_corners(box, "turned", 0)
    assert (area(moved) / area(box)).item() == pytest.approx(looseness(width, height, degrees), rel=1e-6)
    assert looseness(1, 1, 10) == pytest.approx((math.cos(math.radians(10)) + math.sin(math.radians(10))) ** 2)


def draws_for(count: int, seed: int = 0) -> dict[str, Tensor]:
    ids = torch.arange(count)
    return draws_of(seed, roles(), torch.zeros(count, dtype=torch.int64), ids, count)


def marked(count: int) -> tuple[Tensor, Boxes]:
    images = painted(RECTANGLE).repeat(count, 1, 1, 1)
    return images, Boxes.stack([(torch.tensor([RECTANGLE]).float(), torch.tensor([4]))] * count)


def test_a_marked_square_stays_in_its_box_through_crops_and_flips() -> None:
    count = 60
    images, boxes = marked(count)
    for pixels, moved in two_views(images, boxes, "weak2", draws_for(count)):
        assert pixels.shape == (count, 3, SIDE, SIDE)
        for image, corners, share in zip(pixels, moved.corners[:, 0], moved.shares[:, 0], strict=True):
            assert extent(image[None]) == corners.tolist() and share == 1
    firsts = {tuple(corners.flatten().tolist()) for corners in moved.corners}
    assert len(firsts) > 30


def test_flips_are_half_of_the_views_and_places_all() -> None:
    """2,000 views: within five standard errors of one half, a false alarm in 2 million."""
    count = 2000
    images = torch.arange(FRAME, dtype=torch.uint8).expand(1, 3, FRAME, FRAME).expand(count, -1, -1, -1)
    pixels, _ = cropped(images, Boxes.stack([(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))] * count),
                        draws_for(count)["original crop"])  # fmt: skip
    rising = pixels[:, 0, 0, 0] < pixels[:, 0, 0, -1]
    assert abs(rising.float().mean() - 0.5) < 5 * 0.5 / math.sqrt(count)
    assert set(pixels[rising][:, 0, 0, 0].tolist()) == set(range(FRAME - SIDE + 1))


def test_photometric_views_leave_boxes_and_geometric_ones_move_them() -> None:
    images, boxes = marked(80)
    changed = {second: augmented(images, boxes, second, draws_for(80)["augmented ops"]) for second in SECONDS}
    assert torch.equal(changed["weak2"][0], images)
    for second, (pixels, moved) in changed.items():
        assert torch.equal(moved.corners, boxes.corners) == (second in ("weak2", "photometric"))
        assert torch.equal(pixels, images) == (second == "weak2")
    assert torch.equal(changed["jda"][1].corners, changed["geometric"][1].corners)


def test_pixels_of_all_operations_are_those_of_jda() -> None:
    images, boxes = marked(40)
    images = images + torch.randint(0, 9, images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    uniforms = draws_for(40)["augmented ops"]
    assert torch.equal(augmented(images, boxes, "jda", uniforms)[0], jda(LIST)(images, uniforms))


def test_boxes_that_leave_the_image_are_dropped_and_those_that_enter_it_are_cut() -> None:
    image = painted((2, 60, 40, 90))
    boxes = Boxes.stack([(torch.tensor([[2.0, 60, 40, 90]]), torch.tensor([0]))])
    uniforms = torch.tensor([[0.0, 0.0]])  # it fires, to the left
    policy = JDA((("translateX", 9),), p=1.0)
    _, left = augmented(image, boxes, "geometric", uniforms, policy)
    assert left.shares.item() == 0 and not left.kept.any() and not left.ignored.any()
    _, right = augmented(image, boxes, "geometric", torch.tensor([[0.0, 0.9]]), policy)
    assert right.kept.all() and right.corners[0, 0].tolist() == [67, 60, 105, 90]


def test_an_unknown_policy_is_one_sentence() -> None:
    with pytest.raises(
        ValueError, match="^second = 'strong' is unknown; allowed are weak2, photometric, geometric, jda"
    ):
        augmented(*marked(1), "strong", draws_for(1)["augmented ops"])
    assert [name for name, _ in jda(LIST).ops if allowed(name, "geometric")] == [
        "translateY", "shearX", "shearY", "translateX", "rotate",
    ]  # fmt: skip
