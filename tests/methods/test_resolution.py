"""A smaller picture for the student: the discrepancy against closed forms, all terms against slow references, and that
nothing but the picture changes."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import spatial
from torch import Tensor

from kdlib.methods import METHODS, Batch, create_method, method_options, total
from kdlib.methods.resolution import Maps, attention_loss, mmd_loss
from kdlib.methods.spkd import spkd_loss
from kdlib.models import Output
from kdlib.models.resolution import Resolution
from kdlib.randomness import seeded

from .slow import normal

OFF = {"gram_weight": 0.0, "mmd_weight": 0.0, "attention_weight": 0.0}
ALL = {"gram_weight": 1.0, "mmd_weight": 1.0, "attention_weight": 1.0}


# --- the discrepancy


def slow_mmd(student: Tensor, teacher: Tensor, bandwidth: float | None) -> float:
    """One pair at a time; distances are SciPy's."""
    s, t = student.detach().double().numpy(), teacher.detach().double().numpy()
    if bandwidth is None:
        squares = np.sort(spatial.distance.pdist(np.concatenate([s, t]), "sqeuclidean"))
        bandwidth = math.sqrt(squares[(len(squares) - 1) // 2])

    def k(a, b):
        return math.exp(-sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / (2 * bandwidth**2))

    pairs = list(itertools.permutations(range(len(s)), 2))
    return math.fsum(k(t[i], t[j]) + k(s[i], s[j]) - 2 * k(t[i], s[j]) for i, j in pairs) / len(pairs)


@pytest.mark.parametrize("bandwidth", [None, 0.5, 3.0])
@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (12, 4)])
def test_it_is_the_slow_sum(bandwidth, shape):
    student, teacher = normal(*shape), normal(*shape, seed=1)
    assert mmd_loss(student, teacher, bandwidth).item() == pytest.approx(
        slow_mmd(student, teacher, bandwidth), rel=1e-9
    )


@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (0.5, 1.0), (1.0, 0.7), (2.0, 2.0)])
def test_of_two_gaussians_it_is_the_closed_form(mu: float, sigma: float):
    """400 samples of 100 each: their mean lies within five standard errors of it (a false alarm in 2 million)."""
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(400, 100, 1, generator=draw, dtype=torch.float64) for _ in range(2))
    found = torch.stack([mmd_loss(a + mu, b, sigma) for a, b in zip(x, y, strict=True)])
    expected = 2 * sigma / math.sqrt(sigma**2 + 2) * (1 - math.exp(-(mu**2) / (2 * (sigma**2 + 2))))
    error = (found.std() / math.sqrt(len(found))).item()
    assert error < 0.004 and abs(found.mean().item() - expected) < 5 * error
    assert mu or (found < 0).any()  # an unbiased estimate of zero


def test_over_all_ways_to_deal_the_rows_its_mean_is_zero():
    """Exactly, of 6 rows into two hands of 3, whatever they are; the biased form would lie above."""
    rows = normal(6, 2)
    found = []
    for hand in itertools.combinations(range(6), 3):
        other = [i for i in range(6) if i not in hand]
        for order in itertools.permutations(other):
            found.append(mmd_loss(rows[list(hand)], rows[list(order)], 2.0).item())
    assert abs(np.mean(found)) < 1e-12 and min(found) < -0.01 < 0.01 < max(found)


def test_it_is_zero_at_equal_samples_and_symmetric():
    one, other = normal(8, 3), normal(8, 3, seed=1)
    assert mmd_loss(one, one).abs() < 1e-12
    torch.testing.assert_close(mmd_loss(one, other), mmd_loss(other, one))
    torch.testing.assert_close(mmd_loss(one + 7, other + 7), mmd_loss(one, other))
    torch.testing.assert_close(mmd_loss(5 * one, 5 * other), mmd_loss(one, other))  # the median scales too


def test_gradients_are_the_numeric_ones():
    one, other = normal(4, 3).requires_grad_(), normal(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t: mmd_loss(s, t, 2.0), (one, other))
    maps = normal(2, 3, 2, 2).requires_grad_(), normal(2, 5, 4, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(attention_loss, maps)


def test_the_bandwidth_is_a_constant_to_the_gradient():
    one, other = normal(6, 3).requires_grad_(), normal(6, 3, seed=1)
    both = np.concatenate([one.detach().numpy(), other.numpy()])
    squares = np.sort(spatial.distance.pdist(both, "sqeuclidean"))
    sigma = math.sqrt(squares[(len(squares) - 1) // 2])
    (found,) = torch.autograd.grad(mmd_loss(one, other), one)
    (expected,) = torch.autograd.grad(mmd_loss(one, other, sigma), one)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("student", "teacher", "bandwidth", "words"),
    [
        ((1, 3), (1, 3), None, r"student is \[1, 3\] and teacher \[1, 3\]; allowed are two samples .* B at least 2"),
        ((4, 3), (4, 2), None, r"student is \[4, 3\] and teacher \[4, 2\]; allowed"),
        ((4, 3), (4, 3), 0.0, r"bandwidth = 0.0 is not allowed"),
        ((4, 3), (4, 3), math.nan, r"bandwidth = nan is not allowed"),
    ],
)
def test_bad_samples_are_named_in_one_sentence(student, teacher, bandwidth, words):
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        mmd_loss(torch.zeros(student), torch.zeros(teacher), bandwidth)
    assert "\n" not in str(caught.value)


# --- attention


def slow_attention(student: Tensor, teacher: Tensor) -> float:
    """The larger map in squares, one image at a time."""

    def attention(maps: np.ndarray, size: int) -> np.ndarray:
        a = (maps**2).mean(0)
        side = len(a) // size
        a = a.reshape(size, side, size, side).mean((1, 3)).ravel()
        return a / np.sqrt((a**2).sum())

    s, t = student.detach().double().numpy(), teacher.detach().double().numpy()
    size = min(s.shape[-1], t.shape[-1])
    each = [((attention(a, size) - attention(b, size)) ** 2).sum() for a, b in zip(s, t, strict=True)]
    return float(np.mean(each))


@pytest.mark.parametrize(("own", "its"), [(2, 4), (4, 4), (6, 3)])
def test_attention_is_the_slow_reference(own: int, its: int):
    student, teacher = normal(3, 2, own, own), normal(3, 5, its, its, seed=1)
    assert attention_loss(student, teacher).item() == pytest.approx(slow_attention(student, teacher), rel=1e-9)
    assert attention_loss(teacher * 1e9, teacher) < 1e-20
    assert attention_loss(torch.zeros_like(student), teacher).item() == pytest.approx(1)  # no direction: zeros stay


# --- the method


def mapped(batch: Batch) -> Batch:
    """The batch with maps of its features."""
    with seeded(0, "test"):
        maps = Maps(batch.student.pooled.shape[1], batch.teacher.pooled.shape[1])
    return Batch(batch.step, batch.student, batch.teacher, maps)


@pytest.mark.parametrize("views", [1, 2])
def test_terms_are_those_of_slow_references(make_batch, loss_of, divergence, surprise, views: int):
    batch = mapped(make_batch(views))
    terms, records = loss_of("resolution", batch, **ALL)
    own, its, maps = batch.student, batch.teacher, batch.memory
    assert list(terms) == ["ce", "kl", "gram", "mmd", "attention"] and records == {}
    assert [t.weight for t in terms.values()] == [1, 16, 1, 1, 1]
    assert terms["ce"].value.item() == pytest.approx(surprise(own.logits, batch.view_labels).mean())
    assert terms["kl"].value.item() == pytest.approx(divergence(own.logits, its.logits, 4).mean())
    torch.testing.assert_close(terms["gram"].value, spkd_loss(own.pooled, its.pooled))
    rows = []
    for features, linear in ((own.pooled, maps.student), (its.pooled, maps.fixed)):
        f = features.detach().numpy() @ linear.weight.detach().double().numpy().T
        rows.append(torch.from_numpy(f / np.sqrt((f**2).sum(1, keepdims=True))))
    assert terms["mmd"].value.item() == pytest.approx(slow_mmd(*rows, None), abs=1e-5)
    levels = [slow_attention(a, b) for a, b in zip(own.stages, its.stages, strict=True)]
    assert terms["attention"].value.item() == pytest.approx(sum(levels))


def test_levels_are_counted_from_the_last(make_batch, loss_of):
    batch = mapped(make_batch(1))
    longer = batch.teacher._replace(stages=(normal(len(batch.labels), 3, 4, 4), *batch.teacher.stages))
    found = [
        loss_of("resolution", Batch(batch.step, batch.student, teacher, batch.memory), **ALL)[0]["attention"].value
        for teacher in (batch.teacher, longer)
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["gram", "mmd", "attention", "kd"])
def test_a_weight_of_0_leaves_a_term_out(make_batch, loss_of, name: str):
    batch = mapped(make_batch(2))
    terms, _ = loss_of("resolution", batch, **ALL | {f"{name}_weight": 0.0})
    assert set(loss_of("resolution", batch, **ALL)[0]) - set(terms) == {"kl" if name == "kd" else name}


def test_without_maps_the_discrepancy_is_refused(make_batch, loss_of):
    with pytest.raises(ValueError, match="^memory is NoneType: it maps the features"):
        loss_of("resolution", make_batch(1))
    assert set(loss_of("resolution", make_batch(1), **OFF)[0]) == {"ce", "kl"}


def test_maps_are_made_where_they_weigh_and_the_teachers_stays(make_method, make_step):
    assert make_method("resolution", **OFF).memory is None
    method = make_method("resolution").train()
    before = {name: p.detach().clone() for name, p in method.memory.named_parameters()}
    weights = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(weights, lr=1.0, weight_decay=0.1)
    total(method(make_step(2))[0]).backward()
    optimiser.step()
    moved = {name: not torch.equal(before[name], p) for name, p in method.memory.named_parameters()}
    assert moved == {"student.weight": True, "fixed.weight": False}


def test_equal_networks_that_see_the_same_leave_the_labels_alone(make_network, make_step):
    """Of a student that is its teacher, only the cross-entropy is above 0."""
    student = make_network(1).eval()
    with seeded(0, "head"):
        method = create_method("resolution", student, student, torch.arange(6), scale=1, **ALL).eval()
    method.memory.student.weight.data = method.memory.fixed.weight.data.clone()
    terms, _ = method(make_step(2))
    assert all(abs(terms[name].value.item()) < 1e-5 for name in ("kl", "gram", "mmd", "attention"))
    assert terms["ce"].value > 0.1


@pytest.mark.parametrize("size", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_stays_finite_at_large_and_at_equal_outputs(make_batch, loss_of, size: float, dtype: torch.dtype):
    made = make_batch(2)
    for equal in (False, True):
        outputs = []
        for output in (made.student, made.teacher):
            pooled = torch.ones_like(output.pooled) if equal else output.pooled
            pooled, *maps = ((size * x).detach().to(dtype).requires_grad_() for x in (pooled, *output.stages))
            logits = (size * output.logits.sign()).detach().float().requires_grad_()
            outputs.append(Output(logits, pooled, tuple(maps)))
        batch = mapped(Batch(made.step, *outputs))
        value = total(loss_of("resolution", batch, **ALL)[0])
        value.backward()
        own = outputs[0]
        assert value.isfinite() and all(x.grad.isfinite().all() for x in (own.logits, own.pooled, *own.stages))


# --- who is given what


INPUTS = {"small": Resolution(2), "upsampled": Resolution(2, enlarged=True)}


@pytest.mark.parametrize("student", INPUTS)
@pytest.mark.parametrize("teacher", ["high", "low"])
def test_both_read_the_same_views_of_which_each_is_given_its_part(make_network, make_step, student, teacher):
    options = {"scale": 2, "student_input": student, "teacher_input": teacher} | OFF
    one, other, step = make_network(0).eval(), make_network(1).eval(), make_step(2, size=16)
    flat = step.views.flatten(0, 1)
    seen = INPUTS[student](flat), INPUTS["upsampled"](flat) if teacher == "low" else flat
    expected = METHODS["kd"].loss(Batch(step, one(seen[0]), other(seen[1])), method_options("kd", {}))[0]
    method = create_method("resolution", one, other, step.labels, **options).eval()
    found = method(step)[0]
    torch.testing.assert_close(found["ce"].value, expected["ce"].value)
    torch.testing.assert_close(found["kl"].value, expected["kl"].value)
    assert other.resolution == Resolution()  # the network that was given is not changed


def test_without_a_teacher_it_is_the_cross_entropy_of_what_is_seen(make_network, make_step, surprise):
    for student, seen in INPUTS.items():
        network, step = make_network(0).eval(), make_step(2, size=16)
        expected = surprise(network(seen(step.views.flatten(0, 1))).logits, step.labels.repeat_interleave(2)).mean()
        terms, _ = create_method("resolution_ce", network, student_input=student).eval()(step)
        assert list(terms) == ["ce"] and terms["ce"].value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("teacher", ["high", "low"])
def test_at_scale_1_without_its_terms_it_is_kd_bit_for_bit(make_network, make_step, teacher):
    step, results = make_step(2, size=16), []
    for name, options in (("kd", {}), ("resolution", {"scale": 1, "teacher_input": teacher} | OFF)):
        method = create_method(name, make_network(0), make_network(1), step.labels, **options).train()
        loss = total(method(step)[0])
        loss.backward()
        results.append((loss, [p.grad for p in method.student.parameters()]))
    (kd, gradients), (found, others) = results
    assert torch.equal(kd, found)
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
