"""Weights and losses of CCD against slow references, at random and at extreme logits, and its terms view by view."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from scipy.spatial.distance import cdist, cosine
from torch import Tensor

from kdlib.methods import Batch, total
from kdlib.methods.ccd import CCD_WEIGHTS, CLUSTERED, ccd_loss, ccd_weights
from kdlib.methods.kd import kd_loss, kl_divergence

from .conftest import CLASSES, IMAGES
from .slow import examples, logit_pairs, normal, slow_cosine, slow_kl, temperatures

# --- weights

CENTRES = {n: normal(4, n, seed=9, scale=10) for n in range(2, 101)}  # by the number of classes


def weights_of(original: Tensor, augmented: Tensor, kind: str = "cosine", keys: Tensor | None = None) -> Tensor:
    """`ccd_weights` with centres."""
    return ccd_weights(original, augmented, kind, keys, CENTRES[original.shape[1]])


def slow_same(a: np.ndarray, b: np.ndarray) -> float:
    """1 if the nearest of the centres is the same one, else 0."""
    first, second = (min(range(4), key=lambda k: math.dist(z, CENTRES[len(z)][k].tolist())) for z in (a, b))
    return float(first == second)


def slow_weights(original: np.ndarray, augmented: np.ndarray, kind: str, keys: np.ndarray) -> np.ndarray:
    pairs = list(zip(original, augmented, strict=True))
    cosine = np.array([slow_cosine(a, b) + 1 for a, b in pairs])
    match kind:
        case "one":
            return np.ones(len(pairs))
        case "mean":
            return np.full(len(pairs), math.fsum(cosine) / len(pairs))
        case "shuffled":
            return np.array([cosine[i] for i in sorted(range(len(pairs)), key=lambda i: keys[i])])
        case "normalised":
            return cosine / (math.fsum(cosine) / len(pairs))
        case "centred":
            return np.array([slow_cosine(a - a.mean(), b - b.mean()) + 1 for a, b in pairs])
        case "softmax":
            return np.array([slow_cosine(special.softmax(a), special.softmax(b)) + 1 for a, b in pairs])
        case "confidence":
            return np.array([max(special.softmax(b)) + 1 for _, b in pairs])
        case "cluster":
            return np.array([slow_same(a, b) for a, b in pairs])
        case "cluster_shuffled":
            return np.array([slow_same(*pairs[i]) for i in sorted(range(len(pairs)), key=lambda i: keys[i])])
    return cosine


@pytest.mark.parametrize("kind", CCD_WEIGHTS)
@examples
@given(pair=logit_pairs(), seed=st.integers(0, 1000))
def test_weights_are_the_slow_reference(kind: str, pair: tuple[Tensor, Tensor], seed: int):
    # Whole numbers: no centred row is almost, but not quite, zero.
    original, augmented = (x.round() for x in pair)
    keys = torch.rand(len(original), generator=torch.Generator().manual_seed(seed))
    found = weights_of(original, augmented, kind, keys)
    expected = slow_weights(original.numpy(), augmented.numpy(), kind, keys.numpy())
    if kind == "normalised" and not expected.all():
        return  # every cosine is -1: 0 / 0
    assert found.shape == (len(original),) and not found.requires_grad
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6 if kind == "centred" else 1e-9)


def test_every_kind_has_a_reference():
    assert set(CCD_WEIGHTS) == {
        *("cosine", "one", "mean", "shuffled"),
        *("normalised", "centred", "softmax", "confidence", "cluster", "cluster_shuffled"),
    }
    a, b, keys = normal(6, 5), normal(6, 5, seed=2), np.arange(6)[::-1]
    results = [tuple(slow_weights(a.numpy(), b.numpy(), kind, keys).round(9)) for kind in CCD_WEIGHTS]
    assert len(set(results)) == len(CCD_WEIGHTS)


def test_default_weight_is_the_cosine():
    a, b = normal(6, 5), normal(6, 5, seed=1)
    assert torch.equal(ccd_weights(a, b), ccd_weights(a, b, "cosine"))


@examples
@given(logit_pairs(), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_cosine_does_not_depend_on_the_scale_of_logits(pair: tuple[Tensor, Tensor], a: float, b: float):
    original, augmented = (x.round() for x in pair)
    weights = ccd_weights(original, augmented)
    torch.testing.assert_close(ccd_weights(a * original, b * augmented), weights, rtol=0, atol=1e-9)
    assert ((weights >= 0) & (weights <= 2)).all()
    torch.testing.assert_close(ccd_weights(augmented, original), weights, rtol=0, atol=1e-12)


def test_cosine_is_two_for_equal_and_zero_for_opposite_and_one_for_orthogonal_logits():
    z = normal(50, 10)
    torch.testing.assert_close(ccd_weights(z, 3 * z), torch.full((50,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(ccd_weights(z, -z), torch.zeros(50, dtype=torch.float64), rtol=0, atol=1e-12)
    axes = torch.eye(4)
    assert torch.equal(ccd_weights(axes, axes.roll(1, 0)), torch.ones(4))
    assert torch.equal(ccd_weights(torch.zeros(2, 4), axes[:2]), torch.ones(2))  # no direction: cosine 0


def test_cosine_is_not_shift_invariant_but_centred_is():
    a, b = normal(6, 5), normal(6, 5, seed=1)
    assert (ccd_weights(a + 5, b + 5) - ccd_weights(a, b)).abs().min() > 0.01
    torch.testing.assert_close(ccd_weights(a + 5, b - 2, "centred"), ccd_weights(a, b, "centred"))


@pytest.mark.parametrize("kind", CCD_WEIGHTS)
def test_weights_and_permutations(kind: str):
    a, b, keys = normal(8, 5), normal(8, 5, seed=1), torch.rand(8, generator=torch.Generator().manual_seed(0))
    weights = weights_of(a, b, kind, keys)
    classes, batch = (torch.randperm(n, generator=torch.Generator().manual_seed(0)) for n in (5, 8))
    renamed = ccd_weights(a[:, classes], b[:, classes], kind, keys, CENTRES[5][:, classes])
    torch.testing.assert_close(renamed, weights)
    permuted = weights_of(a[batch], b[batch], kind, keys)
    if kind.endswith("shuffled"):
        permuted, weights = permuted.sort().values, weights.sort().values
    else:
        weights = weights[batch]
    torch.testing.assert_close(permuted, weights)


def test_shuffled_is_a_permutation_given_by_the_keys():
    a, b = normal(100, 10), normal(100, 10, seed=1)
    cosine = ccd_weights(a, b)
    results = []
    for seed in range(3):
        keys = torch.rand(100, generator=torch.Generator().manual_seed(seed))
        results.append(ccd_weights(a, b, "shuffled", keys))
        assert torch.equal(results[-1].sort().values, cosine.sort().values)
        assert not torch.equal(results[-1], cosine)
    assert not torch.equal(results[0], results[1])
    assert torch.equal(ccd_weights(a, b, "shuffled", torch.arange(100.0)), cosine)


def test_shuffled_weights_are_uniform_over_positions():
    """With 3 samples every one of the 6 orders appears: a chi-square test, error rate 1e-6."""
    a, b = torch.eye(3), torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 0, 0]])
    keys = torch.rand(6000, 3, generator=torch.Generator().manual_seed(0))
    orders = [tuple(ccd_weights(a, b, "shuffled", row).tolist()) for row in keys]
    counts = [orders.count(order) for order in sorted(set(orders))]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-6


def test_normalised_and_mean_keep_the_mean():
    a, b = normal(40, 10), normal(40, 10, seed=1)
    assert ccd_weights(a, b, "normalised").mean().item() == pytest.approx(1)
    mean = ccd_weights(a, b, "mean")
    assert (mean == mean[0]).all() and mean[0].item() == pytest.approx(ccd_weights(a, b).mean().item())


def test_bad_weights_are_named():
    a = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="weight = 'entropy' is unknown; allowed are cosine, one"):
        ccd_weights(a, a, "entropy")
    for kind in ("shuffled", "cluster_shuffled"):
        with pytest.raises(ValueError, match=f"weight = '{kind}' needs keys"):
            weights_of(a, a, kind)
    with pytest.raises(ValueError, match=r"^centres are None; allowed is \[K, 3\]"):
        ccd_weights(a, a, "cluster")
    with pytest.raises(ValueError, match=r"^centres are \[4, 5\]; allowed is \[K, 3\]"):
        ccd_weights(a, a, "cluster", None, CENTRES[5])


def test_a_view_that_leaves_its_cluster_weighs_nothing_and_shuffled_takes_as_many_away():
    centres = torch.tensor([[10.0, 0.0], [0.0, 10.0]])
    original, augmented = torch.eye(2)[[0, 0, 0, 1]], torch.eye(2)[[0, 0, 1, 1]]
    assert ccd_weights(original, augmented, "cluster", None, centres).tolist() == [1, 1, 0, 1]
    keys = torch.tensor([0.9, 0.1, 0.0, 0.5])  # the order 2, 1, 3, 0
    assert ccd_weights(original, augmented, "cluster_shuffled", keys, centres).tolist() == [0, 1, 1, 1]


# --- the loss


@examples
@given(logit_pairs(), logit_pairs(), temperatures, st.integers(0, 100))
def test_ccd_is_the_slow_sum(first: tuple, second: tuple, temperature: float, seed: int):
    n = min(len(first[0]), len(second[0]))
    (s0, t0), (s1, t1) = (tuple(x[:n] for x in pair) for pair in (first, second))
    weights = np.random.default_rng(seed).uniform(0, 2, n)
    kl0, kl1 = slow_kl(s0.numpy(), t0.numpy(), temperature), slow_kl(s1.numpy(), t1.numpy(), temperature)
    expected = 0.5 * (math.fsum(kl0) / n + math.fsum(weights * kl1) / n)
    found = ccd_loss((s0, s1), (t0, t1), torch.from_numpy(weights), temperature)
    assert found.shape == () and found.item() == pytest.approx(expected, rel=1e-9, abs=1e-10)


@examples
@given(logit_pairs(), temperatures)
def test_ccd_with_weight_one_is_kd_on_all_views(pair: tuple[Tensor, Tensor], temperature: float):
    student, teacher = (torch.cat([x, x.flip(1) + 1]) for x in pair)
    one = ccd_weights(teacher[0::2], teacher[1::2], "one")
    ccd = ccd_loss((student[0::2], student[1::2]), (teacher[0::2], teacher[1::2]), one, temperature)
    torch.testing.assert_close(ccd, kd_loss(student, teacher, temperature), rtol=1e-9, atol=1e-12)


def test_weight_zero_leaves_the_original_view_alone_and_ccd_is_linear_in_w():
    s0, s1, t0, t1 = (normal(6, 5, seed=i) for i in range(4))
    w, v = torch.rand(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = lambda weights: ccd_loss((s0, s1), (t0, t1), weights, 4)  # noqa: E731
    zero = torch.zeros(6, dtype=torch.float64)
    torch.testing.assert_close(loss(zero), kd_loss(s0, t0, 4) / 2)
    torch.testing.assert_close(loss(w + v) - loss(zero), loss(w) + loss(v) - 2 * loss(zero))


# --- numerics and gradients


@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_finite_at_extreme_logits_in_float32(size: float, temperature: float):
    draw = torch.Generator().manual_seed(0)
    logits = [torch.randint(-1, 2, (64, 10), generator=draw).float() * size for _ in range(4)]
    s0, s1, t0, t1 = (x.requires_grad_() for x in logits)
    kl = kl_divergence(s0, t0.detach(), temperature)
    assert kl.isfinite().all() and (kl >= 0).all()
    expected = slow_kl(s0.detach().double().numpy(), t0.detach().double().numpy(), temperature)
    np.testing.assert_allclose(kl.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    for kind in CCD_WEIGHTS:
        weights = weights_of(t0, t1, kind, torch.rand(64, generator=draw))
        assert weights.isfinite().all() and (weights >= 0).all(), kind
        loss = ccd_loss((s0, s1), (t0.detach(), t1.detach()), weights, temperature)
        gradients = torch.autograd.grad(loss, (s0, s1))
        assert loss.isfinite() and all(g.isfinite().all() for g in gradients), kind
        assert gradients[0].abs().max() <= 1 / temperature  # |softmax - softmax| <= 1


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e19, 1e30, 3e38])
def test_cosine_in_float32_at_every_scale(size: float):
    z = normal(30, 10, scale=1).float().clamp(-1, 1) * size
    torch.testing.assert_close(ccd_weights(z, z), torch.full((30,), 2.0))
    torch.testing.assert_close(ccd_weights(z, -z), torch.zeros(30), rtol=0, atol=1e-6)


def test_float32_agrees_with_double():
    s0, s1, t0, t1 = (normal(64, 100, seed=i) for i in range(4))
    for kind in CCD_WEIGHTS:
        keys = torch.rand(64, generator=torch.Generator().manual_seed(0))
        results = []
        for kind_of_number in (torch.float32, torch.float64):
            a, b, c, d = (x.to(kind_of_number) for x in (s0, s1, t0, t1))
            results.append(ccd_loss((a, b), (c, d), weights_of(c, d, kind, keys), 4.0))
        assert results[0].dtype == torch.float32
        assert results[0].item() == pytest.approx(results[1].item(), rel=1e-5)


def test_gradients_are_right():
    s0, s1, t0, t1 = (normal(3, 4, seed=i, scale=1).requires_grad_() for i in range(4))
    weights = torch.tensor([0.2, 1.0, 1.9], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s, t: kl_divergence(s, t, 3.0), (s0, t0))
    assert torch.autograd.gradcheck(lambda s, t: kd_loss(s, t, 3.0), (s0, t0))
    assert torch.autograd.gradcheck(lambda a, b, c, d: ccd_loss((a, b), (c, d), weights, 3.0), (s0, s1, t0, t1))


@pytest.mark.parametrize("kind", CCD_WEIGHTS)
def test_no_gradient_flows_into_weights(kind: str):
    t0, t1, s = normal(6, 5).requires_grad_(), normal(6, 5, seed=1).requires_grad_(), normal(6, 5, seed=2)
    weights = weights_of(t0, t1, kind, torch.rand(6, generator=torch.Generator().manual_seed(0)))
    assert not weights.requires_grad and weights.grad_fn is None
    s.requires_grad_()
    ccd_loss((s, s), (t0.detach(), t1.detach()), weights, 4.0).backward()
    assert t0.grad is None and t1.grad is None and s.grad.abs().max() > 0


# --- terms and weights of the method


def by_view(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Logits of student and teacher as [B, V, N]."""
    outputs = (batch.student, batch.teacher)
    return tuple(x.logits.detach().numpy().reshape(IMAGES, batch.views, CLASSES) for x in outputs)


def reference_weights(original: np.ndarray, augmented: np.ndarray, kind: str, keys: np.ndarray) -> np.ndarray:
    """w of each image, from the teacher's logits [B, N] on x and x~, by SciPy's cosine distance."""
    change = {"centred": lambda z: z - z.mean(), "softmax": special.softmax}.get(kind, lambda z: z)
    w = np.array([2 - cosine(change(a), change(b)) for a, b in zip(original, augmented, strict=True)])
    if kind == "one":
        return np.ones(len(w))
    if kind == "mean":
        return np.full(len(w), w.mean())
    if kind == "normalised":
        return w / w.mean()
    if kind == "shuffled":
        return w[np.argsort(keys)]
    if kind == "confidence":
        return np.array([special.softmax(z).max() + 1 for z in augmented])
    if kind in CLUSTERED:
        same = [cdist(z, CENTRES[z.shape[1]].numpy()).argmin(1) for z in (original, augmented)]
        w = (same[0] == same[1]).astype(float)
        return w[np.argsort(keys)] if kind == "cluster_shuffled" else w
    return w


@pytest.mark.parametrize("weight", CCD_WEIGHTS)
def test_ccd_weighs_the_augmented_view(make_batch, loss_of, divergence, weight: str):
    batch = make_batch(2, limits=tuple(CENTRES[CLASSES].flatten().tolist()) if weight in CLUSTERED else None)
    terms, records = loss_of("ccd", batch, weight=weight, temperature=3.0, kd_weight=0.5)
    _, teacher = by_view(batch)
    w = reference_weights(teacher[:, 0], teacher[:, 1], weight, batch.step.keys.numpy())
    kl = divergence(batch.student.logits, batch.teacher.logits, 3.0)
    assert set(terms) == {"ce", "ccd"}
    assert set(records) == {"w"}
    assert (terms["ce"].weight, terms["ccd"].weight) == (1, pytest.approx(0.5 * 9))
    assert terms["ccd"].value.item() == pytest.approx((kl[0::2].mean() + (w * kl[1::2]).mean()) / 2)
    assert records["w"].item() == pytest.approx(w.mean())


def test_ccd_with_weight_one_is_kd_on_two_views_in_value_and_gradient(make_batch, loss_of):
    results = []
    for name, options in (("kd", {}), ("ccd", {"weight": "one"}), ("four_term", {}), ("ccd", {})):
        batch = make_batch(2)
        loss = total(loss_of(name, batch, **options)[0])
        results.append((loss.detach(), *torch.autograd.grad(loss, batch.student.logits)))
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], results[2])
    assert (results[3][1] - results[0][1]).abs().max() > 1e-3  # the cosine does change the gradient


def test_ccd_at_parallel_teacher_logits_doubles_the_augmented_view(make_batch, loss_of, divergence):
    batch = make_batch(2)
    batch.teacher.logits[1::2] = 5 * batch.teacher.logits[0::2]
    terms, records = loss_of("ccd", batch)
    kl = divergence(batch.student.logits, batch.teacher.logits, 4)
    assert records["w"].item() == pytest.approx(2)
    assert terms["ccd"].value.item() == pytest.approx((kl[0::2].mean() + 2 * kl[1::2].mean()) / 2)


@pytest.mark.parametrize(("limits", "said"), [(None, "None"), ((1.0, 2.0), "2 numbers"), ((), "0 numbers")])
def test_without_centres_it_says_so_in_one_sentence(make_batch, loss_of, limits, said: str):
    with pytest.raises(ValueError, match=f"^limits is {said}: they are the centres of clusters") as error:
        loss_of("ccd", make_batch(2, limits=limits), weight="cluster")
    assert "\n" not in str(error.value)
