"""Bins on a circle: labels wrap, and decoupled KD of a group is that of the book where it can be."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from kdlib.elsewhere.oriented.angles import (
    BINS,
    NEAR,
    RADIUS,
    TEMPERATURE,
    WIDTH,
    angle_divergence,
    angle_loss,
    angle_of,
    bin_of,
    bins_away,
    grouped,
    window,
)
from kdlib.elsewhere.oriented.geometry import angle_between
from kdlib.methods.dkd import DKDLoss

ALL = torch.arange(BINS)


def normal(count: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(count, BINS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_labels_are_one_at_their_bin_and_go_round() -> None:
    labels = window(ALL)
    assert BINS == 45 and torch.equal(labels.argmax(1), ALL) and (labels.amax(1) == 1).all()
    assert all(torch.equal(labels[k], labels[0].roll(k)) for k in range(BINS))
    assert torch.allclose(labels, labels.T) and labels[0, 1] == labels[0, -1] == pytest.approx(math.exp(-1 / 4.5))
    assert torch.allclose(window(bin_of(torch.tensor(-89.0)))[-1], window(bin_of(torch.tensor(89.0)))[0])


def test_an_angle_is_half_a_bin_off_at_most() -> None:
    angles = torch.linspace(-270, 270, 2001)
    assert angle_between(angle_of(bin_of(angles)), angles).max() <= WIDTH / 2 + 1e-4
    assert torch.equal(bin_of(angle_of(ALL)), ALL) and torch.equal(bin_of(angle_of(ALL) + 180), ALL)


def test_the_loss_is_least_at_the_window() -> None:
    angles = torch.tensor([-89.5, 3.0, 88.0], dtype=torch.float64)
    best = -bins_away(bin_of(angles)).double().square() / (2 * RADIUS**2)
    assert torch.allclose(best.exp().float(), window(bin_of(angles)))
    least = angle_loss(best, angles)
    assert torch.allclose(least, -(best.softmax(1) * best.log_softmax(1)).sum(1))
    assert all((angle_loss(best + normal(3, s), angles) > least).all() for s in range(20))
    assert gradcheck(lambda x: angle_loss(x, angles), normal(3).requires_grad_())


def test_a_group_of_one_is_the_books_dkd() -> None:
    student, teacher, angles = normal(6), normal(6, 1), torch.linspace(-90, 89, 6)
    for beta in (1.0, 4.0, 8.0):
        expected = DKDLoss(TEMPERATURE, beta=beta)(student, teacher, bin_of(angles))
        assert angle_divergence(student, teacher, angles, beta, near=0).item() == pytest.approx(expected.item())


def test_a_group_is_the_slow_sum() -> None:
    """By probabilities: KL of (sum of the near, rest), and KL among the rest."""
    student, teacher, angles, beta = normal(6, scale=3), normal(6, 1, 3), torch.linspace(-90, 89, 6), 4.0
    near = bins_away(bin_of(angles)) <= NEAR
    assert (near.sum(1) == 5).all()
    expected = 0.0
    for own, other, group in zip(student, teacher, near, strict=True):
        s, t = ((x / TEMPERATURE).softmax(0) for x in (own, other))
        pairs = [(t[group].sum(), s[group].sum()), (t[~group].sum(), s[~group].sum())]
        target = sum(p * (p / q).log() for p, q in pairs)
        rest = [x[~group] / x[~group].sum() for x in (t, s)]
        expected += TEMPERATURE**2 * (target + beta * (rest[0] * (rest[0] / rest[1]).log()).sum()) / 6
    assert angle_divergence(student, teacher, angles, beta).item() == pytest.approx(expected.item())
    soft = (grouped(student, bin_of(angles)) / TEMPERATURE).softmax(1)
    assert torch.allclose(soft[:, 0], ((student / TEMPERATURE).softmax(1) * near).sum(1))


def test_equal_answers_teach_nothing_and_the_teacher_gets_no_gradient() -> None:
    student, teacher, angles = normal(3).requires_grad_(), normal(3, 1).requires_grad_(), torch.tensor([-90.0, 0, 89])
    assert angle_divergence(student, student, angles, 8.0).item() == pytest.approx(0, abs=1e-12)
    angle_divergence(student, teacher, angles, 8.0).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
    held = normal(2, 1)
    assert gradcheck(lambda x: angle_divergence(x, held, angles[:2], 4.0), normal(2).requires_grad_())


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_huge_logits_are_finite(scale: float) -> None:
    student, teacher = (normal(3, s, scale).float() for s in (0, 1))
    student.requires_grad_()
    angles = torch.tensor([-90.0, 0, 89])
    total = angle_divergence(student, teacher, angles, 8.0) + angle_loss(student, angles).sum()
    assert total.isfinite() and torch.autograd.grad(total, student)[0].isfinite().all()


def test_of_no_cell_nothing_is_learnt() -> None:
    assert angle_divergence(normal(0), normal(0), torch.zeros(0), 1.0).item() == 0


# --- the released program


def released_label(angle: int, omega: int, radius: float) -> Tensor:
    """The gaussian label as mmrotate's program makes it: a window over -90, ..., 89 *bins*, whatever omega is.

    It is written to places modulo the number of bins, and the last one to a place is the one that stays.
    """
    bins = 180 // omega
    label = torch.zeros(bins, dtype=torch.float64)
    for offset in range(-90, 90):
        label[(angle // omega + offset) % bins] = math.exp(-(offset**2) / (2 * radius**2))
    return label


def test_the_released_label_is_right_for_bins_of_one_degree() -> None:
    label = released_label(90, 1, 3)
    apart = torch.minimum((torch.arange(180) - 90) % 180, (90 - torch.arange(180)) % 180)
    assert torch.allclose(label, torch.exp(-(apart.double() ** 2) / 18))


def test_the_released_label_loses_its_left_half_at_two_degrees() -> None:
    label = released_label(90, 2, 3)
    assert label[45] == 1 and label[46] == pytest.approx(math.exp(-1 / 18)) and label[44] < 1e-100


@pytest.mark.parametrize("omega", [3, 4, 5])
def test_the_released_label_is_empty_from_three_degrees_on(omega: int) -> None:
    for angle in range(0, 180, 7):
        assert released_label(angle, omega, 3).max() < 1e-20
    assert window(ALL).max() == 1  # ours


def test_cross_entropy_is_that_of_torch() -> None:
    angles = torch.tensor([-50.0, 20.0])
    label = window(bin_of(angles)).double()
    expected = F.cross_entropy(normal(2), label / label.sum(1, keepdim=True), reduction="none")
    assert torch.allclose(angle_loss(normal(2), angles), expected)
