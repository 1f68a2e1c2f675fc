"""Energy DKD: both parts against a slow sum, plain DKD at one temperature, and whose temperature each sample has."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kdlib.methods import METHODS, Batch, method_options, total
from kdlib.methods.dkd import dkd_losses
from kdlib.methods.energy import ENERGY_RULES, energy, energy_groups, energy_limits, energy_temperatures
from kdlib.methods.energy_dkd import EnergyDKDLoss, dkd_pulls, energy_dkd_losses

from .slow import examples, logit_pairs, normal, slow_dkd, temperatures, whole


def limited(make_batch, views: int = 2, **fields) -> Batch:
    """A batch whose limits leave about a third of its views on each side."""
    energies = energy(make_batch(views).teacher.logits)
    return make_batch(views, **{"limits": energy_limits(energies, 0.35)} | fields)


# --- the two parts


@examples
@given(logit_pairs(), st.lists(temperatures, min_size=5, max_size=5), temperatures, st.integers(0, 1000))
def test_both_parts_are_slow_sums(pair: tuple[Tensor, Tensor], each: list[float], reference: float, seed: int):
    student, teacher = pair
    labels, each = whole(student.shape[1], len(student), seed=seed), each[: len(student)]
    rows = zip(student.numpy(), teacher.numpy(), labels.tolist(), each, strict=True)
    slow = np.array([t**2 * np.array(slow_dkd(s, z, y, t)) for s, z, y, t in rows]).mean(0)
    found = energy_dkd_losses(student, teacher, labels, torch.tensor(each, dtype=torch.float64), reference)
    np.testing.assert_allclose([x.item() * reference**2 for x in found], slow, rtol=1e-9, atol=1e-8)


def test_of_two_classes_the_parts_have_a_closed_form():
    """Nothing is left to choose beside the label; the other part is the divergence of two coins."""
    gap_s, gap_t, each = 3.0, -1.0, 6.0
    student, teacher = (torch.tensor([[gap, 0.0]], dtype=torch.float64) for gap in (gap_s, gap_t))
    q, p = (1 / (1 + math.exp(-gap / each)) for gap in (gap_s, gap_t))
    coins = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    one = torch.tensor([each], dtype=torch.float64)
    target, others = energy_dkd_losses(student, teacher, torch.tensor([0]), one, 4.0)
    assert target.item() == pytest.approx((each / 4) ** 2 * coins) and others.item() == 0


@pytest.mark.parametrize("temperature", [1.0, 3.3, 4.0])
def test_at_one_temperature_they_are_those_of_dkd_bit_for_bit(temperature: float):
    student, teacher, labels = normal(6, 5).float().requires_grad_(), normal(6, 5, seed=1).float(), whole(5, 6)
    same = torch.full((6,), temperature, dtype=torch.float64)
    found = energy_dkd_losses(student, teacher, labels, same, temperature)
    for value, expected in zip(found, dkd_losses(student, teacher, labels, temperature), strict=True):
        assert torch.equal(value, expected)
        gradients = [torch.autograd.grad(x, student, retain_graph=True)[0] for x in (value, expected)]
        assert torch.equal(*gradients)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_finite_at_extreme_logits_in_float32(size: float):
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randint(-1, 2, (64, 10), generator=draw).float() * size for _ in range(2))
    each, labels = energy_temperatures(torch.arange(64) % 3, (2.0, 4.0, 6.0)), whole(10, 64)
    values = energy_dkd_losses(student.requires_grad_(), teacher, labels, each, 4.0)
    precise = energy_dkd_losses(student.double(), teacher.double(), labels, each, 4.0)
    for value, exact in zip(values, precise, strict=True):
        (gradient,) = torch.autograd.grad(value, student, retain_graph=True)
        assert value.isfinite() and gradient.isfinite().all()
        assert value.item() == pytest.approx(exact.item(), rel=1e-4)
    assert dkd_pulls(student, teacher, labels, each, 1.0, 8.0).isfinite().all()


def test_gradients_are_right():
    student, teacher = (normal(3, 4, seed=i, scale=1).requires_grad_() for i in range(2))
    each, labels = torch.tensor([2.0, 4.0, 6.0], dtype=torch.float64), torch.tensor([0, 3, 1])
    assert torch.autograd.gradcheck(lambda s, t: energy_dkd_losses(s, t, labels, each, 4.0), (student, teacher))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (0.7, 8.0)])
def test_pulls_are_the_lengths_of_the_gradients(alpha: float, beta: float):
    student, teacher, labels = normal(6, 5).requires_grad_(), normal(6, 5, seed=1), whole(5, 6)
    each = torch.tensor([2.0, 2, 4, 4, 6, 6], dtype=torch.float64)
    target, others = energy_dkd_losses(student, teacher, labels, each, 4.0)
    (gradient,) = torch.autograd.grad(6 * 16 * (alpha * target + beta * others), student)
    torch.testing.assert_close(dkd_pulls(student, teacher, labels, each, alpha, beta), gradient.norm(dim=1))


# --- the method


@pytest.mark.parametrize("views", [1, 2])
def test_energy_dkd_softens_both_parts_by_the_energy_of_the_answer(make_batch, loss_of, surprise, views: int):
    batch = limited(make_batch, views, epoch=3, epochs=24.0)
    options = {"temperature": 3.0, "low_temperature": 1.5, "high_temperature": 5.0, "alpha": 0.5, "beta": 6.0}
    terms, records = loss_of("energy_dkd", batch, **options, ce_weight=0.7, warm_up=0.25)
    student, teacher = batch.student.logits, batch.teacher.logits
    energies, (low, high) = energy(teacher), batch.step.limits
    each = [1.5 if e < low else 5.0 if e > high else 3.0 for e in energies.tolist()]
    assert len(set(each)) == 3 and list(terms) == ["ce", "tckd", "nckd"]
    rows = zip(student.detach().numpy(), teacher.numpy(), batch.view_labels.tolist(), each, strict=True)
    target, others = np.array([t**2 * np.array(slow_dkd(s, z, y, t)) for s, z, y, t in rows]).mean(0)
    warm = 3 / 6  # epoch 3 of the 6 over which the parts rise
    assert (terms["tckd"].value * terms["tckd"].weight).item() == pytest.approx(warm * 0.5 * target)
    assert (terms["nckd"].value * terms["nckd"].weight).item() == pytest.approx(warm * 6.0 * others)
    assert terms["ce"].value.item() == pytest.approx(surprise(student, batch.view_labels).mean())
    assert terms["ce"].weight == 0.7
    pull = dkd_pulls(student, teacher, batch.view_labels, torch.tensor(each, dtype=torch.float64), 0.5, 6.0).numpy()
    for name, t in (("low", 1.5), ("middle", 3.0), ("high", 5.0)):
        here = np.array(each) == t
        assert records[f"share_{name}"].item() == pytest.approx(here.mean())
        assert records[f"pull_{name}"].item() / here.mean() == pytest.approx(pull[here].mean())


@pytest.mark.parametrize("case", ["constant", "share 0", "one temperature"])
@pytest.mark.parametrize("temperature", [4.0, 3.3])
def test_without_its_own_it_is_dkd_bit_for_bit(make_batch, loss_of, case: str, temperature: float):
    batch = limited(make_batch)
    options = {"constant": {"rule": "constant"}, "share 0": {"share": 0.0}}.get(
        case, {"low_temperature": temperature, "high_temperature": temperature}
    )
    if case == "share 0":
        answers = batch.teacher.logits
        limits = METHODS["energy_dkd"].survey(answers, method_options("energy_dkd", options))
        batch = replace(batch, step=batch.step._replace(limits=limits))
    found = total(loss_of("energy_dkd", batch, temperature=temperature, beta=2.0, **options)[0])
    dkd = total(loss_of("dkd", batch, temperature=temperature, beta=2.0)[0])
    assert torch.equal(found, dkd)
    assert torch.equal(*(torch.autograd.grad(value, batch.student.logits)[0] for value in (found, dkd)))
    changed = total(loss_of("energy_dkd", limited(make_batch), temperature=temperature, beta=2.0)[0])
    assert not torch.equal(changed, dkd)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("count", [7, 64, 1000])
def test_its_survey_leaves_a_share_on_each_side_exact_to_one_sample(share: float, count: int):
    answers = normal(count, 5)
    low, high = METHODS["energy_dkd"].survey(answers, method_options("energy_dkd", {"share": share}))
    groups = energy_groups(energy(answers), (low, high))
    assert int((groups == 0).sum()) == int((groups == 2).sum()) == int(count * share)


def test_shuffled_gives_each_image_the_temperatures_of_another(make_batch, loss_of):
    batch = limited(make_batch)
    order = batch.step.keys.argsort()
    groups = energy_groups(energy(batch.teacher.logits), batch.step.limits)
    taken = energy_temperatures(groups, (2.0, 4.0, 6.0)).view(len(batch.labels), 2)[order].flatten()
    logits = batch.student.logits, batch.teacher.logits
    expected = energy_dkd_losses(*logits, batch.view_labels, taken, 4.0)
    terms, records = loss_of("energy_dkd", batch, rule="shuffled")
    assert torch.equal(terms["tckd"].value, expected[0]) and torch.equal(terms["nckd"].value, expected[1])
    rising, others = loss_of("energy_dkd", batch)
    assert not torch.equal(rising["nckd"].value, expected[1])
    assert all(records[name] == others[name] for name in records if name.startswith("share"))


def test_only_shuffled_depends_on_the_keys(make_batch, loss_of):
    batch = limited(make_batch)
    other = replace(batch, step=batch.step._replace(keys=1 - batch.step.keys))
    for rule in ENERGY_RULES:
        values = [total(loss_of("energy_dkd", b, rule=rule)[0]) for b in (batch, other)]
        assert torch.equal(*values) == (rule != "shuffled")


def test_a_program_of_ones_own_draws_its_order_from_torchs_generator():
    student, teacher, labels = normal(6, 5).float(), normal(6, 5, seed=1).float(), whole(5, 6)
    limits = energy_limits(energy(teacher), 0.35)
    torch.manual_seed(3)
    order = torch.randperm(6)
    each = energy_temperatures(energy_groups(energy(teacher), limits), (2.0, 4.0, 6.0))[order]
    target, others = energy_dkd_losses(student, teacher, labels, each, 4.0)
    torch.manual_seed(3)
    found = EnergyDKDLoss(limits, alpha=0.5, beta=6.0, rule="shuffled")(student, teacher, labels)
    torch.testing.assert_close(found, 16 * (0.5 * target + 6 * others))
