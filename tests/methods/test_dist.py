"""The two correlations of DIST against slow references and SciPy, what does not change them, and the method's terms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from scipy import special, stats
from torch import Tensor

from kdlib.methods import total
from kdlib.methods.dist import inter_loss, intra_loss

from .slow import examples, logit_pairs, normal, temperatures


def slow_correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (x - math.fsum(x) / len(x) for x in (a, b))
    return math.fsum(a * b) / (math.sqrt(math.fsum(a * a)) * math.sqrt(math.fsum(b * b)) + 1e-8)


def slow_dist(student: Tensor, teacher: Tensor, temperature: float) -> tuple[float, float]:
    """(inter, intra), one row and one column at a time."""
    p, q = (special.softmax(x.detach().double().numpy() / temperature, axis=1) for x in (teacher, student))
    inter = [slow_correlation(*rows) for rows in zip(q, p, strict=True)]
    intra = [slow_correlation(*columns) for columns in zip(q.T, p.T, strict=True)]
    return 1 - math.fsum(inter) / len(inter), 1 - math.fsum(intra) / len(intra)


@examples
@given(logit_pairs(), temperatures)
def test_dist_is_the_slow_reference(pair: tuple[Tensor, Tensor], temperature: float):
    student, teacher = (torch.cat([x, x.flip(1) + 1]) for x in pair)  # two rows and more
    inter, intra = slow_dist(student, teacher, temperature)
    assert inter_loss(student, teacher, temperature).item() == pytest.approx(inter, abs=1e-8)
    assert intra_loss(student, teacher, temperature).item() == pytest.approx(intra, abs=1e-8)


def test_correlations_are_scipys():
    """Of probabilities so far apart that 1e-8 in the divisor plays no part."""
    student, teacher = normal(20, 10), normal(20, 10, seed=1)
    p, q = (special.softmax(x.numpy(), axis=1) for x in (teacher, student))
    inter = 1 - np.mean([stats.pearsonr(*rows).statistic for rows in zip(q, p, strict=True)])
    intra = 1 - np.mean([stats.pearsonr(*columns).statistic for columns in zip(q.T, p.T, strict=True)])
    assert inter_loss(student, teacher, 1.0).item() == pytest.approx(inter, abs=1e-6)
    assert intra_loss(student, teacher, 1.0).item() == pytest.approx(intra, abs=1e-6)


def test_they_are_zero_at_equal_logits_and_above_elsewhere():
    teacher, others = normal(8, 6), normal(8, 6, seed=1)
    for loss in (inter_loss, intra_loss):
        assert loss(teacher, teacher, 1.0).abs() < 1e-6
        assert 0.1 < loss(others, teacher, 1.0) < 2


def test_affine_maps_of_probabilities_change_nothing():
    """Of each row for inter, of each column for intra; their logits are the logarithms."""
    p, q = ((torch.rand(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) + 0.2) for i in (0, 1))
    p, q = (x / x.sum(1, keepdim=True) for x in (p, q))
    inter, intra = (loss(q.log(), p.log(), 1.0) for loss in (inter_loss, intra_loss))
    share = torch.linspace(0.2, 0.9, 8, dtype=torch.float64)[:, None]
    mixed = share * q + (1 - share) / 6  # still probabilities
    torch.testing.assert_close(inter_loss(mixed.log(), p.log(), 1.0), inter, rtol=0, atol=1e-5)
    assert (intra_loss(mixed.log(), p.log(), 1.0) - intra).abs() > 1e-3
    shift = torch.tensor([0.05, -0.02, 0.01, -0.04, 0.03, -0.03], dtype=torch.float64)
    moved = 0.5 * q + 0.5 / 6 + shift  # the shifts add up to 0
    torch.testing.assert_close(intra_loss(moved.log(), p.log(), 1.0), intra, rtol=0, atol=1e-5)
    assert (inter_loss(moved.log(), p.log(), 1.0) - inter).abs() > 1e-3


@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e4, 1e30])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_logits_of_any_size_in_float32(size: float, temperature: float):
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randint(-1, 2, (64, 10), generator=draw).float() * size for _ in range(2))
    found = inter_loss(student.requires_grad_(), teacher, temperature), intra_loss(student, teacher, temperature)
    np.testing.assert_allclose([x.item() for x in found], slow_dist(student, teacher, temperature), rtol=0, atol=1e-5)
    for loss in found:
        (gradient,) = torch.autograd.grad(loss, student)
        assert gradient.isfinite().all() and gradient.abs().max() <= 2


def test_one_sample_is_refused():
    one, two = normal(1, 5), normal(2, 5)
    words = r"^student is a batch of 1: classes are correlated over its rows; allowed are 2 and more$"
    with pytest.raises(ValueError, match=words):
        intra_loss(one, one, 4.0)
    assert inter_loss(one, one, 4.0).isfinite() and intra_loss(two, two, 4.0).isfinite()


@pytest.mark.parametrize("loss", [inter_loss, intra_loss])
def test_gradients_are_right(loss):
    student, teacher = (normal(2, 4, seed=i, scale=1).requires_grad_() for i in range(2))
    assert torch.autograd.gradcheck(lambda s, t: loss(s, t, 3.0), (student, teacher))


@pytest.mark.parametrize("loss", [inter_loss, intra_loss])
def test_narrow_logits_are_widened(loss):
    student, teacher = normal(6, 5).bfloat16(), normal(6, 5, seed=1).bfloat16()
    found = loss(student, teacher, 4.0)
    assert found.dtype == torch.float32 and torch.equal(found, loss(student.float(), teacher.float(), 4.0))


# --- terms and weights of the method


@pytest.mark.parametrize("views", [1, 2])
def test_dist_correlates_over_classes_and_over_all_rows(make_batch, loss_of, views: int):
    batch = make_batch(views)
    terms, records = loss_of("dist", batch, temperature=3.0, inter_weight=0.5)
    inter, intra = slow_dist(batch.student.logits, batch.teacher.logits, 3.0)
    assert list(terms) == ["ce", "inter", "intra"] and records == {}
    assert [t.weight for t in terms.values()] == pytest.approx([1, 9 * 0.5, 9 * 2])
    assert (terms["inter"].value.item(), terms["intra"].value.item()) == pytest.approx((inter, intra))


def test_without_its_terms_it_is_kd_bit_for_bit(make_batch, loss_of):
    batch = make_batch(2)
    own = loss_of("dist", batch, kd_weight=1.0, inter_weight=0.0, intra_weight=0.0)[0]
    losses = [total(own), total(loss_of("kd", batch)[0])]
    gradients = [torch.autograd.grad(loss, batch.student.logits)[0] for loss in losses]
    assert set(own) == {"ce", "kl"} and torch.equal(*losses) and torch.equal(*gradients)
