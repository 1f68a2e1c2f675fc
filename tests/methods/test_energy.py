"""Energies against SciPy, limits and groups by counting, temperatures by rule, and what Energy KD is without them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from torch import Tensor

from kdlib.methods import Batch, total
from kdlib.methods.energy import (
    ENERGY_RULES,
    EnergyKDLoss,
    energy,
    energy_groups,
    energy_kd_loss,
    energy_limits,
    energy_temperatures,
    pulls,
)
from kdlib.methods.kd import kd_loss

from .conftest import IMAGES
from .slow import examples, logit_pairs, normal, slow_kl, temperatures

# --- energies


@examples
@given(logit_pairs(), temperatures, st.floats(-50, 50))
def test_energy_is_scipys_and_bounded_and_moves_with_the_logits(pair: tuple[Tensor, Tensor], t: float, shift: float):
    logits, _ = pair
    found, largest = energy(logits, t), logits.amax(1)
    np.testing.assert_allclose(found.numpy(), -t * special.logsumexp(logits.numpy() / t, axis=1), rtol=0, atol=1e-9)
    assert (largest - 1e-9 <= -found).all() and (-found <= largest + t * math.log(logits.shape[1]) + 1e-9).all()
    torch.testing.assert_close(energy(logits + shift, t), found - shift, rtol=0, atol=1e-9)


def test_the_released_program_takes_the_negative_logarithm_at_temperature_4():
    logits = normal(6, 5)
    expected = [-4 * math.log(math.fsum(math.exp(z / 4) for z in row)) for row in logits.tolist()]
    np.testing.assert_allclose(energy(logits).numpy(), expected)


def test_a_certain_answer_has_low_energy():
    certain, torn, dull = torch.tensor([20.0, 0, 0]), torch.tensor([10.0, 10, 0]), torch.zeros(3)
    assert energy(torch.stack([certain, torn, dull])).argsort().tolist() == [0, 1, 2]


# --- limits and groups


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3, 0.45, 0.5])
@pytest.mark.parametrize("count", [1, 7, 10, 64, 1000])
def test_limits_leave_a_share_on_each_side(share: float, count: int):
    energies = torch.randperm(count, generator=torch.Generator().manual_seed(count)).double()
    low, high = energy_limits(energies, share)
    assert int((energies < low).sum()) == int((energies > high).sum()) == int(count * share)


def test_at_share_0_no_energy_whatever_lies_beyond():
    """The published limits would be the least and the largest of one pass, which later crops can exceed."""
    groups = energy_groups(torch.tensor([-1e30, 0.0, 1e30]), energy_limits(normal(9), 0.0))
    assert groups.tolist() == [1, 1, 1]


def test_the_released_subset_of_he_da_has_the_first_two_images_of_a_batch_whatever_their_energy():
    """The released program joins {0, 1} and H, the images above the limit; ours has H alone."""
    energies = energy(normal(400, 10, seed=3).double())
    limits = energy_limits(energies, 0.5)
    extra, repeated, batches = 0, 0, energies.split(8)
    for some in batches:
        above = torch.where(energy_groups(some, limits) == 2)[0]
        released = torch.cat([torch.tensor([0, 1]), above])
        assert torch.equal(above, torch.where(some > limits[1])[0]) and {0, 1} <= set(released.tolist())
        extra += len(set(released.tolist()) - set(above.tolist()))
        repeated += len(released) - len(released.unique())
    ours = int((energy_groups(energies, limits) == 2).sum())
    assert ours == 200 and extra + repeated == 2 * len(batches) and min(extra, repeated) > len(batches) / 2


def test_energies_at_a_limit_are_in_the_middle():
    assert energy_groups(torch.tensor([-3.0, -2.0, -1.5, -1.0, 0.0]), (-2.0, -1.0)).tolist() == [0, 1, 1, 1, 2]


RULED = {"rising": [2, 4, 6], "falling": [6, 4, 2], "shuffled": [2, 4, 6], "constant": [4, 4, 4]}


@pytest.mark.parametrize("rule", ENERGY_RULES)
def test_each_group_has_the_temperature_of_the_rule(rule: str):
    """The released program is "rising"; the abstract of the paper says "falling"."""
    groups = torch.tensor([2, 0, 1, 1, 2])
    found = energy_temperatures(groups, (2.0, 4.0, 6.0), rule)
    assert found.tolist() == [RULED[rule][g] for g in groups]


def test_both_directions_are_one_with_the_temperatures_exchanged():
    groups = torch.tensor([0, 1, 2, 2, 0])
    one, other = (energy_temperatures(groups, t, rule) for t, rule in (((2, 4, 6), "rising"), ((6, 4, 2), "falling")))
    assert torch.equal(one, other)
    mirrored = energy_temperatures(2 - groups, (2, 4, 6), "falling")
    assert torch.equal(one, mirrored)


# --- the loss


@examples
@given(logit_pairs(), st.lists(temperatures, min_size=5, max_size=5), temperatures)
def test_the_loss_is_the_slow_sum(pair: tuple[Tensor, Tensor], each: list[float], reference: float):
    student, teacher = pair
    each = each[: len(student)]
    slow = [t**2 * slow_kl(s[None].numpy(), z[None].numpy(), t)[0] for s, z, t in zip(*pair, each, strict=True)]
    found = energy_kd_loss(student, teacher, torch.tensor(each, dtype=torch.float64), reference) * reference**2
    assert found.item() == pytest.approx(math.fsum(slow) / len(slow), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 3.3, 4.0])
def test_at_one_temperature_it_is_kd_bit_for_bit(temperature: float):
    student, teacher = normal(6, 5).float().requires_grad_(), normal(6, 5, seed=1).float()
    same = torch.full((6,), temperature, dtype=torch.float64)
    values = [energy_kd_loss(student, teacher, same, temperature), kd_loss(student, teacher, temperature)]
    assert torch.equal(*values)
    assert torch.equal(*(torch.autograd.grad(value, student)[0] for value in values))


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_finite_at_extreme_logits_in_float32(size: float):
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randint(-1, 2, (64, 10), generator=draw).float() * size for _ in range(2))
    assert energy(teacher).isfinite().all()
    each = energy_temperatures(torch.arange(64) % 3, (2.0, 4.0, 6.0))
    loss = energy_kd_loss(student.requires_grad_(), teacher, each, 4.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite() and gradient.isfinite().all() and pulls(student, teacher, each).isfinite().all()
    precise = energy_kd_loss(student.double(), teacher.double(), each, 4.0)
    assert loss.item() == pytest.approx(precise.item(), rel=1e-4)


def test_gradients_are_right():
    student, teacher = (normal(3, 4, seed=i, scale=1).requires_grad_() for i in range(2))
    each = torch.tensor([2.0, 4.0, 6.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s, t: energy_kd_loss(s, t, each, 4.0), (student, teacher))


def test_pulls_are_the_lengths_of_the_gradients():
    """Of T_i^2 KL, sample by sample: from T 2 to 6 they do not grow as 4 to 36."""
    student, teacher = normal(6, 5).requires_grad_(), normal(6, 5, seed=1)
    each = torch.tensor([2.0, 2, 4, 4, 6, 6], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(6 * 16 * energy_kd_loss(student, teacher, each, 4.0), student)
    torch.testing.assert_close(pulls(student, teacher, each), gradient.norm(dim=1))
    same, values = normal(1, 5).expand(2, 5), normal(1, 5, seed=1).expand(2, 5)
    low, high = pulls(same, values, torch.tensor([2.0, 6.0], dtype=torch.float64))
    assert high / low < 2


# --- terms and weights of the method


def limited(make_batch, views: int = 2, **fields) -> Batch:
    """A batch whose limits leave about a third of its views on each side."""
    energies = energy(make_batch(views).teacher.logits)
    return make_batch(views, **{"limits": energy_limits(energies, 0.35)} | fields)


def test_energy_kd_softens_each_view_by_the_energy_of_its_answer(make_batch, loss_of, divergence, surprise):
    batch = limited(make_batch)
    options = {"temperature": 3.0, "low_temperature": 1.5, "high_temperature": 5.0, "ce_weight": 0.3, "kd_weight": 0.7}
    terms, records = loss_of("energy_kd", batch, **options)
    student, teacher = batch.student.logits, batch.teacher.logits
    energies, (low, high) = energy(teacher), batch.step.limits
    each = [1.5 if e < low else 5.0 if e > high else 3.0 for e in energies.tolist()]
    assert len(set(each)) == 3 and list(terms) == ["ce", "kl"]
    rows = [t**2 * divergence(student[i : i + 1], teacher[i : i + 1], t)[0] for i, t in enumerate(each)]
    assert (terms["kl"].value * terms["kl"].weight).item() == pytest.approx(0.7 * np.mean(rows))
    assert terms["kl"].weight == pytest.approx(0.7 * 9) and terms["ce"].weight == 0.3
    assert terms["ce"].value.item() == pytest.approx(surprise(student, batch.view_labels).mean())
    pull = pulls(student, teacher, torch.tensor(each, dtype=torch.float64)).numpy()
    for name, t in (("low", 1.5), ("middle", 3.0), ("high", 5.0)):
        here = np.array(each) == t
        assert records[f"share_{name}"].item() == pytest.approx(here.mean())
        assert records[f"pull_{name}"].item() / here.mean() == pytest.approx(pull[here].mean())


@pytest.mark.parametrize("views", [1, 2, 4])
def test_the_energy_has_a_temperature_of_its_own(make_batch, loss_of, views: int):
    batch = limited(make_batch, views)
    shares = [float(loss_of("energy_kd", batch, energy_temperature=t)[1]["share_high"]) for t in (4.0, 0.5)]
    expected = [float((energy(batch.teacher.logits, t) > batch.step.limits[1]).double().mean()) for t in (4.0, 0.5)]
    assert shares == pytest.approx(expected) and shares[0] != shares[1]


@pytest.mark.parametrize("case", ["constant", "share 0", "one temperature"])
@pytest.mark.parametrize("temperature", [4.0, 3.3])
def test_without_its_own_it_is_kd_bit_for_bit(make_batch, loss_of, case: str, temperature: float):
    batch = limited(make_batch)
    options = {"constant": {"rule": "constant"}, "share 0": {"share": 0.0}}.get(
        case, {"low_temperature": temperature, "high_temperature": temperature}
    )
    if case == "share 0":
        limits = energy_limits(energy(batch.teacher.logits), 0.0)
        batch = replace(batch, step=batch.step._replace(limits=limits))
    found = total(loss_of("energy_kd", batch, temperature=temperature, **options)[0])
    kd = total(loss_of("kd", batch, temperature=temperature, ce_weight=0.1, kd_weight=0.9)[0])
    assert torch.equal(found, kd)
    assert torch.equal(*(torch.autograd.grad(value, batch.student.logits)[0] for value in (found, kd)))
    changed = total(loss_of("energy_kd", limited(make_batch), temperature=temperature)[0])
    assert not torch.equal(changed, kd)


def test_shuffled_gives_each_image_the_temperatures_of_another(make_batch, loss_of):
    """The same shares in each batch: only who has them changes. The keys put the images in order."""
    batch = limited(make_batch)
    order = batch.step.keys.argsort()
    groups = energy_groups(energy(batch.teacher.logits), batch.step.limits)
    taken = energy_temperatures(groups, (2.0, 4.0, 6.0)).view(IMAGES, 2)[order].flatten()
    terms, records = loss_of("energy_kd", batch, rule="shuffled")
    expected = energy_kd_loss(batch.student.logits, batch.teacher.logits, taken, 4.0)
    assert torch.equal(terms["kl"].value, expected)
    rising, others = loss_of("energy_kd", batch)
    assert not torch.equal(rising["kl"].value, expected)
    assert all(records[name] == others[name] for name in records if name.startswith("share"))


def test_only_shuffled_depends_on_the_keys(make_batch, loss_of):
    batch = limited(make_batch)
    other = replace(batch, step=batch.step._replace(keys=1 - batch.step.keys))
    for rule in ENERGY_RULES:
        values = [total(loss_of("energy_kd", b, rule=rule)[0]) for b in (batch, other)]
        assert torch.equal(*values) == (rule != "shuffled")


def test_without_limits_it_says_so_in_one_sentence(make_batch, loss_of):
    with pytest.raises(ValueError, match="^limits is None: they say which energies are low and high") as error:
        loss_of("energy_kd", make_batch(1, limits=None))
    assert "\n" not in str(error.value)


def test_a_program_of_ones_own_draws_its_order_from_torchs_generator():
    student, teacher = normal(6, 5).float(), normal(6, 5, seed=1).float()
    limits = energy_limits(energy(teacher), 0.35)
    torch.manual_seed(3)
    order = torch.randperm(6)
    each = energy_temperatures(energy_groups(energy(teacher), limits), (2.0, 4.0, 6.0))[order]
    torch.manual_seed(3)
    found = EnergyKDLoss(limits, rule="shuffled")(student, teacher)
    torch.testing.assert_close(found, 16 * energy_kd_loss(student, teacher, each, 4.0))
