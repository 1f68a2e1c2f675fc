"""Standardised logits against slow references, what does not change them, and the method's terms."""

import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kdlib.methods import total
from kdlib.methods.kd import kd_loss
from kdlib.methods.ls import LS_SCALES, ls_loss, standardised

from .slow import examples, logit_pairs, normal, slow_kl, temperatures


def slow_standardised(logits: np.ndarray, scale: str) -> np.ndarray:
    """One row at a time, with the standard library's exact mean and standard deviation."""
    if scale == "none":
        return logits
    rows = [list(map(float, row)) for row in logits]
    stds = [statistics.stdev(row) for row in rows]
    if scale == "batch":
        stds = [statistics.fmean(stds)] * len(rows)
    return np.array(
        [[(z - statistics.fmean(row)) / (std + 1e-7) for z in row] for row, std in zip(rows, stds, strict=True)]
    )


@pytest.mark.parametrize("scale", LS_SCALES)
@examples
@given(pair=logit_pairs(), temperature=temperatures)
def test_ls_is_the_slow_reference(scale: str, pair: tuple[Tensor, Tensor], temperature: float):
    student, teacher = (x.round() for x in pair)  # whole numbers: no row is almost, but not quite, constant
    slow = [slow_standardised(x.numpy(), scale) for x in (student, teacher)]
    for logits, expected in zip((student, teacher), slow, strict=True):
        np.testing.assert_allclose(standardised(logits, scale).numpy(), expected, rtol=1e-9, atol=1e-7)
    found = ls_loss(student, teacher, temperature, scale)
    assert found.shape == () and found.item() == pytest.approx(np.mean(slow_kl(*slow, temperature)), rel=1e-6, abs=1e-7)


def test_rows_have_mean_zero_and_standard_deviation_one():
    found = standardised(normal(8, 10) * 7 + 3)
    torch.testing.assert_close(found.mean(1), torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.std(1), torch.ones(8, dtype=torch.float64), rtol=0, atol=1e-6)
    assert torch.equal(standardised(normal(8, 10)), standardised(normal(8, 10), "sample"))
    with pytest.raises(ValueError, match=r"^scale = 'class' is unknown; allowed are sample, batch, none$"):
        standardised(normal(8, 10), "class")


@examples
@given(st.floats(0.1, 100), st.floats(-100, 100), st.integers(0, 100))
def test_neither_side_depends_on_scale_and_offset(scale: float, offset: float, seed: int):
    student, teacher = normal(5, 6, seed=seed), normal(5, 6, seed=seed + 1000)
    plain, per_row = ls_loss(student, teacher, 2.0), torch.linspace(1, scale, 5, dtype=torch.float64)[:, None]
    torch.testing.assert_close(ls_loss(per_row * student + offset, teacher, 2.0), plain, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(ls_loss(student, per_row * teacher - offset, 2.0), plain, rtol=1e-5, atol=1e-8)
    together = ls_loss(scale * student + offset, teacher, 2.0, "batch")  # a scale that all rows share
    torch.testing.assert_close(together, ls_loss(student, teacher, 2.0, "batch"), rtol=1e-5, atol=1e-8)
    assert (ls_loss(3 * student, teacher, 2.0, "none") - ls_loss(student, teacher, 2.0, "none")).abs() > 1e-3


def test_it_is_kd_with_a_temperature_for_each_sample():
    student, teacher = normal(6, 5), normal(6, 5, seed=1)
    own, others = (2.0 * (x.std(1, keepdim=True) + 1e-7) for x in (student, teacher))
    torch.testing.assert_close(ls_loss(student, teacher, 2.0), kd_loss(student / own, teacher / others, 1.0))


@pytest.mark.parametrize("scale", LS_SCALES)
def test_it_is_zero_at_equal_logits_and_above_elsewhere(scale: str):
    teacher = normal(6, 5)
    assert ls_loss(teacher, teacher, 2.0, scale).abs() < 1e-12
    assert ls_loss(normal(6, 5, seed=1), teacher, 2.0, scale) > 1e-3


@pytest.mark.parametrize("scale", LS_SCALES)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e4, 1e30])
def test_finite_at_extreme_logits_in_float32(size: float, scale: str):
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randint(-1, 2, (64, 10), generator=draw).float() * size for _ in range(2))
    loss = ls_loss(student.requires_grad_(), teacher, 2.0, scale)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite() and gradient.isfinite().all()
    precise = ls_loss(student.double(), teacher.double(), 2.0, scale)
    assert loss.item() == pytest.approx(precise.item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("scale", LS_SCALES)
@pytest.mark.parametrize("level", [0.0, 5.3, -1e4])
def test_constant_logits_give_a_finite_loss(level: float, scale: str):
    constant, others = torch.full((4, 7), level, requires_grad=True), normal(4, 7).float()
    for student, teacher in ((constant, others), (others, constant), (constant, constant)):
        loss = ls_loss(student, teacher, 2.0, scale)
        (gradient,) = torch.autograd.grad(loss, constant)
        assert loss.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("scale", LS_SCALES)
def test_gradients_are_right(scale: str):
    student, teacher = (normal(2, 4, seed=i, scale=1).requires_grad_() for i in range(2))
    # The unit in which squares are taken is a constant to autograd, and changes nothing.
    assert torch.autograd.gradcheck(lambda s, t: ls_loss(s, t, 2.0, scale), (student, teacher))


@pytest.mark.parametrize("scale", LS_SCALES)
def test_narrow_logits_are_widened(scale: str):
    student, teacher = normal(6, 5).bfloat16(), normal(6, 5, seed=1).bfloat16()
    found = ls_loss(student, teacher, 2.0, scale)
    assert found.dtype == torch.float32 and torch.equal(found, ls_loss(student.float(), teacher.float(), 2.0, scale))


# --- terms and weights of the method


@pytest.mark.parametrize("views", [1, 2])
def test_ls_is_kd_between_standardised_logits(make_batch, loss_of, divergence, views: int):
    batch = make_batch(views)
    terms, records = loss_of("ls", batch)
    raw = (output.logits.detach().numpy() for output in (batch.student, batch.teacher))
    logits = (torch.from_numpy(slow_standardised(x, "sample")) for x in raw)
    assert list(terms) == ["ce", "kl"] and records == {}
    assert [t.weight for t in terms.values()] == pytest.approx([0.1, 9 * 4])
    assert terms["kl"].value.item() == pytest.approx(divergence(*logits, 2.0).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_scaling_it_is_kd_bit_for_bit(make_batch, loss_of, dtype: torch.dtype):
    batch = make_batch(2)
    for output in (batch.student, batch.teacher):
        output.logits.data = output.logits.data.to(dtype)
    losses = [
        total(loss_of("ls", batch, scale="none")[0]),
        total(loss_of("kd", batch, temperature=2.0, ce_weight=0.1, kd_weight=9.0)[0]),
    ]
    gradients = [torch.autograd.grad(loss, batch.student.logits)[0] for loss in losses]
    assert torch.equal(*losses) and torch.equal(*gradients)
