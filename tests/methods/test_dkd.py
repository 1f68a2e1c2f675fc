"""The two parts of DKD against a slow reference and against SciPy, and their warm-up."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from torch import Tensor

from kdlib.methods.dkd import dkd_losses
from kdlib.methods.kd import kl_divergence

from .slow import examples, logit_pairs, normal, slow_dkd, temperatures, whole


@examples
@given(logit_pairs(), temperatures, st.integers(0, 1000))
def test_dkd_is_the_slow_reference_and_splits_kl(pair: tuple[Tensor, Tensor], temperature: float, seed: int):
    student, teacher = pair
    labels = whole(student.shape[1], len(student), seed=seed)
    slow = [slow_dkd(s, t, y, temperature) for s, t, y in zip(*(x.numpy() for x in (*pair, labels)), strict=True)]
    found = dkd_losses(student, teacher, labels, temperature)
    assert [x.shape for x in found] == [(), ()]
    np.testing.assert_allclose([x.item() for x in found], np.mean(slow, axis=0), rtol=1e-9, atol=1e-10)
    for i in range(len(student)):  # KL = TCKD + (1 - p_y) NCKD holds for samples, not for means
        one = slice(i, i + 1)
        target, others = dkd_losses(student[one], teacher[one], labels[one], temperature)
        other_share = 1 - (teacher[i] / temperature).softmax(0)[labels[i]]
        kl = kl_divergence(student[one], teacher[one], temperature)[0]
        torch.testing.assert_close(target + other_share * others, kl, rtol=1e-8, atol=1e-9)


def test_dkd_parts_see_what_they_should():
    student, teacher, labels = normal(6, 5), normal(6, 5, seed=1), whole(5, 6)
    target, others = dkd_losses(student, teacher, labels, 4.0)
    raised = student + 3.0 * torch.nn.functional.one_hot(labels, 5)  # moves p_y, not the other classes' softmax
    moved = dkd_losses(raised, teacher, labels, 4.0)
    assert abs(moved[0] - target) > 0.01
    torch.testing.assert_close(moved[1], others)
    assert dkd_losses(student[:, :2], teacher[:, :2], labels % 2, 4.0)[1] == 0  # one other class: no choice


@pytest.mark.parametrize("views", [1, 2])
def test_dkd_parts_are_those_of_the_two_way_and_of_the_other_distribution(make_batch, loss_of, views: int):
    batch = make_batch(views)
    terms, _ = loss_of("dkd", batch, temperature=2.0, alpha=0.5, beta=6.0, ce_weight=0.7, warm_up=0.0)
    tckd, nckd = [], []
    for row, (s, t) in enumerate(zip(batch.student.logits.detach().numpy(), batch.teacher.logits.numpy(), strict=True)):
        y = int(batch.labels[row // views])
        p, q = (special.softmax(z / 2.0) for z in (t, s))
        two = [np.array([x[y], 1 - x[y]]) for x in (p, q)]
        rest = [np.delete(x, y) / np.delete(x, y).sum() for x in (p, q)]
        tckd.append(special.rel_entr(*two).sum())
        nckd.append(special.rel_entr(*rest).sum())
    assert list(terms) == ["ce", "tckd", "nckd"]
    assert terms["tckd"].value.item() == pytest.approx(np.mean(tckd))
    assert terms["nckd"].value.item() == pytest.approx(np.mean(nckd))
    assert [t.weight for t in terms.values()] == pytest.approx([0.7, 4 * 0.5, 4 * 6.0])


@pytest.mark.parametrize(
    ("epoch", "share"), [(1, 1 / 20), (2, 2 / 20), (19, 19 / 20), (20, 1.0), (21, 1.0), (240, 1.0)]
)
def test_dkd_warms_up_over_20_of_240_epochs(make_batch, loss_of, epoch: int, share: float):
    terms, _ = loss_of("dkd", make_batch(1, epoch=epoch, epochs=240.0))
    assert terms["ce"].weight == 1
    assert terms["tckd"].weight == pytest.approx(share * 16)
    assert terms["nckd"].weight == pytest.approx(share * 16 * 8)


@pytest.mark.parametrize(("warm_up", "weights"), [(0.0, [16, 16]), (0.5, [4, 16]), (1.0, [2, 8])])
def test_the_warm_up_is_a_share_of_the_run(make_batch, loss_of, warm_up: float, weights: list[float]):
    """Epochs 1 and 4 of 8."""
    found = [loss_of("dkd", make_batch(1, epoch=e, epochs=8.0), warm_up=warm_up)[0]["tckd"].weight for e in (1, 4)]
    assert found == pytest.approx(weights)
