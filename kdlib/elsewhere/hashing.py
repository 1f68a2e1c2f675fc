"""Hash codes for image search: CIBHash (Qiu et al., 2021) makes them, BRCD (He et al., 2024) distils them, both without
labels.

A code has L bits, -1 or +1; the networks say how probable a +1 is. Both terms compare codes by their cosine.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.lab.measurements import CHECKS, Check
from kdlib.methods.base import check_tensor

SAME = -1000.0  # the logit of a candidate that is no negative
SMALLEST = 1e-12


class HashHead(nn.Module):
    """Pooled features, float [B, d], to the probability that each of L bits is +1: float [B, L] in (0, 1).

    >>> import torch
    >>> HashHead(64, bits=16)(torch.randn(8, 64)).shape
    torch.Size([8, 16])
    """

    def __init__(self, features: int, bits: int):
        super().__init__()
        self.linear = nn.Linear(features, bits)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.linear(features))


def codes(probabilities: Tensor) -> Tensor:
    """+1 where a probability is at least 1/2, else -1: float [B, L]. The gradient passes as if this were the identity.

    >>> import torch
    >>> codes(torch.tensor([[0.2, 0.5, 0.9]])).tolist()
    [[-1.0, 1.0, 1.0]]
    """
    hard = torch.where(probabilities >= 0.5, 1.0, -1.0).to(probabilities.dtype)
    return hard + (probabilities - probabilities.detach())


def contrast(first: Tensor, second: Tensor, temperature: float = 0.3) -> Tensor:
    """NT-Xent of the codes [B, L] of two views: the other view of an image against the other 2 B - 2 codes, a scalar.

    It is log(2 B - 1) where all cosines are equal. temperature: of the cosines, above 0.
    """
    check_tensor("first is", first, "floating", "B", "L")
    check_tensor("second is", second, "floating", *first.shape)
    both = F.normalize(torch.cat([first, second]), dim=1)
    logits = (both @ both.T / temperature).fill_diagonal_(-torch.inf)
    count = len(first)
    partner = torch.arange(2 * count, device=first.device).roll(count)
    return F.cross_entropy(logits, partner)


def bernoulli_kl(first: Tensor, second: Tensor) -> Tensor:
    """1/2 [KL(p||q) + KL(q||p)] of bits' probabilities [B, L], summed over bits, a mean over images: a scalar.

    No gradient reaches the second distribution of each divergence.
    """

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        sides = ((p, q.detach()), (1 - p, 1 - q.detach()))
        return sum(torch.xlogy(a, a.clamp_min(SMALLEST)) - torch.xlogy(a, b.clamp_min(SMALLEST)) for a, b in sides)

    return (divergence(first, second) + divergence(second, first)).sum(1).mean() / 2


def cibhash_loss(first: Tensor, second: Tensor, temperature: float = 0.3, weight: float = 0.001) -> Tensor:
    """`contrast` of the codes of both views, and `weight` times `bernoulli_kl` of their probabilities [B, L]."""
    return contrast(codes(first), codes(second), temperature) + weight * bernoulli_kl(first, second)


def bit_masks(known: Tensor, clusters: Tensor, count: int) -> Tensor:
    """The bits on which a cluster agrees: 1.0 where `|mean bit|` > 1/2, else 0.0, float [count, L].

    known: codes [n, L]; clusters: int64 [n], below `count`. A cluster without codes agrees on no bit.
    """
    sums = known.new_zeros(count, known.shape[1]).index_add_(0, clusters, known)
    means = sums / clusters.bincount(minlength=count).clamp_min(1)[:, None]
    return torch.where(means.abs() > 0.5, 1.0, 0.0).to(known.dtype)


@torch.no_grad()
def original_shares(
    teacher: tuple[Tensor, Tensor],
    clusters: tuple[Tensor, Tensor],
    check: Check = "cluster",
    alpha: float = 0.8,
    keys: Tensor | None = None,
) -> Tensor:
    """alpha_i of each image, float [B] in [alpha, 1]: how much of its positive is the teacher's code of x itself.

    The rest is that of x~. teacher: its codes [B, L] of (x, x~); clusters: int64 [B], the nearest centre of each.
    "cluster" is BRCD: 1, so that x~ counts for nothing, where x~ has left the cluster of x, else alpha. The others are
    controls: "none" alpha for all; "shuffled" those of "cluster" in an order given by `keys` (float [B], sorted);
    "cosine" the share of x~ is (1 - alpha) (cos + 1) / 2 with the cosine of both codes, as CCD weighs softly.
    Raises ValueError for an unknown check, or "shuffled" without keys.
    """
    if check not in CHECKS:
        raise ValueError(f"check = {check!r} is unknown; allowed are {', '.join(CHECKS)}")
    original, augmented = teacher
    kept = torch.ones_like(original[:, 0])
    if check == "cosine":
        kept = (F.cosine_similarity(original, augmented, dim=1) + 1) / 2
    if check in ("cluster", "shuffled"):
        kept = (clusters[0] == clusters[1]).to(original.dtype)
    if check == "shuffled":
        if keys is None:
            raise ValueError("check = 'shuffled' needs keys: one uniform number for each image of the batch")
        kept = kept[keys.argsort(stable=True)]
    return 1 - (1 - alpha) * kept


def brcd_loss(
    student: Tensor,
    teacher: tuple[Tensor, Tensor],
    clusters: tuple[Tensor, Tensor],
    shares: Tensor,
    masks: Tensor,
    temperature: float = 0.3,
) -> Tensor:
    """The term of BRCD that distils, a scalar, the mean over images.

    student: codes [B, L] of x; teacher: its codes [B, L] of (x, x~), without gradient; clusters: int64 [B] of both;
    shares: alpha_i, see `original_shares`; masks: float [B, L], that of the cluster of x. The positive of image i has
    the logit alpha_i cos(z_S(x), t(x)) / tau + (1 - alpha_i) cos(m z_S(x), m t(x~)) / tau. Its negatives are the
    teacher's codes of the other augmented views, masked as well, but for those in the cluster of x. A cosine with
    nothing left under the mask is 0.
    """
    original, augmented = (code.detach() for code in teacher)
    masked = masks * student
    sizes = torch.linalg.vector_norm(masked, dim=1, keepdim=True) * (masks @ augmented.square().T).sqrt()
    candidates = masked @ augmented.T / sizes.clamp_min(SMALLEST)
    straight = F.cosine_similarity(student, original, dim=1)
    positive = (shares * straight + (1 - shares) * candidates.diagonal()) / temperature
    same = clusters[0][:, None] == clusters[1][None, :]
    logits = torch.where(same, SAME, candidates / temperature)
    logits = torch.diagonal_scatter(logits, positive)
    return F.cross_entropy(logits, torch.arange(len(student), device=student.device))
