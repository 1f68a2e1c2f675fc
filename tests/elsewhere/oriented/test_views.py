"""Views that turn boxes with pixels: a painted box covers the pixels of its object after every policy."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from kdlib.elsewhere.boxes.pictures import FRAME, SIDE
from kdlib.elsewhere.boxes.views import GEOMETRIC
from kdlib.elsewhere.oriented.boxes import TurnedBoxes, inside
from kdlib.elsewhere.oriented.geometry import holds, turned_iou
from kdlib.elsewhere.oriented.views import (
    TURNINGS,
    augmented,
    cropped,
    operated_boxes,
    quarters,
    roles,
    turned_pixels,
    two_views,
)
from kdlib.randomness import draws_of
from kdlib.views.jda import jda
from kdlib.views.ops import apply_op

pytestmark = pytest.mark.usefixtures("isolated")
BOX = torch.tensor([80.0, 62, 44, 14, 25])


def draws_for(count: int, seed: int = 0) -> dict[str, Tensor]:
    ids = torch.arange(count)
    return draws_of(seed, roles(), torch.zeros(count, dtype=torch.int64), ids, count)


def mask(box: Tensor, side: int) -> Tensor:
    """bool [side, side]: the pixels whose middle lies in a box."""
    along = torch.arange(side) + 0.5
    points = torch.stack(torch.meshgrid(along, along, indexing="xy"), -1)
    return holds(box, points)


def painted(box: Tensor, count: int = 1, side: int = FRAME) -> Tensor:
    return torch.where(mask(box, side), 255, 0).to(torch.uint8).expand(count, 3, -1, -1).clone()


def marked(count: int) -> tuple[Tensor, TurnedBoxes]:
    return painted(BOX, count), TurnedBoxes.stack([(BOX[None], torch.tensor([4]))] * count)


def agreement(image: Tensor, box: Tensor) -> float:
    """IoU of the bright pixels with those of a box; FILL, at 128, is not bright."""
    bright, expected = image[0] > 160, mask(box, image.shape[-1])
    return float((bright & expected).sum() / (bright | expected).sum())


@pytest.mark.parametrize("second", ["weak2", "rot90", "any-angle"])
def test_a_painted_box_stays_in_its_box(second) -> None:
    count = 60
    images, boxes = marked(count)
    for pixels, moved in two_views(images, boxes, second, draws_for(count)):
        assert pixels.shape == (count, 3, SIDE, SIDE) and pixels.dtype == torch.uint8
        whole = moved.shares[:, 0] > 0.999
        assert whole.sum() > count / 3
        for image, box in zip(pixels[whole], moved.turned[whole, 0], strict=True):
            assert agreement(image, box) > 0.85
        assert torch.allclose(moved.turned[..., 2:4], BOX[2:4].expand(count, 1, 2), atol=1e-3)
    angles = moved.angles[:, 0].round().unique()
    assert len(angles) == {"weak2": 2, "rot90": 4, "any-angle": len(angles)}[second] and len(angles) != 3


def test_turns_are_those_of_torchvision() -> None:
    images = torch.randint(0, 256, (3, 3, FRAME, FRAME), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = v2.gaussian_blur(images, [9, 9])  # interpolation at a place that is off by 1e-4 pixels is then as good
    found = turned_pixels(images, torch.tensor([30.0, -75.0, 145.0]))
    for image, degrees, one in zip(images, (30.0, -75.0, 145.0), found, strict=True):
        expected = v2.rotate(image, degrees, interpolation=v2.InterpolationMode.BILINEAR, fill=128)
        inner = (one.int() - expected.int())[:, 40:-40, 40:-40].abs()  # in the corners the two fill differently
        assert inner.max() <= 1
    assert torch.equal(quarters(images, torch.tensor([90.0, 180, 0]))[0], v2.rotate(images[0], 90.0))
    assert torch.equal(turned_pixels(images, torch.zeros(3)), images)


@pytest.mark.parametrize(("name", "magnitude"), [(name, m) for name in GEOMETRIC for m in (3, 9)])
@pytest.mark.parametrize("sign", [1, -1])
def test_operations_move_boxes_with_pixels(name: str, magnitude: int, sign: int) -> None:
    box = torch.tensor([72.0, 72, 40, 12, -35])
    image = apply_op(name, painted(box), magnitude, sign)[0]
    moved = operated_boxes(box[None, None], name, magnitude, sign, FRAME)[0, 0]
    share = float(inside(moved, FRAME))
    bright = (image[0] > 160).nonzero().flip(1) + 0.5
    if share > 0.999:
        assert holds(moved, bright, 0.04).float().mean() > 0.98
    if name.startswith("shear"):
        assert moved[2:4].prod() > box[2:4].prod()
    elif share > 0.999:
        assert agreement(image[None][0], moved) > 0.85 and torch.allclose(moved[2:4], box[2:4], atol=1e-3)


def test_pixels_of_jda_are_those_of_the_book_and_weak2_is_untouched() -> None:
    images, boxes = marked(40)
    draws = draws_for(40)
    changed = {second: augmented(images, boxes, second, draws) for second in TURNINGS}
    assert torch.equal(changed["jda"][0], jda("cifar100")(images, draws["augmented ops"]))
    assert torch.equal(changed["weak2"][0], images) and torch.equal(changed["weak2"][1].corners, boxes.corners)
    assert len({pixels.numpy().tobytes() for pixels, _ in changed.values()}) == len(TURNINGS)
    moved = changed["jda"][1]
    sides = moved.turned[..., 2:4].prod(-1)
    assert (sides >= BOX[2:4].prod() - 0.1).all() and (sides > BOX[2:4].prod() + 1).any()


def test_the_first_view_is_the_same_in_all_policies() -> None:
    images, boxes = marked(20)
    firsts = [two_views(images, boxes, second, draws_for(20))[0] for second in TURNINGS]
    assert all(torch.equal(pixels, firsts[0][0]) and torch.equal(b.turned, firsts[0][1].turned) for pixels, b in firsts)


def test_turns_are_spread_over_the_circle() -> None:
    """2,000 boxes of angle 0: each of 12 parts of the half circle has a twelfth, within five standard errors."""
    count = 2000
    boxes = TurnedBoxes.stack([(torch.tensor([[72.0, 72, 30, 10, 0]]), torch.tensor([0]))] * count)
    images = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    _, moved = augmented(images, boxes, "any-angle", draws_for(count))
    counts = torch.histc(moved.angles, 12, -90, 90) / count
    assert (counts - 1 / 12).abs().max() < 5 * (1 / 12 * 11 / 12 / count) ** 0.5
    _, quarter = augmented(images, boxes, "rot90", draws_for(count))
    assert set(quarter.angles.flatten().tolist()) == {0.0, -90.0}


def test_what_leaves_an_image_does_not_come_back() -> None:
    boxes = TurnedBoxes.stack([(torch.tensor([[10.0, 72, 40, 12, 0]]), torch.tensor([0]))])
    out = boxes.moved(boxes.turned + torch.tensor([-15.0, 0, 0, 0, 0]), FRAME)  # 15 of 40 pixels are left
    assert out.shares.item() == pytest.approx(15 / 40) and out.ignored.all()
    assert out.moved(boxes.turned + torch.tensor([50.0, 0, 0, 0, 0]), FRAME).shares.item() == pytest.approx(15 / 40)
    gone = boxes.moved(boxes.turned + torch.tensor([-60.0, 0, 0, 0, 0]), FRAME)
    assert gone.shares.item() == 0 and not gone.kept.any() and not gone.ignored.any()


def test_a_flip_mirrors_the_angle() -> None:
    images, boxes = marked(2)
    uniforms = torch.tensor([[0.5, 0.5, 0.1], [0.5, 0.5, 0.9]])
    _, moved = cropped(images, boxes, uniforms)
    assert moved.angles.flatten().tolist() == pytest.approx([-25, 25], abs=1e-4)
    x = moved.turned[:, 0, 0]
    assert x[0] + x[1] == pytest.approx(SIDE) and moved.turned[0, 0, 1] == moved.turned[1, 0, 1]
    back = moved.turned[:1, 0].clone()
    back[:, 0], back[:, 4] = SIDE - back[:, 0], -back[:, 4]
    assert turned_iou(back, moved.turned[1:, 0]).item() == pytest.approx(1)


def test_an_unknown_policy_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="^second = 'strong' is unknown; allowed are weak2, rot90, any-angle, jda$"):
        augmented(*marked(1), "strong", draws_for(1))
