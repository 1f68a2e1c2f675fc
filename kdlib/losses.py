"""Losses as pure functions of logits: unweighted, in float32 or better, finite for logits up to 1e30 in size.

Notation: z_s, z_t are student and teacher logits [B, N]; T is the temperature; KL_T(t||s) is the divergence between
their softmaxes at T. The factor T^2 of Hinton et al. (2015), which keeps gradients comparable across temperatures, is a
weight and is applied by the method.
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
