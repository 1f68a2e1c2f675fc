"""Cosine Confidence Distillation (Li et al., 2024): trust the teacher less on a view, the more its answer moved."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Term, check_logits, check_pairs, soft_term, total
from kdlib.methods.kd import KDOptions, kl_divergence
from kdlib.methods.taxonomy import Taxonomy

Weight = Literal["cosine", "one", "mean", "shuffled", "normalised", "centred", "softmax", "confidence"]

CCD_WEIGHTS: tuple[Weight, ...] = get_args(Weight)


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

    student, teacher: logits [B, N] of (x, x~); weights: float [B]. With w = 1 it equals
    `kdlib.methods.kd.kd_loss` over all 2B views.
    """
    original = kl_divergence(student[0], teacher[0], temperature)
    augmented = kl_divergence(student[1], teacher[1], temperature)
    return (original.mean() + (weights * augmented).mean()) / 2


class CCDOptions(KDOptions):
    """weight: the method ("cosine") or one of its controls, see `ccd_weights`."""

    weight: Weight = "cosine"


def ccd(batch: Batch, options: CCDOptions) -> Loss:
    """alpha CE + beta T^2 1/2 [KL_T(x) + w KL_T(x~)]; the mean of w is recorded."""
    student, teacher = batch.pair(batch.student.logits), batch.pair(batch.teacher_output.logits)
    w = ccd_weights(*teacher, options.weight, batch.step.keys)
    value = ccd_loss(student, teacher, w, options.temperature)
    return {
        "ce": Term(batch.cross_entropy, options.ce_weight),
        "ccd": soft_term(value, options.kd_weight, options.temperature),
    }, {"w": w.mean()}


class CCDLoss(nn.Module):
    """T^2 1/2 [KL_T(x) + w KL_T(x~)], the mean over images, for a training loop of your own; labels are yours to add.

    temperature: T, above 0; weight: "cosine", the method, or one of its controls, see `ccd_weights`. Raises ValueError
    for other values, and for logits of unequal shape.

    >>> import torch
    >>> x, augmented = torch.randn(8, 100, requires_grad=True), torch.randn(8, 100, requires_grad=True)
    >>> CCDLoss(temperature=4.0)((x, augmented), (torch.randn(8, 100), torch.randn(8, 100))).backward()
    """

    def __init__(self, temperature: float = 4.0, weight: Weight = "cosine"):
        super().__init__()
        self.options = CCDOptions(temperature=temperature, weight=weight)

    def forward(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
        """A scalar. student, teacher: logits [B, N] on the original views and on the augmented views of the same
        images, in the same order; no gradient reaches the teacher's."""
        check_pairs("logits on the original views, and on the augmented views", student=student, teacher=teacher)
        (own, own_augmented), (its, its_augmented) = student, (logits.detach() for logits in teacher)
        check_logits(student=own, student_augmented=own_augmented, teacher=its, teacher_augmented=its_augmented)
        keys = torch.rand(len(its), device=its.device) if self.options.weight == "shuffled" else None
        w = ccd_weights(its, its_augmented, self.options.weight, keys)
        value = ccd_loss((own, own_augmented), (its, its_augmented), w, self.options.temperature)
        return total({"ccd": soft_term(value, 1.0, self.options.temperature)})


CCD = Definition(
    loss=ccd,
    options=CCDOptions,
    source="Cosine Confidence Distillation (Li et al., 2024)",
    formula=r"\alpha\,\mathrm{CE} + \beta\, T^2\, \tfrac12 \left[\mathrm{KL}_T(x) + w\,\mathrm{KL}_T(\tilde x)\right],"
    r"\; w = \cos(z_t(x), z_t(\tilde x)) + 1",
    views=(2,),
    mixes=True,
    logits_only=True,
    taxonomy=Taxonomy(
        knowledge=("answer",), sees="both the same", chosen_by="cosine", labels="the same", status="verified"
    ),
)
