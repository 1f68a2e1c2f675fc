"""Hash codes: closed forms and slow references of the losses, and what becomes of BRCD's under a mask of zeros."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kdlib.elsewhere.hashing import (
    CHECKS,
    HashHead,
    bernoulli_kl,
    bit_masks,
    brcd_loss,
    cibhash_loss,
    codes,
    contrast,
    original_shares,
)

B, L = 6, 8


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bits(seed: int, rows: int = B, width: int = L) -> Tensor:
    return torch.randint(0, 2, (rows, width), generator=draw(seed)).double() * 2 - 1


def probabilities(seed: int, rows: int = B) -> Tensor:
    return torch.rand(rows, L, generator=draw(seed), dtype=torch.float64)


def cosine(a: Tensor, b: Tensor) -> float:
    size = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / size if size else 0.0


CLUSTERS = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 1, 0, 0, 2, 2])  # images 2 and 4 leave theirs


def slow_brcd(student, teacher, clusters, shares, masks, temperature):
    """Image by image, and candidate by candidate."""
    losses = []
    for i in range(len(student)):
        z, m = student[i], masks[i]
        near = cosine(z, teacher[0][i]), cosine(m * z, m * teacher[1][i])
        a = float(shares[i])
        positive = (a * near[0] + (1 - a) * near[1]) / temperature
        others = [
            cosine(m * z, m * teacher[1][j]) / temperature
            for j in range(len(student))
            if j != i and clusters[1][j] != clusters[0][i]
        ]
        losses.append(math.log(math.exp(positive) + math.fsum(map(math.exp, others))) - positive)
    return math.fsum(losses) / len(losses)


# --- codes


def test_codes_are_signs_and_their_gradient_is_that_of_the_identity():
    p = probabilities(0).requires_grad_()
    found = codes(p)
    assert set(found.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(found > 0, p >= 0.5)
    weights = torch.randn(B, L, generator=draw(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * found).sum(), p)
    assert torch.equal(gradient, weights)


def test_a_head_says_how_probable_each_bit_is():
    head = HashHead(5, 3)
    x = torch.randn(4, 5, generator=draw(0))
    expected = 1 / (
        1 + np.exp(-(x.numpy() @ head.linear.weight.detach().numpy().T + head.linear.bias.detach().numpy()))
    )
    np.testing.assert_allclose(head(x).detach().numpy(), expected, rtol=1e-5)


# --- CIBHash


def test_contrast_of_equal_cosines_is_the_log_of_all_others():
    same = torch.ones(B, L, dtype=torch.float64)
    assert contrast(same, same).item() == pytest.approx(math.log(2 * B - 1))
    apart = torch.eye(2 * B, dtype=torch.float64)
    assert contrast(apart[:B], apart[B:]).item() == pytest.approx(math.log(2 * B - 1))


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_contrast_is_the_slow_sum(temperature: float):
    both = torch.cat([bits(0), bits(1)])
    losses = []
    for i in range(2 * B):
        logits = {j: cosine(both[i], both[j]) / temperature for j in range(2 * B) if j != i}
        losses.append(math.log(math.fsum(map(math.exp, logits.values()))) - logits[(i + B) % (2 * B)])
    assert contrast(bits(0), bits(1), temperature).item() == pytest.approx(math.fsum(losses) / (2 * B))


def test_divergence_of_bits_is_the_slow_sum_and_zero_for_equal_ones():
    p, q = probabilities(0), probabilities(1)
    one = lambda a, b: a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))  # noqa: E731
    pairs = list(zip(p.flatten().tolist(), q.flatten().tolist(), strict=True))
    expected = math.fsum(one(a, b) + one(b, a) for a, b in pairs) / 2 / B
    assert bernoulli_kl(p, q).item() == pytest.approx(expected)
    assert bernoulli_kl(p, p).item() == pytest.approx(0, abs=1e-12)
    sure = torch.tensor([[0.0, 1.0]])
    assert bernoulli_kl(sure, 1 - sure).isfinite()


def test_each_divergence_moves_its_first_side_alone():
    p, q = probabilities(0).requires_grad_(), probabilities(1).requires_grad_()
    (gradient,) = torch.autograd.grad(bernoulli_kl(p, q), p)
    logit = lambda x: (x / (1 - x)).log()  # noqa: E731
    torch.testing.assert_close(gradient, ((logit(p) - logit(q)) / 2 / B).detach())


def test_cibhash_is_its_two_terms():
    p, q = probabilities(0), probabilities(1)
    expected = contrast(codes(p), codes(q), 0.5) + 0.1 * bernoulli_kl(p, q)
    torch.testing.assert_close(cibhash_loss(p, q, 0.5, 0.1), expected)
    published = contrast(codes(p), codes(q), 0.3) + 0.001 * bernoulli_kl(p, q)
    torch.testing.assert_close(cibhash_loss(p, q), published, rtol=1e-9, atol=0)


# --- BRCD


def test_masks_keep_the_bits_on_which_a_cluster_agrees():
    known = torch.tensor([[1.0, 1, 1], [1, -1, 1], [1, 1, -1], [1, 1, 1], [-1, 1, 1]])
    clusters = torch.tensor([0, 0, 0, 0, 2])
    # Means of cluster 0: 1, .5, .5. A mean of exactly one half is no agreement.
    assert bit_masks(known, clusters, 3).tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert bit_masks(-known, clusters, 3).tolist() == bit_masks(known, clusters, 3).tolist()


@pytest.mark.parametrize("check", CHECKS)
def test_shares_are_those_of_the_check(check: str):
    teacher, keys = (bits(1), bits(2)), torch.rand(B, generator=draw(3))
    same = [1, 1, 0, 1, 0, 1]
    kept = {
        "none": [1] * B,
        "cluster": same,
        "shuffled": [same[i] for i in sorted(range(B), key=lambda i: keys[i])],
        "cosine": [(cosine(a, b) + 1) / 2 for a, b in zip(*teacher, strict=True)],
    }[check]
    found = original_shares(teacher, CLUSTERS, check, 0.7, keys)
    assert found.tolist() == pytest.approx([1 - 0.3 * k for k in kept])
    assert check == "none" or found.std() > 0


def test_bad_checks_are_named():
    with pytest.raises(ValueError, match="^check = 'sine' is unknown; allowed are none, cluster"):
        original_shares((bits(1), bits(2)), CLUSTERS, "sine")
    with pytest.raises(ValueError, match="^check = 'shuffled' needs keys"):
        original_shares((bits(1), bits(2)), CLUSTERS, "shuffled")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_brcd_is_the_slow_sum(check: str, temperature: float):
    student, teacher, keys = bits(0), (bits(1), bits(2)), torch.rand(B, generator=draw(3))
    shares = original_shares(teacher, CLUSTERS, check, 0.8, keys)
    masks = (torch.rand(B, L, generator=draw(4)) < 0.6).double()
    found = brcd_loss(student, teacher, CLUSTERS, shares, masks, temperature)
    assert found.item() == pytest.approx(slow_brcd(student, teacher, CLUSTERS, shares, masks, temperature))


def test_alone_and_without_masks_and_clusters_it_is_infonce():
    student, teacher = bits(0), (bits(1), bits(2))
    apart = torch.arange(B), torch.arange(B)
    found = brcd_loss(student, teacher, apart, torch.ones(B), torch.ones(B, L).double())
    cosines = student @ teacher[1].T / L
    cosines[range(B), range(B)] = (student * teacher[0]).sum(1) / L
    expected = (torch.logsumexp(cosines / 0.3, 1) - cosines.diagonal() / 0.3).mean()
    torch.testing.assert_close(found, expected)


def test_gradient_is_that_of_a_finite_difference_and_none_reaches_the_teacher():
    student = torch.randn(B, L, generator=draw(0), dtype=torch.float64).requires_grad_()
    teacher = bits(1).requires_grad_(), bits(2).requires_grad_()
    shares, masks = torch.full((B,), 0.8).double(), (probabilities(4) < 0.6).double()
    loss = lambda z: brcd_loss(z, teacher, CLUSTERS, shares, masks)  # noqa: E731
    assert torch.autograd.gradcheck(loss, (student,))
    loss(student).backward()
    assert teacher[0].grad is None and teacher[1].grad is None


# --- the released program: a mask of zeros


def test_under_a_mask_of_zeros_the_augmented_views_do_not_count_at_all():
    """Its mask file holds zeros only. What is left is a closed form of the original views' cosines."""
    student, original, nothing = bits(0), bits(1), torch.zeros(B, L).double()
    shares = original_shares((original, bits(2)), CLUSTERS, "cluster")
    values = [brcd_loss(student, (original, bits(s)), CLUSTERS, shares, nothing) for s in range(2, 12)]
    assert len(set(value.item() for value in values)) == 1
    c, total = (student * original).sum(1) / L, 0.0
    for i in range(B):
        others = sum(int(CLUSTERS[1][j] != CLUSTERS[0][i]) for j in range(B) if j != i)
        logit = float(shares[i] * c[i]) / 0.3
        total -= (logit - math.log(math.exp(logit) + others)) / B
    assert values[0].item() == pytest.approx(total)
    whole = [brcd_loss(student, (original, bits(s)), CLUSTERS, shares, nothing + 1) for s in range(2, 12)]
    assert len(set(value.item() for value in whole)) == 10  # with a mask they do


def test_exchanged_arguments_of_where_make_that_mask():
    """With 1 and 0 exchanged, a cluster keeps the bits on which it disagrees: none, where it agrees on all."""
    agreed = bits(0, rows=1).repeat(B, 1)
    means = agreed.mean(0)
    assert torch.where(means.abs() > 0.5, 0.0, 1.0).sum() == 0
    assert bit_masks(agreed, torch.zeros(B, dtype=torch.int64), 1).sum() == L
