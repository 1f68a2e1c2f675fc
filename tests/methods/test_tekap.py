"""Noisy teachers of TeKAP: their loss against a slow sum, their noise, and what the method is in one number. Each
statistical test states the probability, over seeds, that a correct program fails it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from scipy import integrate, special, stats
from torch import Tensor

from kdlib.methods import Batch, total
from kdlib.methods.kd import kd_loss
from kdlib.methods.tekap import TeKAPLoss, normal_noise, tekap_loss

from .conftest import CLASSES, IMAGES
from .slow import examples, logit_pairs, normal, slow_kl, temperatures

RATE = 1e-6  # of false alarms, of each statistical test as a whole


def uniform(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


# --- the loss


@examples
@given(logit_pairs(), temperatures)
def test_tekap_is_the_slow_sum(pair: tuple[Tensor, Tensor], temperature: float):
    student, teacher = pair
    noise = normal(3, *teacher.shape, seed=5)
    each = [slow_kl(student.numpy(), (0.9 * teacher + one).numpy(), temperature) for one in noise]
    found = tekap_loss(student, teacher, noise, temperature)
    assert found.shape == ()
    assert found.item() == pytest.approx(sum(math.fsum(row) / len(row) for row in each), rel=1e-9, abs=1e-9)


def test_it_is_zero_at_the_noisy_teacher_and_above_elsewhere():
    teacher, noise = normal(6, 5), normal(1, 6, 5, seed=1)
    assert tekap_loss(0.9 * teacher + noise[0], teacher, noise, 4.0).abs() < 1e-12
    assert tekap_loss(teacher, teacher, torch.zeros(3, 6, 5), 4.0, keep=1.0).abs() < 1e-12
    assert tekap_loss(teacher, teacher, noise, 4.0) > 1e-3


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_finite_at_extreme_logits_in_float32(size: float):
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randint(-1, 2, (64, 10), generator=draw).float() * size for _ in range(2))
    noise = normal_noise(uniform(64), 3, 1, 10)
    loss = tekap_loss(student.requires_grad_(), teacher, noise, 4.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite() and gradient.isfinite().all() and gradient.abs().max() <= 3 / 4
    precise = tekap_loss(student.double(), teacher.double(), noise.double(), 4.0)
    assert loss.item() == pytest.approx(precise.item(), rel=1e-4)


def test_gradients_are_right():
    student, teacher = (normal(2, 4, seed=i, scale=1).requires_grad_() for i in range(2))
    noise = normal(3, 2, 4, seed=2)
    assert torch.autograd.gradcheck(lambda s, t: tekap_loss(s, t, noise, 3.0), (student, teacher))


def test_narrow_logits_are_widened():
    student, teacher = normal(6, 5).bfloat16(), normal(6, 5, seed=1).bfloat16()
    noise = normal_noise(uniform(6), 3, 1, 5)
    found, wide = tekap_loss(student, teacher, noise, 4.0), tekap_loss(student.float(), teacher.float(), noise, 4.0)
    assert found.dtype == torch.float32 and torch.equal(found, wide)


# --- noise


def test_noise_is_a_function_of_an_images_key():
    """Neither of its batch, nor of how many copies there are, nor of torch's generator."""
    keys, state = uniform(8), torch.get_rng_state()
    noise = normal_noise(keys, 3, 2, 10)
    assert noise.shape == (3, 16, 10) and noise.dtype == torch.float32
    assert torch.equal(torch.get_rng_state(), state)
    order = torch.tensor([5, 2, 7])
    rows = torch.stack([2 * order, 2 * order + 1], 1).flatten()
    assert torch.equal(normal_noise(keys[order], 3, 2, 10), noise[:, rows])
    assert torch.equal(normal_noise(keys, 1, 2, 10), noise[:1])
    assert not (noise == normal_noise(uniform(8, seed=1), 3, 2, 10)).any()


def test_noise_is_normal_and_independent():
    """Kolmogorov-Smirnov of all numbers and of one place of all images; correlations of copies, views, classes and
    neighbours, also of squares, by normal tests; error rate 1e-6 in all."""
    images, shape = 20_000, (2, 2, 6)
    noise = normal_noise(uniform(images), *shape).double().view(2, images, 2, 6)
    tests = [stats.kstest(noise.flatten().numpy(), "norm").pvalue, stats.kstest(noise[1, :, 1, 3], "norm").pvalue]
    pairs = {
        "copies": (noise[0], noise[1]), "views": (noise[:, :, 0], noise[:, :, 1]),
        "classes": (noise[..., 1:], noise[..., :-1]), "images": (noise[:, 1:], noise[:, :-1]),
    }  # fmt: skip
    for a, b in pairs.values():
        for power in (1, 2):
            x, y = (v.flatten() ** power for v in (a, b))
            x, y = ((v - v.mean()) / v.std() for v in (x, y))
            tests.append(2 * stats.norm.sf(abs((x * y).mean()) * math.sqrt(len(x))))
    assert len(tests) == 10 and min(tests) > RATE / 10


def test_noise_of_every_key_differs_and_is_finite():
    """The smallest and the largest keys, and neighbours."""
    steps = torch.cat([torch.arange(500), 2**24 - 1 - torch.arange(500)])
    noise = normal_noise((steps.double() / 2**24).float(), 1, 1, 3)[0]
    assert noise.isfinite().all() and len(noise.unique(dim=0)) == 1000
    assert noise.abs().max() < 6


# --- terms and weights of the method


def test_tekap_teaches_the_teacher_and_its_copies(make_batch, loss_of, divergence):
    batch = make_batch(2)
    options = {"temperature": 3.0, "kd_weight": 0.7, "copies": 4, "copies_weight": 0.5, "keep": 0.6, "noise": 2.0}
    terms, records = loss_of("tekap", batch, **options)
    teacher, noise = batch.teacher.logits, normal_noise(batch.step.keys, 4, 2, CLASSES)
    assert list(terms) == ["ce", "kl", "copies"] and records == {}
    assert [t.weight for t in terms.values()] == pytest.approx([0.1, 0.7 * 9, 0.7 * 0.5 * 9])
    assert terms["kl"].value.item() == pytest.approx(divergence(batch.student.logits, teacher, 3.0).mean())
    each = [divergence(batch.student.logits, 0.6 * teacher + 2.0 * one, 3.0).mean() for one in noise]
    assert terms["copies"].value.item() == pytest.approx(np.sum(each))


def gradient_of(batch: Batch, loss: Tensor) -> Tensor:
    return torch.autograd.grad(loss, batch.student.logits)[0]


@pytest.mark.parametrize("noise", [0.1, 3.0])
@pytest.mark.parametrize("copies", [1, 3])
def test_its_gradient_is_that_of_kd_toward_the_mean_target_with_more_weight(make_batch, loss_of, noise, copies):
    """(1 + 0.8 K) T (softmax(z_s / T) - mean target) / rows."""
    batch = make_batch(1)
    terms, _ = loss_of("tekap", batch, copies=copies, noise=noise, ce_weight=0.0, kd_weight=1.0)
    drawn = (noise * normal_noise(batch.step.keys, copies, 1, CLASSES)).double().numpy()
    logits = batch.teacher.logits.numpy()
    targets = [special.softmax(logits / 4, axis=1)] + [special.softmax((0.9 * logits + e) / 4, axis=1) for e in drawn]
    mean = np.average(targets, axis=0, weights=[1] + [0.8] * copies)
    own = special.softmax(batch.student.logits.detach().numpy() / 4, axis=1)
    expected = (1 + 0.8 * copies) * 4 * (own - mean) / IMAGES
    np.testing.assert_allclose(gradient_of(batch, total(terms)).numpy(), expected, rtol=1e-6, atol=1e-9)


def test_the_released_noise_is_about_one_per_cent_of_the_gradient():
    """For logits of 100 classes with standard deviation 4, at T = 4; a copy without noise is a temperature of 4.44."""
    student, teacher = normal(2000, 100, scale=4).requires_grad_(), normal(2000, 100, seed=1, scale=4)
    noise = 0.1 * normal(3, 2000, 100, seed=2, scale=1)

    def gradient(added: Tensor) -> Tensor:
        loss = kd_loss(student, teacher, 4.0) + 0.8 * tekap_loss(student, teacher, added, 4.0)
        return torch.autograd.grad(loss, student)[0]

    without = gradient(torch.zeros_like(noise))
    assert 0.005 < (gradient(noise) - without).norm() / without.norm() < 0.02
    torch.testing.assert_close((0.9 * teacher / 4).softmax(1), (teacher / (4 / 0.9)).softmax(1))
    assert round(4 / 0.9, 2) == 4.44


@pytest.mark.parametrize("off", [{"copies": 0}, {"copies_weight": 0.0}])
def test_without_copies_it_is_kd_bit_for_bit(make_batch, loss_of, off: dict):
    batch = make_batch(2)
    found = total(loss_of("tekap", batch, **off)[0])
    kd = total(loss_of("kd", batch, ce_weight=0.1, kd_weight=0.9)[0])
    assert torch.equal(found, kd) and torch.equal(gradient_of(batch, found), gradient_of(batch, kd))


def test_without_noise_it_does_not_depend_on_the_keys(make_batch, loss_of):
    values = {}
    for noise in (0.0, 0.1):
        values[noise] = [total(loss_of("tekap", make_batch(1, keys=uniform(6, s)), noise=noise)[0]) for s in (0, 1)]
    assert torch.equal(*values[0.0]) and not torch.equal(*values[0.1])
    batch = make_batch(1)
    softer = kd_loss(batch.student.logits, 0.9 * batch.teacher.logits, 4.0)
    torch.testing.assert_close(loss_of("tekap", batch, noise=0.0)[0]["copies"].value, 3 * softer)


def test_noise_does_not_depend_on_how_a_step_is_split(make_batch, loss_of):
    batch = make_batch(2)
    (whole, _), values = loss_of("tekap", batch), []
    for i, part in enumerate(batch.step.split(3)):
        rows = slice(4 * i, 4 * i + 4)
        outputs = (o._replace(logits=o.logits[rows]) for o in (batch.student, batch.teacher))
        values.append(loss_of("tekap", Batch(part, *outputs))[0]["copies"].value)
    torch.testing.assert_close(torch.stack(values).mean(), whole["copies"].value)
    again, _ = loss_of("tekap", replace(batch, step=batch.step._replace(seed=99)))
    assert torch.equal(again["copies"].value, whole["copies"].value)


def test_the_mean_target_is_the_expected_one():
    """Of two classes, over 100,000 draws, against the integral: a normal test at each of three certainties and two
    sizes of noise; error rate 1e-6 in all."""
    count = 100_000
    drawn = normal_noise(uniform(count, seed=3), 1, 1, 2)[0].double()
    for noise in (0.1, 3.0):
        for apart in (0.0, 2.0, 8.0):
            teacher = torch.tensor([apart, 0.0], dtype=torch.float64)
            targets = ((0.9 * teacher + noise * drawn) / 4).softmax(1)[:, 0]

            def density(e: float, apart: float = apart, noise: float = noise) -> float:
                return special.expit((0.9 * apart + math.sqrt(2) * noise * e) / 4) * stats.norm.pdf(e)

            expected, _ = integrate.quad(density, -12, 12)
            z = (targets.mean() - expected) / (targets.std() / math.sqrt(count))
            assert 2 * stats.norm.sf(abs(z.item())) > RATE / 6


def test_a_program_of_ones_own_draws_from_torchs_generator():
    student, teacher = normal(6, 5).float(), normal(6, 5, seed=1).float()
    torch.manual_seed(0)
    keys = torch.rand(6)
    noise = 0.5 * normal_noise(keys, 2, 1, 5)
    expected = 16 * (kd_loss(student, teacher, 4.0) + 0.8 * tekap_loss(student, teacher, noise, 4.0))
    torch.manual_seed(0)
    torch.testing.assert_close(TeKAPLoss(copies=2, noise=0.5)(student, teacher), expected)
