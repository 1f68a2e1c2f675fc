"""The divergence from the teacher's softened answer, against slow references and view by view."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from torch import Tensor

from kdlib.methods import total
from kdlib.methods.kd import kd_loss, kl_divergence

from .conftest import with_recorder
from .slow import examples, logit_pairs, normal, slow_kl, temperatures


@examples
@given(logit_pairs(), temperatures)
def test_kl_is_the_slow_sum(pair: tuple[Tensor, Tensor], temperature: float):
    student, teacher = pair
    found, expected = kl_divergence(student, teacher, temperature), slow_kl(*(x.numpy() for x in pair), temperature)
    assert found.shape == (len(student),)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(math.fsum(expected) / len(expected), abs=1e-9)


def test_kl_is_scipys():
    student, teacher = normal(20, 10), normal(20, 10, seed=1)
    p, q = (special.softmax(x.numpy() / 4, axis=1) for x in (teacher, student))
    np.testing.assert_allclose(kl_divergence(student, teacher, 4), special.rel_entr(p, q).sum(1), rtol=1e-10)


def test_direction_is_from_the_teacher_to_the_student():
    """A teacher sure of class 0 against a uniform student: log N; the other way round: much more."""
    teacher, student = torch.tensor([[50.0, 0, 0]]), torch.zeros(1, 3)
    assert kl_divergence(student, teacher, 1).item() == pytest.approx(math.log(3), rel=1e-6)
    assert kl_divergence(teacher, student, 1).item() > 30


@examples
@given(logit_pairs(), temperatures, st.floats(-1000, 1000), st.integers(0, 100))
def test_kl_properties(pair: tuple[Tensor, Tensor], temperature: float, shift: float, seed: int):
    student, teacher = pair
    kl = kl_divergence(student, teacher, temperature)
    assert (kl >= -1e-12).all()
    same = torch.zeros(len(kl), dtype=torch.float64)
    torch.testing.assert_close(kl_divergence(teacher, teacher + shift, temperature), same, rtol=0, atol=1e-9)
    torch.testing.assert_close(kl_divergence(student + shift, teacher, temperature), kl, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(kl_divergence(student, teacher - shift, temperature), kl, rtol=1e-8, atol=1e-9)
    rng = np.random.default_rng(seed)
    classes, batch = (torch.from_numpy(rng.permutation(n)) for n in reversed(student.shape))
    torch.testing.assert_close(kl_divergence(student[:, classes], teacher[:, classes], temperature), kl)
    torch.testing.assert_close(kl_divergence(student[batch], teacher[batch], temperature), kl[batch])


@examples
@given(logit_pairs())
def test_kl_is_positive_where_the_softmaxes_differ(pair: tuple[Tensor, Tensor]):
    student, teacher = pair
    p, q = (x.log_softmax(1).exp() for x in (teacher, student))
    distance = (p - q).abs().sum(1)
    kl = kl_divergence(student, teacher, 1.0)
    assert (kl >= distance**2 / 2 - 1e-12).all()  # Pinsker's inequality


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_large_temperatures_match_logits(classes: int):
    """T^2 KL tends to the squared difference of centred logits / (2 N) (Hinton et al., 2015, section 2.1)."""
    student, teacher = normal(8, classes), normal(8, classes, seed=1)
    difference = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    limit = (difference**2).sum(1) / (2 * classes)
    errors = [(t * t * kl_divergence(student, teacher, t) / limit - 1).abs().max().item() for t in (1e2, 1e3, 1e4)]
    assert errors[1] < 1e-2 and errors[2] < 1e-3
    assert errors[0] > errors[1] > errors[2]


def test_kd_gradient_is_the_difference_of_softmaxes():
    student, teacher, temperature = normal(5, 7).requires_grad_(), normal(5, 7, seed=1), 4.0
    (gradient,) = torch.autograd.grad(kd_loss(student, teacher, temperature), student)
    q, p = (special.softmax(x.detach().numpy() / temperature, axis=1) for x in (student, teacher))
    np.testing.assert_allclose(gradient.numpy(), (q - p) / (temperature * 5), atol=1e-14)


# --- terms and weights


@pytest.mark.parametrize("views", [1, 2, 4])
def test_kd_is_the_mean_of_the_divergence_of_each_view(make_batch, loss_of, divergence, views: int):
    batch = make_batch(views)
    terms, records = loss_of("kd", batch)
    student, teacher = batch.student.logits, batch.teacher.logits
    each = [divergence(student[v::views], teacher[v::views], 4) for v in range(views)]
    assert set(terms) == {"ce", "kl"}
    assert records == {}
    assert (terms["ce"].weight, terms["kl"].weight) == (1, 16)
    assert terms["kl"].value.item() == pytest.approx(np.mean(each))


def test_kd_weights_are_explicit(make_batch, loss_of, divergence):
    batch = make_batch(1)
    terms, _ = loss_of("kd", batch, temperature=2.0, ce_weight=0.1, kd_weight=0.9)
    assert (terms["ce"].weight, terms["kl"].weight) == (0.1, pytest.approx(0.9 * 4))
    expected = divergence(batch.student.logits, batch.teacher.logits, 2.0).mean()
    assert terms["kl"].value.item() == pytest.approx(expected)


@pytest.mark.parametrize(("name", "own"), [("spkd", "sp"), ("crd", "crd")])
def test_the_kd_term_comes_with_its_weight(make_batch, loss_of, divergence, name: str, own: str):
    batch = with_recorder(make_batch(2))
    without, _ = loss_of(name, batch)
    terms, _ = loss_of(name, batch, kd_weight=0.9, temperature=2.0, ce_weight=0.1, weight=5.0)
    assert set(without) == {"ce", own}
    assert list(terms) == ["ce", "kl", own]
    assert [t.weight for t in terms.values()] == pytest.approx([0.1, 0.9 * 4, 5.0])
    expected = divergence(batch.student.logits, batch.teacher.logits, 2.0).mean()
    assert terms["kl"].value.item() == pytest.approx(expected)
    values = {n: t.value.item() for n, t in terms.items()}
    loss = 0.1 * values["ce"] + 3.6 * values["kl"] + 5.0 * values[own]
    assert total(terms).item() == pytest.approx(loss)
