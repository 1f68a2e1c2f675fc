"""Losses as modules for a training loop of one's own: the method's terms, in one number, with one-sentence errors."""

import doctest
import importlib

import pytest
import torch

from kdlib.methods.ccd import CCD_WEIGHTS, CCDLoss, ccd_loss, ccd_weights
from kdlib.methods.dkd import DKDLoss, dkd_losses
from kdlib.methods.kd import KDLoss, kd_loss
from kdlib.methods.spkd import SPKDLoss, spkd_loss


def logits(seed: int, rows: int = 6, classes: int = 10) -> torch.Tensor:
    return 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 3.0, 4.0])
def test_each_is_its_terms_times_the_square_of_the_temperature(temperature):
    s, t, s2, t2, labels = logits(0), logits(1), logits(2), logits(3), torch.arange(6)
    square = temperature**2
    torch.testing.assert_close(KDLoss(temperature)(s, t), square * kd_loss(s, t, temperature))
    for weight in set(CCD_WEIGHTS) - {"shuffled"}:
        expected = square * ccd_loss((s, s2), (t, t2), ccd_weights(t, t2, weight), temperature)
        torch.testing.assert_close(CCDLoss(temperature, weight)((s, s2), (t, t2)), expected)
    target, others = dkd_losses(s, t, labels, temperature)
    torch.testing.assert_close(DKDLoss(temperature, 2.0, 5.0)(s, t, labels), square * (2 * target + 5 * others))
    maps = torch.randn(6, 4, 3, 3), torch.randn(6, 8, 5, 5)
    torch.testing.assert_close(SPKDLoss()(*maps), spkd_loss(*maps))


def test_shuffled_weights_come_from_torchs_generator():
    pairs = (logits(0), logits(2)), (logits(1), logits(3))
    torch.manual_seed(0)
    keys = torch.rand(6)
    expected = 16 * ccd_loss(*pairs, ccd_weights(*pairs[1], "shuffled", keys), 4.0)
    torch.manual_seed(0)
    torch.testing.assert_close(CCDLoss(4.0, "shuffled")(*pairs), expected)


def test_no_gradient_reaches_the_teacher():
    def free(seed: int) -> torch.Tensor:
        return logits(seed).requires_grad_()

    s, t, s2, t2, labels = free(0), free(1), free(2), free(3), torch.arange(6)
    for loss in (KDLoss()(s, t), CCDLoss()((s, s2), (t, t2)), DKDLoss()(s, t, labels), SPKDLoss()(s, t)):
        s.grad = t.grad = None
        loss.backward()
        assert s.grad.abs().sum() > 0 and t.grad is None and t2.grad is None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: KDLoss()(logits(0), logits(1, classes=9)), r"teacher has the shape \[6, 9\], student has \[6, 10\]"),
        (lambda: KDLoss()(logits(0).long(), logits(1)), r"student is torch.int64 \[6, 10\]; allowed are floating"),
        (lambda: KDLoss()(logits(0)[0], logits(1)), r"student is torch.float32 \[10\]; allowed are"),
        (lambda: KDLoss(0.0), "temperature = 0"),
        (lambda: CCDLoss(weight="sine"), "weight = 'sine'"),
        (lambda: CCDLoss()(logits(0), (logits(1), logits(2))), "student must be a pair: logits on the original views"),
        (
            lambda: CCDLoss()((logits(0), logits(1, rows=5)), (logits(2), logits(3))),
            r"student_augmented has the shape \[5, 10\], student has \[6, 10\]",
        ),
        (lambda: DKDLoss()(logits(0), logits(1), torch.arange(5)), r"labels are torch.int64 \[5\]; allowed is int64"),
        (lambda: DKDLoss(beta=-1.0), "beta = -1"),
        (lambda: SPKDLoss()(torch.zeros(2, 3), torch.zeros(3, 3)), "student has 2 images, teacher 3"),
    ],
)
def test_bad_input_is_one_sentence(call, said):
    with pytest.raises(ValueError, match=f"^{said}") as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("module", ["methods.kd", "methods.ccd", "methods.dkd", "methods.spkd", "views.transforms"])
def test_examples_in_docstrings_run(module):
    found = doctest.testmod(importlib.import_module(f"kdlib.{module}"))
    assert found.attempted > 0 and found.failed == 0
