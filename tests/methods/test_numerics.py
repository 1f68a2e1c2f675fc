"""Losses of several methods at extreme numbers and in narrow ones, their gradients, and on which devices they wait."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kdlib.methods import Batch
from kdlib.methods.base import mixed_cross_entropy
from kdlib.methods.ccd import ccd_loss, ccd_weights
from kdlib.methods.crd import crd_loss, crd_scores
from kdlib.methods.crld import crld_gates, crld_losses
from kdlib.methods.dist import inter_loss, intra_loss
from kdlib.methods.dkd import dkd_losses
from kdlib.methods.four_term import four_term_losses
from kdlib.methods.hsakd import joint_labels
from kdlib.methods.ls import LS_SCALES, ls_loss
from kdlib.methods.spkd import spkd_loss
from kdlib.methods.sskd import ranked_kl, rotation_similarity, rotation_targets
from kdlib.methods.tekap import normal_noise, tekap_loss
from kdlib.models import Output

from .conftest import with_recorder
from .slow import (
    examples,
    logit_pairs,
    normal,
    slow_ce,
    slow_cosine,
    slow_dkd,
    slow_kl,
    slow_ranked,
    slow_spkd,
    unit,
    whole,
)

# --- features


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e30])
def test_features_of_any_size(size: float):
    """Values as in double precision and finite gradients, with a zero row and with rows of very different size."""
    rows = torch.tensor([1, 1e-3, 0, 1, 1e-6, 1, 1, 1])[:, None]
    features = normal(8, 6).float() * rows * size
    features[3] = -features[3].abs()  # no entry above zero
    features.requires_grad_()
    other = normal(8, 6, seed=1).float()
    precise = features.detach().double().numpy()
    loss = spkd_loss(features, other)
    assert loss.item() == pytest.approx(slow_spkd(precise, other.double().numpy()), rel=1e-4)
    similarity = rotation_similarity(features)
    expected = [[slow_cosine(precise[4 * i + r], precise[4 * j]) for j in (0, 1)] for i in (0, 1) for r in (1, 2, 3)]
    np.testing.assert_allclose(similarity.detach().numpy(), expected, rtol=0, atol=1e-6)
    for value in (loss, similarity.square().sum()):
        (gradient,) = torch.autograd.grad(value, features)
        assert gradient.isfinite().all() and gradient.abs().max() > 0
    zeros = torch.zeros(8, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(spkd_loss(zeros, other) + rotation_similarity(zeros).sum(), zeros)
    assert gradient.isfinite().all()


def test_narrow_features_are_widened():
    narrow = normal(8, 6, scale=1).bfloat16()
    index = whole(8, 8, 3)
    for function in (
        lambda x: spkd_loss(x, x.roll(1, 0)),
        rotation_similarity,
        lambda x: crd_scores(x, x, index),
    ):
        assert function(narrow).dtype == torch.float32
        assert torch.equal(function(narrow), function(narrow.float()))


@pytest.mark.parametrize("name", ["spkd", "crd"])
def test_half_precision_features_are_compared_in_float32(make_batch, loss_of, name: str):
    batch = make_batch(1)

    def halved(output: Output) -> Output:
        return output._replace(pooled=output.pooled.half(), stages=tuple(s.half() for s in output.stages))

    batch = with_recorder(Batch(batch.step, halved(batch.student), halved(batch.teacher)))
    terms, _ = loss_of(name, batch)
    if name == "spkd":
        assert terms["sp"].value.dtype == torch.float32
    else:
        assert [x.dtype for x in batch.memory.asked[:2]] == [torch.float32, torch.float32]


# --- logits


def of_logits(s: Tensor, t: Tensor, labels: Tensor, temperature: float = 4.0) -> dict[str, Tensor]:
    """The losses of logits, as functions of a student and a teacher with one label per row."""
    four = four_term_losses((s, s.flip(0)), (t, t.flip(0)), labels, temperature)
    return dict(zip(("tckd", "nckd"), dkd_losses(s, t, labels, temperature), strict=True)) | {
        "ranked": ranked_kl(s, t, labels, temperature, 0.5),
        "four": torch.stack(four),
        "mixed": mixed_cross_entropy(s, labels, labels.flip(0), torch.full_like(s[:, 0], 0.3)),
    }


def slow_of_logits(s: np.ndarray, t: np.ndarray, labels: np.ndarray, temperature: float) -> dict:
    ce = lambda logits, y: np.mean([slow_ce(*pair) for pair in zip(logits, y, strict=True)])  # noqa: E731
    kl = np.mean(slow_kl(s, t, temperature))
    target, others = np.mean([slow_dkd(*row, temperature) for row in zip(s, t, labels, strict=True)], axis=0)
    return {
        "tckd": target, "nckd": others, "ranked": slow_ranked(s, t, labels, temperature, 0.5)[0],
        "four": [ce(s, labels), ce(s[::-1], labels), kl, kl], "mixed": 0.3 * ce(s, labels) + 0.7 * ce(s, labels[::-1]),
    }  # fmt: skip


@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e4, 1e30])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_losses_of_logits_of_any_size_in_float32(size: float, temperature: float):
    s, t = ((whole(3, 64, 10, seed=i) - 1).float() * size for i in range(2))
    labels = whole(10, 64, seed=2)
    found = of_logits(s.requires_grad_(), t, labels, temperature)
    slow = slow_of_logits(*(x.detach().double().numpy() for x in (s, t)), labels.numpy(), temperature)
    assert set(found) == set(slow)
    for name, value in found.items():
        np.testing.assert_allclose(value.detach().numpy(), slow[name], rtol=1e-4, atol=1e-5, err_msg=name)
        (gradient,) = torch.autograd.grad(value.sum(), s, retain_graph=True)
        assert gradient.isfinite().all() and gradient.abs().max() <= 2, name


@examples
@given(logit_pairs(), st.floats(-100, 100), st.integers(0, 10**6))
def test_losses_of_logits_and_permutations(pair: tuple[Tensor, Tensor], shift: float, seed: int):
    student, teacher = pair
    labels, rng = whole(student.shape[1], len(student), seed=seed), np.random.default_rng(seed)
    classes, batch = (torch.from_numpy(rng.permutation(n)) for n in reversed(student.shape))
    found = of_logits(student, teacher, labels)
    permuted = of_logits(student[:, classes], teacher[:, classes], classes.argsort()[labels])
    for name, value in found.items():
        torch.testing.assert_close(permuted[name], value, rtol=1e-8, atol=1e-9)
    for name in ("tckd", "nckd"):
        reordered = of_logits(student[batch], teacher[batch], labels[batch])
        torch.testing.assert_close(reordered[name], found[name], rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(of_logits(student + shift, teacher, labels)[name], found[name], rtol=1e-7, atol=1e-8)


# --- features and logits: gradients, devices


def test_gradients_of_the_other_methods_are_right():
    s, t = (normal(4, 5, seed=i, scale=1).requires_grad_() for i in range(2))
    labels, z = whole(5, 4), torch.tensor(30.0, dtype=torch.float64)
    check = torch.autograd.gradcheck
    assert check(lambda a, b: tuple(of_logits(a, b, labels).values()), (s, t))
    assert check(lambda a, b: spkd_loss(a.unflatten(1, (5, 1, 1)), b[:, :3]), (s, t))
    assert check(rotation_similarity, (torch.cat([s, t]).detach().requires_grad_(),))
    for images in (8, 40):  # all products, or the rows of the bank that are needed
        bank, index = unit(images, 5, seed=2), whole(images, 4, 3, seed=3)
        assert check(lambda a, b=bank, i=index: crd_loss(crd_scores(a, b, i, 1.0), z, len(b)), (s,))


def test_nothing_waits_for_the_device():
    """Tensors on the "meta" device have shapes and no values: whatever needs a value, forward or backward, raises."""
    logits, bank = (torch.empty(8, 10, device="meta", requires_grad=True) for _ in range(2))
    labels = torch.empty(8, dtype=torch.int64, device="meta")
    with pytest.raises(RuntimeError):
        logits[logits > 0]
    values = of_logits(logits, bank, labels) | {
        "ccd": ccd_loss((logits, logits), (bank, bank), ccd_weights(bank, bank), 4.0),
        "crld": sum(crld_losses((logits, logits), (bank, bank), crld_gates(bank, bank, "both"), 4.0)),
        "tekap": tekap_loss(logits, bank, normal_noise(logits[:, 0].detach(), 3, 1, 10), 4.0),
        "ls": sum(ls_loss(logits, bank, 2.0, scale) for scale in LS_SCALES),
        "dist": inter_loss(logits, bank, 4.0) + intra_loss(logits, bank, 4.0),
        "spkd": spkd_loss(logits, bank),
        "rotation": rotation_similarity(logits)[rotation_targets(2, "meta")],
    }
    for index in (labels[:, None], labels[:, None].expand(8, 2)):
        many = torch.empty(15, 10, device="meta")
        values |= {f"crd {index.shape}": crd_loss(crd_scores(logits, many, index), many[0, 0], 15)}
    for value in values.values():
        assert value.device.type == "meta"
        assert torch.autograd.grad(value.sum(), logits)[0].shape == logits.shape
    assert joint_labels(labels).shape == (32,)
