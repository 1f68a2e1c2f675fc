"""The plain program does what kdlib does, image by image: the same operations, the same loss."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.chapters.benchmark import plain
from kdlib.methods.kd import kd_loss
from kdlib.models import create_model
from kdlib.show import pictures
from kdlib.views.ops import OPS, apply_op

MAGNITUDE = 5


@pytest.mark.parametrize("name", OPS)
def test_every_operation_is_close_to_that_of_kdlib(name: str):
    """Mean over pixels; borders and interpolation may differ by a few grey levels."""
    images = pictures.photographs(3)
    ours = apply_op(name, images, MAGNITUDE)
    value = OPS[name].magnitudes[MAGNITUDE] if OPS[name].magnitudes else 0.0
    for image, expected in zip(images, ours, strict=True):
        theirs = np.asarray(plain.PIL_OPS[name](Image.fromarray(image.permute(1, 2, 0).numpy()), value))
        difference = np.abs(theirs.astype(int) - expected.permute(1, 2, 0).numpy().astype(int))
        same = np.abs(theirs.astype(int) - image.permute(1, 2, 0).numpy().astype(int))
        assert difference.mean() < max(3.0, 0.5 * same.mean())


def test_half_of_the_signs_are_negative_and_each_operation_fires_with_p(monkeypatch):
    seen = {name: [] for name in plain.PIL_OPS}
    for name in seen:
        monkeypatch.setitem(plain.PIL_OPS, name, lambda image, v, name=name: seen[name].append(v) or image)
    draws, n = random.Random(0), 3000
    for _ in range(n):
        plain.augment(None, draws)
    for name, values in seen.items():
        if values:  # five standard errors of a binomial share: wrong once in a million
            assert len(values) / n == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / n) ** 0.5)
            negative = np.mean([v < 0 for v in values])
            expected = 0.5 if OPS[name].signed and max(OPS[name].magnitudes) > 0 and any(values) else 0.0
            assert negative == pytest.approx(expected, abs=5 * (0.25 / len(values)) ** 0.5)


def test_the_loss_of_a_step_is_that_of_kd_on_both_views():
    torch.manual_seed(0)
    teacher, student = create_model("resnet8", 10).eval(), create_model("resnet8", 10)
    original, augmented, labels = torch.randn(4, 3, 32, 32), torch.randn(4, 3, 32, 32), torch.tensor([1, 0, 3, 9])
    with torch.no_grad():
        views, both = torch.cat([original, augmented]), torch.cat([labels, labels])
        own, other = student(views).logits, teacher(views).logits
        expected = torch.nn.functional.cross_entropy(own, both) + 16 * kd_loss(own, other, 4.0)
    before = student.fc.weight.clone()
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1)
    loss = plain.step(teacher, student, optimiser, [original, augmented, labels])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert not torch.equal(before, student.fc.weight)
