"""What a detector learns from: numeric gradients, known minima, huge logits, and who is asked what."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from kdlib.elsewhere.boxes.detector import BINS, STRIDE, Detector, Said, centres, distances
from kdlib.elsewhere.boxes.losses import (
    class_divergence,
    distribution_focal,
    label_losses,
    quality_focal,
    side_divergence,
    targets,
    teacher_losses,
)
from kdlib.elsewhere.boxes.tensors import Boxes, clipped
from kdlib.randomness import seeded

pytestmark = pytest.mark.usefixtures("isolated")
SIDE = 128


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def boxes_of(*images: list[tuple[float, float, float, float]]) -> Boxes:
    parts = [(torch.tensor(c).reshape(-1, 4), torch.arange(len(c)) % 3) for c in images]
    return clipped(Boxes.stack(parts), SIDE)


BOXES = boxes_of([(10, 20, 50, 60), (60, 60, 100, 124)], [(30, 30, 60, 44)])


def said(scale: float = 1.0, seed: int = 0) -> Said:
    return Said(normal(2, 256, 3, seed=seed, scale=scale), normal(2, 256, 4, BINS, seed=seed + 1, scale=scale))


# --- who is asked what


def test_a_cell_finds_the_smallest_near_box_that_holds_it() -> None:
    """Against a slow loop over cells and boxes."""
    random = torch.Generator().manual_seed(0)
    places = 100 * torch.rand(6, 12, 2, generator=random)
    corners = torch.cat([places, places + 4 + 60 * torch.rand(6, 12, 2, generator=random)], 2)
    boxes = clipped(Boxes.stack([(c, torch.arange(12)) for c in corners]), SIDE)
    asked = targets(boxes, SIDE)
    for image in range(6):
        for cell, (x, y) in enumerate(centres(SIDE).tolist()):
            found = []
            for k, (x1, y1, x2, y2) in enumerate(boxes.corners[image].tolist()):
                near = max(abs((x1 + x2) / 2 - x), abs((y1 + y2) / 2 - y)) <= 1.5 * STRIDE
                if boxes.kept[image, k] and near and x1 < x < x2 and y1 < y < y2:
                    found.append(((x2 - x1) * (y2 - y1), k))
            expected = min(found)[1] if found else -1
            assert asked.labels[image, cell] == expected
            if found:
                assert torch.equal(asked.corners[image, cell], boxes.corners[image, expected])
    assert (asked.labels >= 0).any() and (asked.labels < 0).any()


def test_cells_of_hidden_objects_are_asked_nothing() -> None:
    asked = targets(boxes_of([(100, 40, 190, 80)], [(8, 8, 40, 40)]), SIDE)
    x, y = centres(SIDE).unbind(1)
    assert torch.equal(asked.ignored[0], (x > 100) & (y > 40) & (y < 80)) and not asked.ignored[1].any()
    assert (asked.labels[0] == -1).all()
    one, other = said(), said()
    other.classes[0, asked.ignored[0]] += 5
    assert label_losses(one, asked, SIDE)["class"] == label_losses(other, asked, SIDE)["class"]


def test_images_without_boxes_are_background() -> None:
    asked = targets(boxes_of([], []), SIDE)
    assert (asked.labels == -1).all() and not asked.ignored.any()
    terms = label_losses(said(), asked, SIDE) | teacher_losses(said(), said(seed=5), asked, (1, 1))
    assert all(value.isfinite() for value in terms.values())
    assert terms["sides"] == terms["giou"] == terms["ld"] == 0 < terms["class"]


# --- labels


def test_quality_focal_is_zero_at_the_quality_and_has_the_gradient_it_should() -> None:
    quality = torch.tensor([0.0, 0.2, 0.7, 1.0], dtype=torch.float64)
    at = torch.logit(quality.clamp(1e-12, 1 - 1e-12))
    assert quality_focal(at, quality).abs().max() < 1e-9
    assert (quality_focal(at + 1, quality)[1:3] > 0.01).all()
    assert gradcheck(lambda x: quality_focal(x, quality), normal(4).requires_grad_())


def test_distribution_focal_is_least_at_the_split_of_the_two_bins() -> None:
    """Its minimum, over all distributions, is the entropy of the split, and the mean there is the distance."""
    for distance in (0.5, 2.25, 5.9):
        lower, share = math.floor(distance), distance - math.floor(distance)
        best = torch.full((BINS,), -60.0, dtype=torch.float64)
        best[lower], best[lower + 1] = (math.log(max(p, 1e-12)) for p in (1 - share, share))
        at = torch.tensor(distance, dtype=torch.float64)
        least = distribution_focal(best, at)
        entropy = -sum(p * math.log(p) for p in (share, 1 - share) if p)
        assert least.item() == pytest.approx(entropy, abs=1e-9)
        assert distances(best).item() / STRIDE == pytest.approx(distance, abs=1e-6)
        assert all(distribution_focal(best + normal(BINS, seed=s), at) > least for s in range(20))


def test_gradients_of_all_terms_are_the_numeric_ones() -> None:
    """In double precision, on a few cells: the other logits are held."""
    asked = targets(BOXES, SIDE)
    base, teacher = said(), said(seed=9)
    image, cell = (asked.labels >= 0).nonzero(as_tuple=True)
    cells = cell[image == 0][:2]

    def terms(classes: Tensor, sides: Tensor) -> tuple[Tensor, ...]:
        own = Said(base.classes.clone(), base.sides.clone())
        own.sides[0, cells] = sides
        own.classes[0, cells] = classes
        held = Said(base.classes, own.sides)  # weights and qualities have no gradient, so nothing may hang on them
        boxes = label_losses(held, asked, SIDE)
        taught = teacher_losses(held, teacher, asked, (1.0, 0.25))
        kd = teacher_losses(own, teacher, asked, (1.0, 0.25))["kd"]
        return boxes["sides"], boxes["giou"], taught["ld"], kd

    start = [x[0, cells].clone().requires_grad_() for x in (base.classes, base.sides)]
    assert gradcheck(terms, start, atol=1e-6)


def test_weights_and_qualities_pass_no_gradient() -> None:
    own = Said(*(x.requires_grad_() for x in said()))
    losses = label_losses(own, targets(BOXES, SIDE), SIDE)
    for name, silent, heard in (("sides", own.classes, own.sides), ("giou", own.classes, own.sides),
                                ("class", own.sides, own.classes)):  # fmt: skip
        grads = torch.autograd.grad(losses[name], (silent, heard), allow_unused=True, retain_graph=True)
        assert grads[0] is None or not grads[0].any()
        assert grads[1].any()


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_huge_logits_have_finite_losses_and_gradients(scale: float) -> None:
    asked = targets(BOXES, SIDE)
    one, other = (Said(*(x.float() for x in said(scale, seed))) for seed in (0, 4))
    own = Said(*(x.requires_grad_() for x in one))
    terms = label_losses(own, asked, SIDE) | teacher_losses(own, other, asked, (1.0, 0.25))
    soft = class_divergence(own.classes, other.classes, "softmax").mean()
    total = sum(terms.values()) + soft
    assert all(value.isfinite() for value in (*terms.values(), soft))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(total, tuple(own)))


def test_a_few_images_are_learnt_by_heart() -> None:
    """So signs, weights and boxes work together: after 60 steps what is predicted overlaps its targets well."""
    with seeded(0, "test"):
        network = Detector(8, 3)
    images = torch.randint(0, 60, (2, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for image, corners, labels in zip(images, BOXES.corners, BOXES.labels, strict=True):
        for (x1, y1, x2, y2), label in zip(corners.int().tolist(), labels.tolist(), strict=True):
            image[max(label, 0), y1:y2, x1:x2] = 250
    asked, optimiser = targets(BOXES, SIDE), torch.optim.AdamW(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        terms = label_losses(network(images), asked, SIDE)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
        losses.append(terms["giou"].item() / 2)
    assert losses[0] > 0.5 and losses[-1] < 0.2


# --- a teacher


def test_a_teacher_that_says_the_same_teaches_nothing() -> None:
    own = Said(*(x.requires_grad_() for x in said()))
    for form in ("bernoulli", "softmax"):
        terms = teacher_losses(own, said(), targets(BOXES, SIDE), (1.0, 0.25), form)
        assert terms["kd"] == terms["ld"] == 0
        grads = torch.autograd.grad(terms["kd"] + terms["ld"], tuple(own))
        assert all(grad.abs().max() < 1e-12 for grad in grads)


def test_divergences_are_those_of_torch() -> None:
    one, other = normal(5, BINS), normal(5, BINS, seed=1)
    by_torch = torch.nn.functional.kl_div((one / 10).log_softmax(-1), (other / 10).softmax(-1), reduction="none")
    assert torch.allclose(side_divergence(one, other), 100 * by_torch.mean(-1))
    assert torch.allclose(side_divergence(one + 7, other - 3), side_divergence(one, other))
    soft = torch.nn.functional.kl_div((one / 2).log_softmax(-1), (other / 2).softmax(-1), reduction="none")
    assert torch.allclose(class_divergence(one, other, "softmax"), 4 * soft.mean(-1))
    p, q = ((x / 2).sigmoid() for x in (other, one))
    single = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert torch.allclose(class_divergence(one, other), 4 * single.mean(-1))
    assert (class_divergence(one, other) > 0).all() and (side_divergence(one, other) > 0).all()


def test_of_one_class_a_softmax_says_nothing() -> None:
    """The released form is no distillation of classes where there is one class, as for trees."""
    one, other = normal(5, 1), normal(5, 1, seed=1)
    assert (class_divergence(one, other, "softmax") == 0).all()
    assert (class_divergence(one, other, "bernoulli") > 0).all()


def test_a_softmax_does_not_see_whether_there_is_anything() -> None:
    """A student that finds something in every place says the same to a softmax as a teacher that finds nothing."""
    teacher = normal(5, 4) - 6
    assert (class_divergence(teacher + 9, teacher, "softmax").abs() < 1e-12).all()
    assert (class_divergence(teacher + 9, teacher, "bernoulli") > 0.1).all()


def test_no_gradient_reaches_the_teacher_and_an_unknown_form_is_one_sentence() -> None:
    own, teacher = said(), Said(*(x.requires_grad_() for x in said(seed=3)))
    assert not any(v.requires_grad for v in teacher_losses(own, teacher, targets(BOXES, SIDE), (1, 1)).values())
    with pytest.raises(ValueError, match="^form = 'kl' is unknown; allowed are bernoulli, softmax"):
        class_divergence(normal(2, 1), normal(2, 1), "kl")
