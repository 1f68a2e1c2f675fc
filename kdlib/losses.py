"""Losses as pure functions of logits and features: unweighted, in float32 or better, finite for inputs up to 1e30.

Notation: z_s, z_t are student and teacher logits [B, N]; T is the temperature; KL_T(t||s) is the divergence between
their softmaxes at T. The factor T^2 of Hinton et al. (2015), which keeps gradients comparable across temperatures, is a
weight and is applied by the method. No function waits for the device: shapes never depend on values.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CCD_WEIGHTS = ("cosine", "one", "mean", "shuffled", "normalised", "centred", "softmax", "confidence")


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL_T(t||s) of each sample in nats: float [B] from logits [B, N]."""
    log_p = F.log_softmax(teacher / temperature, dim=1)
    log_q = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Knowledge distillation (Hinton et al., 2015) without its factor T^2: the mean of KL_T over samples, a scalar."""
    return kl_divergence(student, teacher, temperature).mean()


@torch.no_grad()
def ccd_weights(original: Tensor, augmented: Tensor, kind: str = "cosine", keys: Tensor | None = None) -> Tensor:
    """The weight w_i of each augmented view in CCD: float [B] from raw teacher logits [B, N] of x and of x~.

    "cosine" is the method: w = cos(z_t(x), z_t(x~)) + 1, in [0, 2]. The others are controls:
    "one" w = 1 (plain KD on both views); "mean" every w = mean(cosine w) of the batch; "shuffled" cosine w in an order
    given by `keys` (float [B], sorted); "normalised" cosine w / mean; "centred" Pearson correlation + 1; "softmax"
    cosine of the softmaxes + 1; "confidence" the teacher's largest probability on x~, + 1.
    Raises ValueError for an unknown kind, or "shuffled" without keys.
    """
    if kind not in CCD_WEIGHTS:
        raise ValueError(f"weight = {kind!r} is unknown; allowed are {', '.join(CCD_WEIGHTS)}")
    if kind == "one":
        return torch.ones_like(original[:, 0])
    if kind == "confidence":
        return F.softmax(augmented, dim=1).amax(1) + 1
    if kind == "centred":
        original, augmented = (
            original - original.mean(1, keepdim=True),
            augmented - augmented.mean(1, keepdim=True),
        )
    if kind == "softmax":
        original, augmented = F.softmax(original, dim=1), F.softmax(augmented, dim=1)
    weights = _cosine(original, augmented) + 1
    if kind == "mean":
        return weights.mean().expand_as(weights)
    if kind == "normalised":
        return weights / weights.mean().clamp_min(1e-12)
    if kind == "shuffled":
        if keys is None:
            raise ValueError("weight = 'shuffled' needs keys: one uniform number for each sample of the batch")
        return weights[keys.argsort(stable=True)]
    return weights


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of rows, in [-1, 1]. Rows are first scaled by their largest entry, so that squares cannot overflow."""
    a, b = (x / x.abs().amax(1, keepdim=True).clamp_min(1e-30) for x in (a, b))
    return F.cosine_similarity(a, b, dim=1).clamp(-1, 1)


def ccd_loss(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], weights: Tensor, temperature: float
) -> Tensor:
    """Cosine Confidence Distillation without T^2: 1/2 [mean KL_T(x) + mean w KL_T(x~)], a scalar.

    student, teacher: logits [B, N] of (x, x~); weights: float [B]. With w = 1 it equals `kd_loss` over all 2B views.
    """
    original = kl_divergence(student[0], teacher[0], temperature)
    augmented = kl_divergence(student[1], teacher[1], temperature)
    return (original.mean() + (weights * augmented).mean()) / 2


def four_term_losses(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(CE on x, CE on x~, KL_T on x, KL_T on x~), each a mean over the batch, a scalar.

    student, teacher: logits [B, N] of (x, x~), which share the labels int64 [B].
    """
    return (
        F.cross_entropy(student[0], labels),
        F.cross_entropy(student[1], labels),
        kd_loss(student[0], teacher[0], temperature),
        kd_loss(student[1], teacher[1], temperature),
    )


def mixed_cross_entropy(logits: Tensor, labels: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """The mean of share * CE(labels) + (1 - share) * CE(others), a scalar: for images mixed of two, as by CutMix.

    logits: [M, N]; labels, others: int64 [M]; share: float [M], in [0, 1].
    """
    first, second = (F.cross_entropy(logits, target, reduction="none") for target in (labels, others))
    return (share * first + (1 - share) * second).mean()


def dkd_losses(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(TCKD, NCKD) of Decoupled Knowledge Distillation (Zhao et al., CVPR 2022), two means over the batch.

    TCKD: KL_T between the two-way distributions (p_y, 1 - p_y). NCKD: KL_T between the softmaxes over the classes other
    than y. For each sample KL_T = TCKD + (1 - p_y) NCKD, with the teacher's p_y at T. logits [B, N], N >= 2; labels
    int64 [B].
    """
    target = labels[:, None]
    others = torch.arange(student.shape[1] - 1, device=labels.device)
    others = others + (others >= target)  # [B, N - 1]: every class but the label

    def two_way(logits: Tensor) -> Tensor:
        log_p = F.log_softmax(logits / temperature, dim=1)
        return torch.cat([log_p.gather(1, target), log_p.gather(1, others).logsumexp(1, keepdim=True)], dim=1)

    # Logarithms of probabilities are logits at temperature 1.
    tckd = kd_loss(two_way(student), two_way(teacher), 1.0)
    nckd = kd_loss(student.gather(1, others), teacher.gather(1, others), temperature)
    return tckd, nckd


def ranked_kl(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, ratio: float) -> Tensor:
    """The mean of KL_T(t||s) over the rows that the teacher gets right, and a share of the others (a scalar).

    student, teacher: logits or similarities [M, C]; targets: int64 [M], the right column of each row; ratio: in [0, 1].
    The rank of a row is the number of columns with a strictly larger teacher value than its target, so a target that
    ties for the first place is right (rank 0). Rows are sorted by rank, rows of equal rank keep their order, and all
    rows of rank 0 are kept with the first int(ratio * wrong) of the `wrong` others. ratio = 1 keeps all and equals
    `kd_loss`; if nothing is kept the loss is 0. Selection of SSKD (Xu et al., ECCV 2020).
    """
    rank = (teacher > teacher.gather(1, targets[:, None])).sum(1)
    wrong = (rank > 0).sum()
    kept = len(rank) - wrong + (ratio * wrong.double()).long()  # in double precision, as Python's int(ratio * wrong)
    sorted_rows = kl_divergence(student, teacher, temperature)[rank.argsort(stable=True)]
    keep = torch.arange(len(rank), device=rank.device) < kept
    return sorted_rows.where(keep, 0).sum() / kept.clamp_min(1)


def rotation_similarity(features: Tensor) -> Tensor:
    """Cosines [3B, B] of each turned view (x0r1, x0r2, x0r3, x1r1, ...) with each un-turned view (x0r0, x1r0, ...).

    features: [4B, d], interleaved by image (x0r0, x0r1, x0r2, x0r3, x1r0, ...). A zero vector has cosine 0 with all.
    SSKD's s_ij (Xu et al., ECCV 2020), without a temperature; in [-1, 1] up to rounding.
    """
    views = _unit_rows(_widened(features)).unflatten(0, (-1, 4))
    return views[:, 1:].flatten(0, 1) @ views[:, 0].T


def rotation_targets(images: int, device: torch.device | str) -> Tensor:
    """The un-turned view that each turned view came from: int64 [3B], 0, 0, 0, 1, 1, 1, ... for B images."""
    return torch.arange(images, device=device).repeat_interleave(3)


def joint_labels(labels: Tensor) -> Tensor:
    """HSAKD's label 4 y + r of view r = 0..3 (Yang et al., IJCAI 2021): int64 [4B], interleaved by image, from [B]."""
    return (4 * labels[:, None] + torch.arange(4, device=labels.device)).flatten()


def spkd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Similarity-preserving KD (Tung and Mori, ICCV 2019): ||G_t - G_s||_F^2 / B^2, a scalar.

    student, teacher: feature maps [B, ...] of the last stage; their shapes past B may differ. G [B, B] is f f^T of the
    flattened features f, each row divided by its Euclidean norm; a row of zeros stays zero.
    """
    return F.mse_loss(_similarities(student), _similarities(teacher))


def _similarities(features: Tensor) -> Tensor:
    """G of `spkd_loss`. Its rows are unit vectors: the scale of a left row, and of all of f, does not change them."""
    rows = _widened(features).flatten(1)
    return _unit_rows(_scaled(rows, (1,)) @ _scaled(rows, (0, 1)).T)


def crd_scores(anchor: Tensor, bank: Tensor, index: Tensor, temperature: float = 0.07) -> Tensor:
    """exp(<e, m> / temperature), not normalised: float [B, K + 1] (Tian et al., ICLR 2020).

    anchor: embeddings e [B, d]; bank: embeddings m [n, d]; both of unit rows, which bounds the scores. index: int64
    [B, K + 1], rows of the bank: the positive in column 0, then the negatives.
    """
    anchor, bank = _widened(anchor), _widened(bank)
    if len(bank) <= index.shape[1] * bank.shape[1]:  # all B n products take less memory than B (K + 1) rows of the bank
        products = (anchor @ bank.T).gather(1, index)
    else:
        products = (bank[index] @ anchor[:, :, None]).squeeze(2)
    return (products / temperature).exp()


def crd_loss(scores: Tensor, z: Tensor, images: int) -> Tensor:
    """Noise-contrastive loss of CRD (Tian et al., ICLR 2020) in one direction, a scalar.

    -1/B sum [log(v+ / (v+ + K/n + e)) + sum_negatives log((K/n) / (v- + K/n + e))], with v = scores / z and e = 1e-7.
    scores: `crd_scores` [B, K + 1], > 0, the positive in column 0; z: scalar tensor > 0; images: n, rows of the bank.
    """
    noise, tiny = (scores.shape[1] - 1) / images, 1e-7
    positive, negatives = (scores / z).tensor_split([1], dim=1)
    right = positive.log() - (positive + noise + tiny).log()
    # log1p, because v- is far below K/n: a difference of logarithms would lose most digits of thousands of terms.
    wrong = -torch.log1p((negatives + tiny) / noise)
    return -(right.sum() + wrong.sum()) / len(scores)


def _widened(x: Tensor) -> Tensor:
    """x in float32 or better: networks under autocast return features of half the width."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _scaled(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x divided by its largest size along dims, so that squares cannot overflow; zeros stay zeros.

    The divisor is a constant to autograd: only for functions that do not depend on the scale. It is at least 1e-30,
    because the inverse of a smaller one, which a gradient is multiplied with, can overflow.
    """
    size = x.detach().abs().amax(dims, keepdim=True)
    return x / size.where(size > 0, 1).clamp_min(1e-30)


def _unit_rows(x: Tensor) -> Tensor:
    """The rows of x [M, d] divided by their Euclidean norms; a row of zeros stays zero."""
    x = _scaled(x, (1,))
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / norm.where(norm > 0, 1)
