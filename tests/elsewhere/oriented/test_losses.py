"""What a detector of turned boxes learns from: who is asked what, and that a few images can be learnt by heart."""

import pytest
import torch
from torch import Tensor

from kdlib.elsewhere.boxes import losses as upright_losses
from kdlib.elsewhere.boxes.detector import BINS as SIDES
from kdlib.elsewhere.boxes.detector import Said, centres
from kdlib.elsewhere.boxes.tensors import Boxes
from kdlib.elsewhere.oriented.angles import BINS, angle_divergence, angle_loss, angle_of
from kdlib.elsewhere.oriented.boxes import TurnedBoxes
from kdlib.elsewhere.oriented.detector import TurnedDetector, TurnedSaid, find_turned
from kdlib.elsewhere.oriented.geometry import angle_between, holds, turned_iou, upright
from kdlib.elsewhere.oriented.losses import ANGLE, TeacherWeights, label_losses, targets, teacher_losses
from kdlib.randomness import seeded

pytestmark = pytest.mark.usefixtures("isolated")
SIDE = 128
OWN = torch.tensor([[40.0, 40, 44, 16, 30], [92, 84, 40, 20, -70]])
BOXES = TurnedBoxes.stack([(OWN, torch.tensor([0, 2])), (OWN[:1], torch.tensor([1]))])
WEIGHTS = TeacherWeights(1.0, 0.25, 0.25, 4.0)


def said(seed: int = 0, scale: float = 1.0) -> TurnedSaid:
    random = torch.Generator().manual_seed(seed)
    shapes = ((2, 256, 3), (2, 256, 4, SIDES), (2, 256, BINS))
    return TurnedSaid(*(scale * torch.randn(*shape, generator=random) for shape in shapes))


def test_class_and_sides_are_asked_of_the_box_before_it_is_turned() -> None:
    plain = Boxes(BOXES.corners, BOXES.labels, BOXES.shares)
    asked, expected = targets(BOXES, SIDE), upright_losses.targets(plain, SIDE)
    assert all(torch.equal(a, b) for a, b in zip(asked.upright, expected, strict=True))
    positive = asked.upright.labels >= 0
    assert set(asked.angles[0][positive[0]].tolist()) == {30.0, -70.0} and not asked.angles[~positive].any()
    assert torch.equal(asked.angles[0][asked.upright.labels[0] == 2].unique(), torch.tensor([-70.0]))


def test_cells_of_hidden_turned_boxes_are_asked_nothing() -> None:
    box = torch.tensor([[64.0, 64, 90, 16, 45]])
    boxes = TurnedBoxes.of(box[None], torch.tensor([[0]]), torch.tensor([[0.3]]))
    asked = targets(boxes, SIDE)
    assert torch.equal(asked.upright.ignored[0], holds(box, centres(SIDE))) and (asked.upright.labels < 0).all()
    assert asked.upright.ignored.any()
    one, other = said(), said()
    one, other = (TurnedSaid(*(x[:1] for x in part)) for part in (one, other))
    other.classes[asked.upright.ignored] += 5
    assert label_losses(one, asked, SIDE)["class"] == label_losses(other, asked, SIDE)["class"]


def test_terms_are_those_of_upright_boxes_and_the_angle() -> None:
    own, teacher, asked = said(), said(1), targets(BOXES, SIDE)
    cells = (asked.upright.labels >= 0).nonzero(as_tuple=True)
    found = label_losses(own, asked, SIDE) | teacher_losses(own, teacher, asked, WEIGHTS)
    sides = [Said(part.classes, part.sides) for part in (own, teacher)]
    expected = upright_losses.label_losses(sides[0], asked.upright, SIDE)
    expected |= upright_losses.teacher_losses(*sides, asked.upright, (1.0, 0.25))
    weights = own.classes[cells].sigmoid().amax(-1)
    by_cell = angle_loss(own.angles[cells], asked.angles[cells])
    expected["angle"] = ANGLE * (weights * by_cell).sum() / weights.sum()
    expected["akd"] = 0.25 * angle_divergence(own.angles[cells], teacher.angles[cells], asked.angles[cells], 4.0)
    assert {n: v.item() for n, v in found.items()} == pytest.approx({n: v.item() for n, v in expected.items()})
    same = teacher_losses(own, own, asked, WEIGHTS)
    assert all(value.abs() < 1e-5 for value in same.values())


def test_images_without_boxes_are_background() -> None:
    none = TurnedBoxes.stack([(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))] * 2)
    asked = targets(none, SIDE)
    terms = label_losses(said(), asked, SIDE) | teacher_losses(said(), said(1), asked, WEIGHTS)
    assert terms["angle"] == terms["akd"] == terms["sides"] == 0 < terms["class"]


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_huge_logits_have_finite_losses_and_gradients(scale: float) -> None:
    own = TurnedSaid(*(x.requires_grad_() for x in said(scale=scale)))
    asked = targets(BOXES, SIDE)
    terms = label_losses(own, asked, SIDE) | teacher_losses(own, said(1, scale), asked, WEIGHTS)
    assert all(value.isfinite() for value in terms.values())
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(sum(terms.values()), tuple(own)))


def scene() -> Tensor:
    """Two bars of different brightness in the red channel, turned as their boxes are."""
    images = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    along = torch.arange(SIDE) + 0.5
    points = torch.stack(torch.meshgrid(along, along, indexing="xy"), -1)
    for image, boxes, labels in zip(images, BOXES.turned, BOXES.labels, strict=True):
        for box, label in zip(boxes, labels.tolist(), strict=True):
            if label >= 0:
                image[label][holds(box, points)] = 250
    return images


def test_a_few_images_are_learnt_by_heart() -> None:
    """So signs, weights, boxes and angles work together: what is found overlaps well with what is there."""
    with seeded(0, "test"):
        network = TurnedDetector(8, 3)
    images, asked = scene(), targets(BOXES, SIDE)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(80):
        terms = label_losses(network(images), asked, SIDE)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
    with torch.no_grad():
        found = find_turned(network(images), SIDE)
    for one, boxes, labels in zip(found, BOXES.turned, BOXES.labels, strict=True):
        for box, label in zip(boxes[labels >= 0], labels[labels >= 0], strict=True):
            best = one.boxes[one.labels == label][0]
            assert turned_iou(best, box) > 0.6 and angle_between(best[4], box[4]) <= 6


def test_what_is_found_is_what_was_said() -> None:
    """One cell that is sure of a class, four distances and an angle."""
    answer = TurnedSaid(torch.full((1, 256, 3), -20.0), torch.zeros(1, 256, 4, SIDES), torch.zeros(1, 256, BINS))
    cell = 5 * 16 + 8  # its middle is at (68, 44)
    answer.classes[0, cell, 1] = 3
    for side, strides in enumerate((2, 1, 3, 2)):
        answer.sides[0, cell, side, strides] = 60
    answer.angles[0, cell, 30] = 9
    (found,) = find_turned(answer, SIDE)
    expected = torch.tensor([72.0, 48, 40, 24, angle_of(torch.tensor(30)).item()])
    assert torch.allclose(found.boxes, expected[None], atol=1e-4) and found.labels.tolist() == [1]
    assert found.scores.item() == pytest.approx(torch.tensor(3.0).sigmoid().item())
    assert torch.allclose(upright(found.boxes), torch.tensor([[52.0, 36, 92, 60]]), atol=1e-4)
    assert [len(one.boxes) for one in find_turned(answer, SIDE, score=0.99)] == [0]
