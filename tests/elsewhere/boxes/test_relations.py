"""Relations between places, and the gate: known values, invariances, and that at weight 0 nothing changes."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from kdlib.elsewhere.boxes.detector import BINS, Detector, Said, distances
from kdlib.elsewhere.boxes.losses import Targets
from kdlib.elsewhere.boxes.relations import (
    MEMORY,
    PLACES,
    Gated,
    agreement,
    descriptions,
    gate_macs,
    places_of,
    relation_losses,
)

pytestmark = pytest.mark.usefixtures("isolated")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def said(seed: int = 0) -> Said:
    return Said(normal(2, 256, 3, seed=seed), normal(2, 256, 4, BINS, seed=seed + 9))


def asked(cells: list[int]) -> Targets:
    labels = torch.full((2, 256), -1)
    labels[0, cells] = 1
    return Targets(labels, torch.zeros(2, 256, 4), torch.zeros(2, 256, dtype=torch.bool))


def unit(*shape: int, seed: int = 0) -> Tensor:
    return nn.functional.normalize(normal(*shape, seed=seed), dim=-1)


def test_places_are_cells_with_a_box_and_then_the_teachers_best() -> None:
    teacher = said(1)
    places = places_of(asked([5, 200]), teacher)
    best = teacher.classes.sigmoid().amax(-1)
    assert places.shape == (2, PLACES) and {5, 200} <= set(places[0].tolist())
    order = best[0].argsort(descending=True).tolist()
    assert set(places[0].tolist()) == {5, 200} | set([k for k in order if k not in (5, 200)][: PLACES - 2])
    assert set(places[1].tolist()) == set(best[1].topk(PLACES).indices.tolist())
    assert set(places_of(asked(list(range(40))), teacher)[0].tolist()) <= set(range(40))


def test_descriptions_are_scores_and_distances_of_equal_length() -> None:
    one, places = said(), torch.tensor([[3, 7], [0, 255]])
    found = descriptions(one, places)
    assert torch.allclose(found.norm(dim=-1), torch.ones(2, 2).double())
    assert torch.allclose(found[..., :3].norm(dim=-1), found[..., 3:].norm(dim=-1))
    scores, sides = one.classes[1, 255].sigmoid(), distances(one.sides[1, 255])
    expected = torch.cat([scores / scores.norm(), sides / sides.norm()]) / 2**0.5
    assert torch.allclose(found[1, 1], expected)


def test_relation_losses_are_the_slow_sums() -> None:
    student, teacher = unit(2, 6, 5), unit(2, 6, 5, seed=1)
    own = mutual = 0.0
    for s, t in zip(student, teacher, strict=True):
        for i in range(6):
            for j in range(6):
                own += float((s[i] @ s[j] - t[i] @ t[j]) ** 2) / (2 * 36)
                mutual += float((s[i] @ t[j] - t[i] @ t[j]) ** 2) / (2 * 36)
    assert [x.item() for x in relation_losses(student, teacher)] == pytest.approx([own, mutual])
    assert gradcheck(lambda x: relation_losses(x, teacher), unit(2, 6, 5).requires_grad_())


def test_self_relations_do_not_see_a_turn_of_the_student_and_mutual_ones_do() -> None:
    teacher = unit(2, 8, 5)
    turn, _ = torch.linalg.qr(normal(5, 5, seed=3))
    own, mutual = relation_losses(teacher @ turn, teacher)
    assert own.item() == pytest.approx(0, abs=1e-20) and mutual.item() > 0.01
    assert all(value.item() == 0 for value in relation_losses(teacher, teacher))


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = unit(1, 4, 5).requires_grad_(), unit(1, 4, 5, seed=1).requires_grad_()
    sum(relation_losses(student, teacher)).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_agreement_is_the_cosine_above_zero() -> None:
    grad = normal(3, 4)
    assert agreement(grad, 5 * grad).item() == pytest.approx(1) and agreement(grad, -grad).item() == 0
    assert agreement(grad, torch.zeros(3, 4)).item() == 0
    other = normal(3, 4, seed=2)
    expected = nn.functional.cosine_similarity(grad.flatten(), other.flatten(), dim=0).clamp_min(0)
    assert agreement(grad, other).item() == pytest.approx(expected.item(), abs=1e-6)


def gated(rule: str, steps: int = 3, seed: int = 0) -> tuple[Gated, Tensor, Tensor]:
    """A gate, the weight that it asks about, and a loss."""
    detector = Detector(4, 2)
    direction = torch.randn(detector.gated.shape, generator=torch.Generator().manual_seed(0))
    return Gated(detector, rule, steps, seed), detector.gated, (detector.gated * direction).sum()


def test_a_gate_is_a_moving_average_of_agreements() -> None:
    gate, weight, main = gated("agreement")
    assert gate.update(main, 3 * main, weight, 0).item() == pytest.approx(1)
    assert gate.update(main, -main, weight, 1).item() == pytest.approx(MEMORY)
    assert gate.update(main, main, weight, 2).item() == pytest.approx(MEMORY**2 + 1 - MEMORY)
    assert gate.state_dict()["averages"].tolist() == pytest.approx([1, MEMORY, MEMORY**2 + 1 - MEMORY])
    assert list(gate.parameters())[0] is next(gate.detector.parameters())


def test_the_mean_is_that_of_the_averages_so_far() -> None:
    gate, weight, main = gated("mean")
    found = [gate.update(main, sign * main, weight, number).item() for number, sign in enumerate((1, -1, 1))]
    averages = gate.averages.double().numpy()
    assert found == pytest.approx([averages[: n + 1].mean() for n in range(3)])
    assert averages.tolist() == pytest.approx([1, MEMORY, MEMORY**2 + 1 - MEMORY])


def test_shuffled_averages_are_of_earlier_steps_by_chance() -> None:
    """Each of 200 steps takes one of those so far, all equally often: the mean of (step taken + 1/2) / steps is 1/2,
    with a standard deviation of 1 / sqrt(12 * 200) = 0.0204; a right program is off by four of them once in 16,000
    seeds, and the seed is fixed."""
    gate, *_ = gated("shuffled", 200)
    taken = [gate.chosen(number) for number in range(200)]
    assert all(0 <= part.start <= number and part.stop == part.start + 1 for number, part in enumerate(taken))
    places = [(part.start + 0.5) / (number + 1) for number, part in enumerate(taken)]
    assert abs(sum(places) / 200 - 0.5) < 4 * 0.0204
    assert taken == [gate.chosen(number) for number in range(200)]  # by seed and step alone
    assert taken != [gated("shuffled", 200, seed=1)[0].chosen(number) for number in range(200)]
    gate, weight, main = gated("shuffled")
    values = [gate.update(main, sign * main, weight, number).item() for number, sign in enumerate((1, -1, 1))]
    assert values == [gate.averages[gate.chosen(number)].item() for number in range(3)]


def test_what_a_gate_costs_is_what_its_gradients_are_made_of() -> None:
    detector, cells = Detector(8, 10), 256
    answers = detector.classes.weight.numel() + detector.sides.weight.numel()
    assert gate_macs(8, 10) == 2 * cells * (answers + detector.gated.numel())
