"""Similarities of a batch against a slow reference and against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlib.methods.spkd import spkd_loss

from .conftest import IMAGES
from .slow import examples, normal, slow_spkd, whole


@examples
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_spkd_is_the_slow_reference(images: int, width: int, other: int, seed: int):
    student = whole(5, images, width, 2, 3, seed=seed).double() - 2
    teacher = whole(3, images, other, seed=seed + 1).double() - 1  # rows of zeros too
    found = spkd_loss(student, teacher)
    assert found.shape == ()
    assert found.item() == pytest.approx(slow_spkd(student.numpy(), teacher.numpy()), rel=1e-9, abs=1e-12)


def test_spkd_and_what_does_not_change_it():
    student, teacher = normal(6, 3, 2, 2), normal(6, 5, seed=1)
    loss, order = spkd_loss(student, teacher), torch.randperm(6, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(normal(5, 5, seed=2)).Q
    for s, t in (
        (student[order], teacher[order]),
        (1e-9 * student, -1e9 * teacher),
        (student.flip(2), teacher @ turn),
        (teacher, student),
    ):
        torch.testing.assert_close(spkd_loss(s, t), loss)
    sizes = torch.ones(6, 1, dtype=torch.float64)
    sizes[2] = 3  # the scale of a single sample does
    assert abs(spkd_loss(student, sizes * teacher) - loss) > 1e-4
    assert abs(spkd_loss(student, teacher[order]) - loss) > 1e-4
    assert spkd_loss(teacher @ turn, teacher) < 1e-28


def gram(maps: torch.Tensor) -> np.ndarray:
    f = maps.double().numpy().reshape(len(maps), -1)
    rows = np.array([[np.dot(a, b) for b in f] for a in f])
    return rows / np.array([np.sqrt((row**2).sum()) for row in rows])[:, None]


@pytest.mark.parametrize("views", [1, 2])
def test_spkd_compares_the_last_maps_before_pooling(make_batch, loss_of, views: int):
    batch = make_batch(views)
    terms, records = loss_of("spkd", batch)
    difference = gram(batch.teacher.stages[-1]) - gram(batch.student.stages[-1])
    assert list(terms) == ["ce", "sp"]
    assert records == {}
    assert terms["sp"].weight == 3000
    # Between float32, in which the features are compared, and double precision.
    assert terms["sp"].value.item() == pytest.approx((difference**2).sum() / (IMAGES * views) ** 2, rel=1e-4)
