"""Losses against slow references in double precision, at random and at extreme logits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special, stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdlib.methods.base import mixed_cross_entropy
from kdlib.methods.ccd import CCD_WEIGHTS, ccd_loss, ccd_weights
from kdlib.methods.crd import crd_loss, crd_scores
from kdlib.methods.dkd import dkd_losses
from kdlib.methods.four_term import four_term_losses
from kdlib.methods.hsakd import joint_labels
from kdlib.methods.kd import kd_loss, kl_divergence
from kdlib.methods.spkd import spkd_loss
from kdlib.methods.sskd import ranked_kl, rotation_similarity, rotation_targets

numbers = st.floats(-50, 50, allow_nan=False, width=32)
temperatures = st.sampled_from([0.5, 1.0, 3.0, 4.0, 20.0])
examples = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def logit_pairs(draw) -> tuple[Tensor, Tensor]:
    """Two float64 tensors [B, N], B 1..5, N 2..6."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(2, 6)))
    return tuple(torch.from_numpy(draw(hnp.arrays(np.float64, shape, elements=numbers))) for _ in range(2))


def normal(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


# --- slow references: one sample, one class at a time


def slow_kl(student: np.ndarray, teacher: np.ndarray, temperature: float) -> list[float]:
    values = []
    for s, t in zip(student / temperature, teacher / temperature, strict=True):
        s, t = s - s.max(), t - t.max()  # else huge logits would swallow the logarithm
        log_q, log_p = s - special.logsumexp(s), t - special.logsumexp(t)
        values.append(math.fsum(math.exp(lp) * (lp - lq) for lp, lq in zip(log_p, log_q, strict=True)))
    return values


def slow_cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = math.sqrt(math.fsum(a * a)) * math.sqrt(math.fsum(b * b))
    return math.fsum(a * b) / length if length else 0.0


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
    return cosine


# --- KL


@examples
@given(logit_pairs(), temperatures)
def test_kl_is_the_slow_sum(pair: tuple[Tensor, Tensor], temperature: float):
    student, teacher = pair
    found, expected = kl_divergence(student, teacher, temperature), slow_kl(*(x.numpy() for x in pair), temperature)
    assert found.shape == (len(student),)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(math.fsum(expected) / len(expected), abs=1e-9)


def test_kl_is_scipys():
    student, teacher = normal(20, 10), normal(20, 10, seed=1)
    p, q = (special.softmax(x.numpy() / 4, axis=1) for x in (teacher, student))
    np.testing.assert_allclose(kl_divergence(student, teacher, 4), special.rel_entr(p, q).sum(1), rtol=1e-10)


def test_direction_is_from_the_teacher_to_the_student():
    """A teacher sure of class 0 against a uniform student: log N; the other way round: much more."""
    teacher, student = torch.tensor([[50.0, 0, 0]]), torch.zeros(1, 3)
    assert kl_divergence(student, teacher, 1).item() == pytest.approx(math.log(3), rel=1e-6)
    assert kl_divergence(teacher, student, 1).item() > 30


@examples
@given(logit_pairs(), temperatures, st.floats(-1000, 1000), st.integers(0, 100))
def test_kl_properties(pair: tuple[Tensor, Tensor], temperature: float, shift: float, seed: int):
    student, teacher = pair
    kl = kl_divergence(student, teacher, temperature)
    assert (kl >= -1e-12).all()
    same = torch.zeros(len(kl), dtype=torch.float64)
    torch.testing.assert_close(kl_divergence(teacher, teacher + shift, temperature), same, rtol=0, atol=1e-9)
    torch.testing.assert_close(kl_divergence(student + shift, teacher, temperature), kl, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(kl_divergence(student, teacher - shift, temperature), kl, rtol=1e-8, atol=1e-9)
    rng = np.random.default_rng(seed)
    classes, batch = (torch.from_numpy(rng.permutation(n)) for n in reversed(student.shape))
    torch.testing.assert_close(kl_divergence(student[:, classes], teacher[:, classes], temperature), kl)
    torch.testing.assert_close(kl_divergence(student[batch], teacher[batch], temperature), kl[batch])


@examples
@given(logit_pairs())
def test_kl_is_positive_where_the_softmaxes_differ(pair: tuple[Tensor, Tensor]):
    student, teacher = pair
    p, q = (x.log_softmax(1).exp() for x in (teacher, student))
    distance = (p - q).abs().sum(1)
    kl = kl_divergence(student, teacher, 1.0)
    assert (kl >= distance**2 / 2 - 1e-12).all()  # Pinsker's inequality


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_large_temperatures_match_logits(classes: int):
    """T^2 KL tends to the squared difference of centred logits / (2 N) (Hinton et al., 2015, section 2.1)."""
    student, teacher = normal(8, classes), normal(8, classes, seed=1)
    difference = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    limit = (difference**2).sum(1) / (2 * classes)
    errors = [(t * t * kl_divergence(student, teacher, t) / limit - 1).abs().max().item() for t in (1e2, 1e3, 1e4)]
    assert errors[1] < 1e-2 and errors[2] < 1e-3
    assert errors[0] > errors[1] > errors[2]


# --- CCD weights


@pytest.mark.parametrize("kind", CCD_WEIGHTS)
@examples
@given(pair=logit_pairs(), seed=st.integers(0, 1000))
def test_weights_are_the_slow_reference(kind: str, pair: tuple[Tensor, Tensor], seed: int):
    # Whole numbers: no centred row is almost, but not quite, zero.
    original, augmented = (x.round() for x in pair)
    keys = torch.rand(len(original), generator=torch.Generator().manual_seed(seed))
    found = ccd_weights(original, augmented, kind, keys)
    expected = slow_weights(original.numpy(), augmented.numpy(), kind, keys.numpy())
    if kind == "normalised" and not expected.all():
        return  # every cosine is -1: 0 / 0
    assert found.shape == (len(original),) and not found.requires_grad
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6 if kind == "centred" else 1e-9)


def test_every_kind_has_a_reference():
    assert set(CCD_WEIGHTS) == {
        *("cosine", "one", "mean", "shuffled"),
        *("normalised", "centred", "softmax", "confidence"),
    }
    a, b, keys = normal(6, 5), normal(6, 5, seed=1), np.arange(6)[::-1]
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
    weights = ccd_weights(a, b, kind, keys)
    classes, batch = (torch.randperm(n, generator=torch.Generator().manual_seed(0)) for n in (5, 8))
    torch.testing.assert_close(ccd_weights(a[:, classes], b[:, classes], kind, keys), weights)
    permuted = ccd_weights(a[batch], b[batch], kind, keys)
    if kind == "shuffled":
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


# --- CCD


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
        weights = ccd_weights(t0, t1, kind, torch.rand(64, generator=draw))
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
            results.append(ccd_loss((a, b), (c, d), ccd_weights(c, d, kind, keys), 4.0))
        assert results[0].dtype == torch.float32
        assert results[0].item() == pytest.approx(results[1].item(), rel=1e-5)


def test_gradients_are_right():
    s0, s1, t0, t1 = (normal(3, 4, seed=i, scale=1).requires_grad_() for i in range(4))
    weights = torch.tensor([0.2, 1.0, 1.9], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s, t: kl_divergence(s, t, 3.0), (s0, t0))
    assert torch.autograd.gradcheck(lambda s, t: kd_loss(s, t, 3.0), (s0, t0))
    assert torch.autograd.gradcheck(lambda a, b, c, d: ccd_loss((a, b), (c, d), weights, 3.0), (s0, s1, t0, t1))


def test_kd_gradient_is_the_difference_of_softmaxes():
    student, teacher, temperature = normal(5, 7).requires_grad_(), normal(5, 7, seed=1), 4.0
    (gradient,) = torch.autograd.grad(kd_loss(student, teacher, temperature), student)
    q, p = (special.softmax(x.detach().numpy() / temperature, axis=1) for x in (student, teacher))
    np.testing.assert_allclose(gradient.numpy(), (q - p) / (temperature * 5), atol=1e-14)


@pytest.mark.parametrize("kind", CCD_WEIGHTS)
def test_no_gradient_flows_into_weights(kind: str):
    t0, t1, s = normal(6, 5).requires_grad_(), normal(6, 5, seed=1).requires_grad_(), normal(6, 5, seed=2)
    weights = ccd_weights(t0, t1, kind, torch.rand(6, generator=torch.Generator().manual_seed(0)))
    assert not weights.requires_grad and weights.grad_fn is None
    s.requires_grad_()
    ccd_loss((s, s), (t0.detach(), t1.detach()), weights, 4.0).backward()
    assert t0.grad is None and t1.grad is None and s.grad.abs().max() > 0


def test_bad_weights_are_named():
    a = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="weight = 'entropy' is unknown; allowed are cosine, one"):
        ccd_weights(a, a, "entropy")
    with pytest.raises(ValueError, match="weight = 'shuffled' needs keys"):
        ccd_weights(a, a, "shuffled")


# --- the other methods: slow references from their formulas


def slow_ce(logits: np.ndarray, label: int) -> float:
    return special.logsumexp(logits - logits.max()) - (logits - logits.max())[label]


def slow_dkd(student: np.ndarray, teacher: np.ndarray, label: int, temperature: float) -> tuple[float, float]:
    """TCKD and NCKD of one sample: KL of (p_y, 1 - p_y), and KL over the other classes."""
    two_way = []
    for z in (student / temperature, teacher / temperature):
        z = z - z.max()
        total = special.logsumexp(z)
        two_way.append(np.array([z[label] - total, special.logsumexp(np.delete(z, label)) - total]))
    others = [np.delete(z, label)[None] for z in (student, teacher)]
    return slow_kl(*(x[None] for x in two_way), 1.0)[0], slow_kl(*others, temperature)[0]


def slow_ranked(
    student: np.ndarray, teacher: np.ndarray, targets: np.ndarray, temperature: float, ratio: float
) -> tuple[float, list[int]]:
    """The loss, and the rows that are kept."""
    ranks = [sum(value > row[y] for value in row) for row, y in zip(teacher, targets, strict=True)]
    right = [i for i, rank in enumerate(ranks) if rank == 0]
    wrong = sorted((i for i, rank in enumerate(ranks) if rank > 0), key=lambda i: ranks[i])  # stable
    kept = right + wrong[: int(ratio * len(wrong))]
    each = slow_kl(student, teacher, temperature)
    return math.fsum(each[i] for i in kept) / max(len(kept), 1), kept


def slow_spkd(student: np.ndarray, teacher: np.ndarray) -> float:
    total, grams = 0.0, []
    for maps in (student, teacher):
        f = [row.ravel() for row in maps]
        gram = np.array([[math.fsum(a * b) for b in f] for a in f])
        lengths = [math.sqrt(math.fsum(row * row)) or 1.0 for row in gram]
        grams.append([row / length for row, length in zip(gram, lengths, strict=True)])
    for row_s, row_t in zip(*grams, strict=True):
        total += math.fsum((row_t - row_s) ** 2)
    return total / len(student) ** 2


def slow_crd(scores: np.ndarray, z: float, images: int) -> float:
    k = scores.shape[1] - 1
    total = []
    for row in scores / z:
        total.append(math.log(row[0] / (row[0] + k / images + 1e-7)))
        total += [math.log(k / images / (v + k / images + 1e-7)) for v in row[1:]]
    return -math.fsum(total) / len(scores)


def whole(high: int, *shape: int, seed: int = 0) -> Tensor:
    """Random int64 in 0..high - 1."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def unit(*shape: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(normal(*shape, seed=seed), dim=1)


# --- DKD


@examples
@given(logit_pairs(), temperatures, st.integers(0, 1000))
def test_dkd_is_the_slow_reference_and_splits_kl(pair: tuple[Tensor, Tensor], temperature: float, seed: int):
    student, teacher = pair
    labels = whole(student.shape[1], len(student), seed=seed)
    slow = [slow_dkd(s, t, y, temperature) for s, t, y in zip(*(x.numpy() for x in (*pair, labels)), strict=True)]
    found = dkd_losses(student, teacher, labels, temperature)
    assert [x.shape for x in found] == [(), ()]
    np.testing.assert_allclose([x.item() for x in found], np.mean(slow, axis=0), rtol=1e-9, atol=1e-10)
    for i in range(len(student)):  # KL = TCKD + (1 - p_y) NCKD holds for samples, not for means
        one = slice(i, i + 1)
        target, others = dkd_losses(student[one], teacher[one], labels[one], temperature)
        other_share = 1 - (teacher[i] / temperature).softmax(0)[labels[i]]
        kl = kl_divergence(student[one], teacher[one], temperature)[0]
        torch.testing.assert_close(target + other_share * others, kl, rtol=1e-8, atol=1e-9)


def test_dkd_parts_see_what_they_should():
    student, teacher, labels = normal(6, 5), normal(6, 5, seed=1), whole(5, 6)
    target, others = dkd_losses(student, teacher, labels, 4.0)
    raised = student + 3.0 * torch.nn.functional.one_hot(labels, 5)  # moves p_y, not the other classes' softmax
    moved = dkd_losses(raised, teacher, labels, 4.0)
    assert abs(moved[0] - target) > 0.01
    torch.testing.assert_close(moved[1], others)
    assert dkd_losses(student[:, :2], teacher[:, :2], labels % 2, 4.0)[1] == 0  # one other class: no choice


# --- SSKD and HSAKD


@examples
@given(st.integers(1, 12), st.integers(2, 6), st.floats(0, 1), st.integers(0, 10**6))
def test_ranked_kl_is_the_slow_selection(rows: int, columns: int, ratio: float, seed: int):
    student, targets = normal(rows, columns, seed=seed), whole(columns, rows, seed=seed + 1)
    teacher = whole(4, rows, columns, seed=seed).double()  # whole numbers: many ties, of values and of ranks
    found = ranked_kl(student, teacher, targets, 0.5, ratio)
    expected, _ = slow_ranked(student.numpy(), teacher.numpy(), targets.numpy(), 0.5, ratio)
    assert found.shape == () and found.item() == pytest.approx(expected, rel=1e-9, abs=1e-10)
    everything = ranked_kl(student, teacher, targets, 0.5, 1.0)
    torch.testing.assert_close(everything, kd_loss(student, teacher, 0.5), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ratio", [0.0, 0.29, 0.75, 1.0])
def test_only_kept_rows_get_a_gradient(ratio: float):
    student, teacher = normal(300, 3).requires_grad_(), normal(300, 3, seed=1)
    targets = teacher.argmin(1)  # all wrong, of rank 2 ...
    targets[200:] = teacher[200:].topk(2).indices[:, 1]  # ... or of rank 1
    _, kept = slow_ranked(student.detach().numpy(), teacher.numpy(), targets.numpy(), 4.0, ratio)
    assert len(kept) == int(ratio * 300)
    (gradient,) = torch.autograd.grad(ranked_kl(student, teacher, targets, 4.0, ratio), student)
    expected = torch.zeros_like(student)
    q, p = ((x[kept] / 4).softmax(1) for x in (student.detach(), teacher))
    expected[kept] = (q - p) / (4 * max(len(kept), 1))
    torch.testing.assert_close(gradient, expected)


def test_the_share_of_wrong_rows_is_rounded_down_in_double_precision():
    """0.29 * 100 is 28.999999999999996 in double precision, and 29 in single."""
    student, teacher = torch.zeros(100, 2), torch.tensor([[1.0, 0.0]]).repeat(100, 1)
    student[28, 1] = 50  # the 29th of 100 wrong rows
    targets = torch.ones(100, dtype=torch.int64)
    assert ranked_kl(student, teacher, targets, 1.0, 0.29) < 1
    assert ranked_kl(student, teacher, targets, 1.0, 0.3) > 1
    assert ranked_kl(student, teacher, targets, 1.0, 0.009) == 0  # nothing is kept


@examples
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6))
def test_rotation_similarity_is_the_slow_cosine(images: int, width: int, seed: int):
    features = whole(5, 4 * images, width, seed=seed).double() - 2  # zero vectors too
    found = rotation_similarity(features)
    views = features.numpy()
    expected = [
        [slow_cosine(views[4 * i + r], views[4 * j]) for j in range(images)] for i in range(images) for r in (1, 2, 3)
    ]
    assert found.shape == (3 * images, images)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def test_rotation_targets_point_at_the_own_upright_view():
    own = unit(7, 5)
    similarity = rotation_similarity(own.repeat_interleave(4, 0))  # every view has its image's feature
    targets = rotation_targets(7, torch.device("cpu"))
    assert targets.dtype == torch.int64 and targets.tolist() == [row // 3 for row in range(21)]
    assert torch.equal(similarity.argmax(1), targets)
    torch.testing.assert_close(similarity.gather(1, targets[:, None]), torch.ones(21, 1, dtype=torch.float64))
    features = normal(28, 5)
    changed = features.clone()
    changed[4 * 2 + 3] *= -1  # x2r3: row 3 * 2 + 2 alone
    rows = (rotation_similarity(changed) != rotation_similarity(features)).any(1)
    assert rows.nonzero().flatten().tolist() == [8]


def test_joint_labels_hold_the_label_and_the_turn():
    labels = whole(100, 50)
    joint = joint_labels(labels)
    assert joint.dtype == torch.int64 and joint.shape == (200,)
    assert torch.equal(joint // 4, labels.repeat_interleave(4))
    assert torch.equal(joint % 4, torch.arange(4).repeat(50))
    assert len(joint_labels(torch.arange(10)).unique()) == 40


# --- SPKD


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


# --- CRD


@pytest.mark.parametrize("images", [5, 24, 25, 200])  # 24 is the last for which all products are made
def test_crd_scores_are_the_slow_reference_and_take_the_smaller_way(images: int):
    anchor, bank, index = unit(4, 8), unit(images, 8, seed=1), whole(images, 4, 3, seed=2)

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.data_ptr() != bank.data_ptr():  # not the bank or a view of it
                self.elements = max(self.elements, result.numel())
            return result

    with Largest() as largest:
        found = crd_scores(anchor, bank, index)
    pairs = zip(anchor, index, strict=True)
    expected = [[math.exp(math.fsum((e * bank[j]).tolist()) / 0.07) for j in row] for e, row in pairs]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)
    assert largest.elements == 4 * min(images, 3 * 8)
    torch.testing.assert_close(crd_scores(anchor, bank, index, temperature=0.5), found ** (0.07 / 0.5))


@examples
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 500), st.floats(1e-3, 1e6), st.integers(0, 10**6))
def test_crd_loss_is_the_slow_reference(samples: int, negatives: int, images: int, z: float, seed: int):
    scores = normal(samples, negatives + 1, seed=seed).exp()
    found = crd_loss(scores, torch.tensor(z, dtype=torch.float64), images)
    assert found.shape == () and found.item() == pytest.approx(slow_crd(scores.numpy(), z, images), rel=1e-9)
    order = torch.randperm(negatives, generator=torch.Generator().manual_seed(seed)) + 1
    permuted = torch.cat([scores[:, :1], scores[:, order]], 1).flip(0)
    torch.testing.assert_close(crd_loss(permuted, torch.tensor(z, dtype=torch.float64), images), found)


def test_crd_loss_falls_with_the_positive_and_rises_with_negatives():
    scores = normal(3, 5).exp().requires_grad_()
    (gradient,) = torch.autograd.grad(crd_loss(scores, torch.tensor(2.0), 10), scores)
    assert (gradient[:, 0] < 0).all() and (gradient[:, 1:] > 0).all()


def test_crd_loss_in_float32_with_as_many_negatives_as_published():
    scores = (normal(4, 16385, scale=0.1) / 0.07).exp()
    z = 50_000 * scores.mean()
    found = crd_loss(scores.float(), z.float(), 50_000).item()
    assert found == pytest.approx(slow_crd(scores.numpy(), z.item(), 50_000), rel=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_crd_loss_is_finite_at_extreme_scores(size: float):
    scores = (normal(4, 9).exp().float() * size).requires_grad_()
    loss = crd_loss(scores, torch.tensor(1.0), 50)
    assert loss.item() == pytest.approx(slow_crd(scores.detach().double().numpy(), 1.0, 50), rel=1e-5)
    assert torch.autograd.grad(loss, scores)[0].isfinite().all()


# --- four terms and mixed labels


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


def test_mixing_with_the_same_label_or_with_all_of_one_image_is_plain_cross_entropy():
    logits, labels, others, share = normal(6, 5), whole(5, 6), whole(5, 6, seed=1), normal(6).sigmoid()
    plain = torch.nn.functional.cross_entropy
    torch.testing.assert_close(mixed_cross_entropy(logits, labels, labels, share), plain(logits, labels))
    for value, target in ((torch.ones(6), labels), (torch.zeros(6), others)):
        torch.testing.assert_close(mixed_cross_entropy(logits, labels, others, value), plain(logits, target))


# --- all of them: extremes, permutations, gradients, devices


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
