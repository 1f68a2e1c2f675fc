"""Gates and losses of CRLD against slow references, its terms image by image, and what it becomes without its own."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from torch import Tensor

from kdlib.methods import total
from kdlib.methods.crld import CRLD_GATES, crld_gates, crld_losses
from kdlib.methods.kd import kd_loss

from .conftest import IMAGES
from .slow import examples, logit_pairs, normal, slow_cosine, slow_kl, temperatures

# --- gates


def slow_gates(
    weak: np.ndarray, strong: np.ndarray, kind: str, least: tuple[float, float], keys: np.ndarray
) -> tuple[list, list]:
    """Of each image the factors of divergences from the answers to (weak, strong), within and across views."""
    sure = [
        [float(max(special.softmax(row)) >= bound) for row in view]
        for view, bound in zip((weak, strong), least, strict=True)
    ]
    count, cosine = len(weak), [slow_cosine(a, b) + 1 for a, b in zip(weak, strong, strict=True)]
    match kind:
        case "none" | "cosine":
            sure = [[1.0] * count] * 2
        case "shuffled":
            sure = [[mask[i] for i in sorted(range(count), key=lambda i: keys[i])] for mask in sure]
        case "constant":
            sure = [[math.fsum(mask) / count] * count for mask in sure]
    trust = cosine if kind in ("cosine", "both") else [1.0] * count
    return tuple([[m, m * w] for m, w in zip(mask, trust, strict=True)] for mask in sure)


@pytest.mark.parametrize("kind", CRLD_GATES)
@examples
@given(pair=logit_pairs(), seed=st.integers(0, 1000), least=st.tuples(st.floats(0, 1.1), st.floats(0, 1.1)))
def test_gates_are_the_slow_reference(kind: str, pair: tuple[Tensor, Tensor], seed: int, least: tuple):
    weak, strong = (x.round() for x in pair)
    keys = torch.rand(len(weak), generator=torch.Generator().manual_seed(seed))
    found = crld_gates(weak, strong, kind, least, keys)
    expected = slow_gates(weak.numpy(), strong.numpy(), kind, least, keys.numpy())
    for gate, slow in zip(found, expected, strict=True):
        assert gate.shape == (len(weak), 2) and not gate.requires_grad
        np.testing.assert_allclose(gate.numpy(), slow, rtol=0, atol=1e-9)


def some(count: int = 60) -> tuple[Tensor, Tensor]:
    """Teacher logits on two views, on about half of which it is sure."""
    return normal(count, 5, scale=4), normal(count, 5, seed=1, scale=4)


def test_every_gate_is_another_and_the_methods_own_is_the_default():
    keys = torch.rand(60, generator=torch.Generator().manual_seed(0))
    found = {kind: torch.cat(crld_gates(*some(), kind, (0.9, 0.6), keys), 1) for kind in CRLD_GATES}
    assert len({gate.numpy().round(9).tobytes() for gate in found.values()}) == len(CRLD_GATES)
    assert 0.2 < found["confidence"].mean() < 0.8
    assert torch.equal(torch.cat(crld_gates(*some(), thresholds=(0.9, 0.6)), 1), found["confidence"])
    assert torch.equal(torch.cat(crld_gates(*some()), 1), torch.cat(crld_gates(*some(), "confidence", (0.9, 0.2)), 1))


def test_each_mask_asks_its_own_view():
    sure, unsure = torch.tensor([[9.0, 0, 0]]), torch.tensor([[0.1, 0, 0]])
    assert [gate.tolist() for gate in crld_gates(sure, unsure, thresholds=(0.9, 0.5))] == [[[1, 1]], [[0, 0]]]
    assert [gate.tolist() for gate in crld_gates(unsure, sure, thresholds=(0.9, 0.5))] == [[[0, 0]], [[1, 1]]]
    assert [gate.tolist() for gate in crld_gates(unsure, unsure, thresholds=(0.0, 0.0))] == [[[1, 1]], [[1, 1]]]
    assert [gate.tolist() for gate in crld_gates(sure, sure, thresholds=(1.01, 1.01))] == [[[0, 0]], [[0, 0]]]


def test_shuffling_moves_both_masks_together_and_keeps_their_sum():
    keys = torch.rand(60, generator=torch.Generator().manual_seed(1))
    masks = torch.cat(crld_gates(*some(), thresholds=(0.9, 0.6)), 1)
    shuffled = torch.cat(crld_gates(*some(), "shuffled", (0.9, 0.6), keys), 1)
    assert torch.equal(shuffled, masks[keys.argsort()]) and not torch.equal(shuffled, masks)
    constant = torch.cat(crld_gates(*some(), "constant", (0.9, 0.6)), 1)
    torch.testing.assert_close(constant, masks.mean(0).expand_as(masks))


def test_bad_gates_are_named():
    with pytest.raises(ValueError, match=r"^gate = 'entropy' is unknown; allowed are confidence, none, cosine, both"):
        crld_gates(*some(), "entropy")
    with pytest.raises(ValueError, match=r"^gate = 'shuffled' needs keys: one uniform number for each image"):
        crld_gates(*some(), "shuffled")


# --- the loss


@examples
@given(logit_pairs(), logit_pairs(), temperatures, st.integers(0, 100))
def test_crld_is_the_slow_sum(first: tuple, second: tuple, temperature: float, seed: int):
    n, classes = min(len(first[0]), len(second[0])), min(first[0].shape[1], second[0].shape[1])
    (s0, t0), (s1, t1) = (tuple(x[:n, :classes] for x in pair) for pair in (first, second))
    gates = np.random.default_rng(seed).uniform(0, 2, (2, n, 2))
    pairs = [[(s0, t0), (s1, t1)], [(s1, t0), (s0, t1)]]
    found = crld_losses((s0, s1), (t0, t1), tuple(map(torch.from_numpy, gates)), temperature)
    for value, gate, asked in zip(found, gates, pairs, strict=True):
        each = np.transpose([slow_kl(s.numpy(), t.numpy(), temperature) for s, t in asked])
        expected = math.fsum((gate * each).ravel()) / n
        assert value.shape == () and value.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_masked_images_count_in_the_mean():
    s0, s1, t0, t1 = (normal(6, 5, seed=i) for i in range(4))
    one = torch.zeros(6, 2, dtype=torch.float64)
    one[2] = 1
    within, cross = crld_losses((s0, s1), (t0, t1), (one, one), 4.0)
    only = slice(2, 3)
    torch.testing.assert_close(within, (kd_loss(s0[only], t0[only], 4.0) + kd_loss(s1[only], t1[only], 4.0)) / 6)
    torch.testing.assert_close(cross, (kd_loss(s1[only], t0[only], 4.0) + kd_loss(s0[only], t1[only], 4.0)) / 6)


def test_it_is_zero_where_student_and_teacher_agree_on_both_views():
    t0, t1 = normal(6, 5), normal(6, 5, seed=1)
    within, cross = crld_losses((t0, t1), (t0, t1), crld_gates(t0, t1, "none"), 4.0)
    assert within.abs() < 1e-12 and cross > 0.1  # the views themselves differ
    assert all(value.abs() < 1e-12 for value in crld_losses((t0, t0), (t0, t0), crld_gates(t0, t0, "none"), 4.0))


@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize("kind", CRLD_GATES)
def test_finite_at_extreme_logits_in_float32(size: float, kind: str):
    draw = torch.Generator().manual_seed(0)
    s0, s1, t0, t1 = (torch.randint(-1, 2, (64, 10), generator=draw).float() * size for _ in range(4))
    own = s0.requires_grad_(), s1.requires_grad_()
    gates = crld_gates(t0, t1, kind, keys=torch.rand(64, generator=draw))
    losses = crld_losses(own, (t0, t1), gates, 4.0)
    gradients = torch.autograd.grad(sum(losses), own)
    assert all(x.isfinite().all() for x in (*gates, *losses, *gradients))
    precise = [crld_losses(*((a.double(), b.double()) for a, b in (own, (t0, t1), gates)), 4.0)]
    np.testing.assert_allclose([x.item() for x in losses], [x.item() for x in precise[0]], rtol=1e-4, atol=1e-5)


def test_gradients_are_right():
    s0, s1, t0, t1 = (normal(2, 4, seed=i, scale=1).requires_grad_() for i in range(4))
    gates = tuple(torch.rand(2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert torch.autograd.gradcheck(lambda a, b, c, d: crld_losses((a, b), (c, d), gates, 3.0), (s0, s1, t0, t1))


@pytest.mark.parametrize("kind", CRLD_GATES)
def test_no_gradient_flows_into_gates(kind: str):
    t0, t1 = (x.requires_grad_() for x in some(6))
    gates = crld_gates(t0, t1, kind, keys=torch.rand(6, generator=torch.Generator().manual_seed(0)))
    assert not any(gate.requires_grad for gate in gates)


def test_narrow_logits_are_widened():
    narrow = [normal(6, 5, seed=i).bfloat16() for i in range(4)]
    results = []
    for s0, s1, t0, t1 in (narrow, [x.float() for x in narrow]):
        gates = crld_gates(t0, t1, "both", (0.5, 0.2))
        results.append((*gates, *crld_losses((s0, s1), (t0, t1), gates, 4.0)))
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(*results, strict=True))


# --- terms and weights of the method

LEAST = {"tau_weak": 0.9, "tau_strong": 0.6}


@pytest.mark.parametrize("gate", CRLD_GATES)
def test_crld_adds_the_terms_of_both_views_by_gate(make_batch, loss_of, divergence, surprise, gate: str):
    batch = make_batch(2)
    options = {"temperature": 3.0, "ce_weight": 0.7, "kd_weight": 1.5, "cross_weight": 0.4, "gate": gate} | LEAST
    terms, records = loss_of("crld", batch, **options)
    (s0, s1), (t0, t1) = ([x.logits.detach()[v::2] for v in (0, 1)] for x in (batch.student, batch.teacher))
    gates = np.array(slow_gates(t0.numpy(), t1.numpy(), gate, (0.9, 0.6), batch.step.keys.numpy()))
    within = gates[0] * np.transpose([divergence(s0, t0, 3.0), divergence(s1, t1, 3.0)])
    cross = gates[1] * np.transpose([divergence(s1, t0, 3.0), divergence(s0, t1, 3.0)])
    assert list(terms) == ["ce", "within", "cross"]
    assert [t.weight for t in terms.values()] == pytest.approx([1.4, 9 * 1.5, 9 * 0.4])
    assert terms["within"].value.item() == pytest.approx(within.sum() / IMAGES)
    assert terms["cross"].value.item() == pytest.approx(cross.sum() / IMAGES)
    both = sum(surprise(s, batch.labels).mean() for s in (s0, s1))
    assert terms["ce"].value.item() * 1.4 == pytest.approx(0.7 * both)
    means = {f"gate_{n}": pytest.approx(g.mean()) for n, g in zip(("within", "cross"), gates, strict=True)}
    spreads = {f"gate_{n}_sd": pytest.approx(g.std()) for n, g in zip(("within", "cross"), gates, strict=True)}
    assert gate not in ("cosine", "both") or gates.std() > 0
    recorded = means | (spreads if gate in ("cosine", "both") else {})  # of zeros and ones it follows from the mean
    assert {n: r.item() for n, r in records.items()} == recorded


def value_and_gradient(make_batch, loss_of, name: str, dtype: torch.dtype, **options) -> tuple[Tensor, Tensor]:
    batch = make_batch(2)
    batch.teacher.logits.data = batch.teacher.logits.data.to(dtype)
    batch.student.logits.data = batch.student.logits.data.to(dtype)
    loss = total(loss_of(name, batch, **options)[0])
    return loss.detach(), *torch.autograd.grad(loss, batch.student.logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("off", [{"gate": "none"}, {"tau_weak": 0.0, "tau_strong": 0.0}])
def test_without_gate_and_cross_terms_it_is_kd_on_both_views_bit_for_bit(make_batch, loss_of, dtype, off: dict):
    """As published, CE and twice KD of each view, added; at half of its weights KD itself."""
    kd = value_and_gradient(make_batch, loss_of, "kd", dtype, kd_weight=2.0)
    for weights, factor in (({}, 2), ({"ce_weight": 0.5, "kd_weight": 1.0}, 1)):
        found = value_and_gradient(make_batch, loss_of, "crld", dtype, cross_weight=0.0, **off, **weights)
        assert torch.equal(found[0], factor * kd[0])
        torch.testing.assert_close(found[1], factor * kd[1], rtol=1e-5, atol=1e-7)


def test_a_threshold_above_one_leaves_the_labels_alone(make_batch, loss_of):
    found = value_and_gradient(make_batch, loss_of, "crld", torch.float64, tau_weak=1.01, tau_strong=1.01)
    ce = value_and_gradient(make_batch, loss_of, "kd", torch.float64, kd_weight=0.0)
    assert torch.equal(found[0], 2 * ce[0]) and torch.equal(found[1], 2 * ce[1])


def test_with_two_equal_views_both_terms_are_one(make_batch, loss_of):
    """Under full masks: 2.5 times the divergence of either view, twice."""
    batch = make_batch(2)
    for output in (batch.student, batch.teacher):
        output.logits.data[1::2] = output.logits.data[0::2]
    terms, _ = loss_of("crld", batch, gate="none", ce_weight=0.0)
    kl = kd_loss(batch.student.logits[0::2], batch.teacher.logits[0::2], 4.0)
    torch.testing.assert_close(total(terms), 2.5 * 2 * 16 * kl)


def test_the_cosine_alone_is_ccd(make_batch, loss_of):
    """Without cross terms, at half of the weights: the sum of two views for their mean."""
    ccd = value_and_gradient(make_batch, loss_of, "ccd", torch.float64)
    options = {"gate": "cosine", "cross_weight": 0.0, "ce_weight": 0.5, "kd_weight": 0.5}
    torch.testing.assert_close(value_and_gradient(make_batch, loss_of, "crld", torch.float64, **options), ccd)


def test_only_shuffled_depends_on_the_keys(make_batch, loss_of):
    for gate in CRLD_GATES:
        values = []
        for keys in (torch.arange(6.0) / 6, 1 - torch.arange(6.0) / 6):
            terms, _ = loss_of("crld", make_batch(2, keys=keys), gate=gate, **LEAST)
            values.append(total(terms).detach())
        assert torch.equal(*values) == (gate != "shuffled")
