"""Labels of views that mix two images."""

import numpy as np
import pytest
import torch

from kdlib.methods.base import mixed_cross_entropy

from .conftest import CLASSES, IMAGES
from .slow import normal, whole


def test_mixing_with_the_same_label_or_with_all_of_one_image_is_plain_cross_entropy():
    logits, labels, others, share = normal(6, 5), whole(5, 6), whole(5, 6, seed=1), normal(6).sigmoid()
    plain = torch.nn.functional.cross_entropy
    torch.testing.assert_close(mixed_cross_entropy(logits, labels, labels, share), plain(logits, labels))
    for value, target in ((torch.ones(6), labels), (torch.zeros(6), others)):
        torch.testing.assert_close(mixed_cross_entropy(logits, labels, others, value), plain(logits, target))


@pytest.mark.parametrize("name", ["ce", "kd", "spkd", "ccd"])
def test_a_mixed_view_has_both_labels_by_share(make_batch, loss_of, surprise, name: str):
    shares = torch.rand(IMAGES, 2, generator=torch.Generator().manual_seed(5))
    partners = (torch.arange(IMAGES) + 2) % CLASSES
    batch = make_batch(2, teacher=name != "ce", shares=shares, partners=partners)
    each = [
        shares[:, v].numpy() * surprise(batch.student.logits[v::2], batch.labels)
        + (1 - shares[:, v].numpy()) * surprise(batch.student.logits[v::2], partners)
        for v in range(2)
    ]
    assert loss_of(name, batch)[0]["ce"].value.item() == pytest.approx(np.mean(each))
