"""The loss of features: a slow sum, over the tokens that count and no others."""

import numpy as np
import pytest
import torch

from kdlib.elsewhere.masked.losses import feature_loss, targets


def material(scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(2)
    predicted, tokens = (scale * torch.randn(3, 8, 5, generator=made) for _ in range(2))
    return predicted, tokens, torch.rand(3, 8, generator=made) < 0.5


def test_it_is_the_slow_sum():
    predicted, tokens, counted = material()
    total, count = 0.0, 0
    for b in range(3):
        for n in range(8):
            if not counted[b, n]:
                continue
            token = tokens[b, n].double().numpy()
            wanted = (token - token.mean()) / np.sqrt(token.var() + 1e-6)
            error = np.abs(predicted[b, n].double().numpy() - wanted)
            total, count = total + np.where(error < 1, error**2 / 2, error - 0.5).mean(), count + 1
    assert feature_loss(predicted, tokens, counted).item() == pytest.approx(total / count, rel=1e-5)


def test_visible_tokens_are_ignored():
    predicted, tokens, counted = material()
    loss = feature_loss(predicted.requires_grad_(), tokens, counted)
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert (gradient[~counted] == 0).all() and (gradient[counted] != 0).any(1).all()
    noise = torch.randn_like(tokens) * ~counted[..., None]
    assert torch.equal(loss, feature_loss(predicted + 10 * noise, tokens + noise, counted))


def test_a_student_that_says_the_targets_loses_nothing():
    _, tokens, counted = material()
    assert feature_loss(targets(tokens), 3 * tokens + 2, counted).item() == pytest.approx(0, abs=1e-10)


def test_the_gradient_is_the_numeric_one():
    predicted, tokens, counted = (part.double() if part.is_floating_point() else part for part in material())
    assert torch.autograd.gradcheck(lambda x: feature_loss(x, tokens[:2], counted[:2]), predicted[:2].requires_grad_())


def test_large_numbers_stay_finite():
    predicted, tokens, counted = material(1e4)
    loss = feature_loss(predicted.requires_grad_(), tokens, counted)
    loss.backward()
    assert loss.isfinite() and predicted.grad.isfinite().all()
