"""The four terms against slow means, and view by view."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlib.chapters.which_images import UNLABELLED
from kdlib.methods import total
from kdlib.methods.base import mixed_cross_entropy
from kdlib.methods.four_term import four_term_losses

from .slow import examples, logit_pairs, slow_ce, slow_kl, temperatures, whole


@examples
@given(logit_pairs(), logit_pairs(), temperatures, st.integers(0, 1000))
def test_four_terms_and_mixed_labels_are_slow_means(first: tuple, second: tuple, temperature: float, seed: int):
    n, c = (min(a, b) for a, b in zip(first[0].shape, second[0].shape, strict=True))
    (s0, t0), (s1, t1) = ([x[:n, :c] for x in pair] for pair in (first, second))
    labels, others = whole(c, n, seed=seed), whole(c, n, seed=seed + 1)
    ce0, ce1 = ([slow_ce(z, y) for z, y in zip(s.numpy(), labels, strict=True)] for s in (s0, s1))
    kl0, kl1 = (slow_kl(s.numpy(), t.numpy(), temperature) for s, t in ((s0, t0), (s1, t1)))
    found = four_term_losses((s0, s1), (t0, t1), labels, temperature)
    assert [x.shape for x in found] == [()] * 4
    np.testing.assert_allclose([x.item() for x in found], np.mean([ce0, ce1, kl0, kl1], axis=1), rtol=1e-9, atol=1e-10)

    share = np.random.default_rng(seed).uniform(0, 1, n)
    other = [slow_ce(z, y) for z, y in zip(s0.numpy(), others, strict=True)]
    expected = math.fsum(a * x + (1 - a) * y for a, x, y in zip(share, ce0, other, strict=True)) / n
    mixed = mixed_cross_entropy(s0, labels, others, torch.from_numpy(share))
    assert mixed.shape == () and mixed.item() == pytest.approx(expected, rel=1e-9, abs=1e-10)


def test_four_terms_are_those_of_each_view(make_batch, loss_of, divergence, surprise):
    batch = make_batch(2)
    terms, records = loss_of("four_term", batch, temperature=3.0, weights=(1.0, 2.0, 3.0, 5.0))
    ce = surprise(batch.student.logits, batch.view_labels)
    kl = divergence(batch.student.logits, batch.teacher.logits, 3.0)
    expected = {
        "ce_original": (ce[0::2].mean(), 0.5 * 1), "ce_augmented": (ce[1::2].mean(), 0.5 * 2),
        "kl_original": (kl[0::2].mean(), 4.5 * 3), "kl_augmented": (kl[1::2].mean(), 4.5 * 5),
    }  # fmt: skip
    assert records == {}
    assert list(terms) == list(expected)
    for name, (value, weight) in expected.items():
        assert terms[name].value.item() == pytest.approx(value)
        assert terms[name].weight == pytest.approx(weight)


def test_a_weight_of_zero_leaves_a_view_out(make_batch, loss_of):
    batch = make_batch(2)
    loss = total(loss_of("four_term", batch, weights=(1.0, 0.0, 1.0, 0.0))[0])
    (gradient,) = torch.autograd.grad(loss, batch.student.logits)
    assert not gradient[1::2].any()
    assert gradient[0::2].abs().min() > 0


def test_of_mixed_views_each_label_counts_by_its_share_and_only_in_its_own_term(make_batch, loss_of):
    shares = torch.tensor([[1.0, a] for a in (0.0, 0.25, 0.5, 0.6, 0.9, 1.0)])
    batch = make_batch(2)
    mixed = replace(batch, step=batch.step._replace(shares=shares, partners=batch.labels.flip(0)))
    plain, found = (loss_of("four_term", b)[0] for b in (batch, mixed))
    expected = mixed_cross_entropy(batch.student.logits[1::2], batch.labels, batch.labels.flip(0), shares[:, 1])
    assert torch.equal(found["ce_augmented"].value, expected)
    assert not torch.equal(expected, plain["ce_augmented"].value)
    assert all(torch.equal(found[name].value, plain[name].value) for name in found if name != "ce_augmented")
    whole_images = replace(mixed, step=mixed.step._replace(shares=torch.ones(6, 2)))
    assert torch.equal(total(loss_of("four_term", whole_images)[0]), total(plain))


def test_as_kd_it_is_kd_on_mixed_views_too(make_batch, loss_of):
    shares = torch.rand(6, 2, generator=torch.Generator().manual_seed(0))
    shares[:, 0] = 1
    batch = make_batch(2, shares=shares, partners=torch.arange(6) % 4)
    found, kd = (total(loss_of(name, batch)[0]) for name in ("four_term", "kd"))
    torch.testing.assert_close(found, kd)


def test_the_loss_of_he_da_has_no_label_on_the_second_view(make_batch, loss_of, divergence, surprise):
    """0.1 CE(x) + 0.9 T^2 KL(x) + 0.9 T^2 KL(x~), each a mean over its views."""
    batch = make_batch(2, shares=torch.full((6, 2), 0.5), partners=torch.arange(6) % 4)
    found = total(loss_of("four_term", batch, **UNLABELLED)[0])
    ce = surprise(batch.student.logits, batch.view_labels)[0::2].mean()
    kl = divergence(batch.student.logits, batch.teacher.logits, 4.0)
    assert found.item() == pytest.approx(0.1 * ce + 0.9 * 16 * (kl[0::2].mean() + kl[1::2].mean()))
