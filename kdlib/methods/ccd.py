"""Cosine Confidence Distillation (Li et al., 2024): trust the teacher less on a view, the more its answer moved."""

from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Term, check_logits, check_pairs, soft_term, total
from kdlib.methods.clusters import k_means, nearest
from kdlib.methods.kd import KDOptions, kl_divergence
from kdlib.methods.taxonomy import Taxonomy

Weight = Literal[
    "cosine", "one", "mean", "shuffled", "normalised", "centred", "softmax", "confidence", "cluster", "cluster_shuffled"
]

CCD_WEIGHTS: tuple[Weight, ...] = get_args(Weight)
CLUSTERED = ("cluster", "cluster_shuffled")  # they need centres
CLUSTERS = 10  # of the teacher's answers


@torch.no_grad()
def ccd_weights(
    original: Tensor,
    augmented: Tensor,
    kind: str = "cosine",
    keys: Tensor | None = None,
    centres: Tensor | None = None,
) -> Tensor:
    """The weight w_i of each augmented view in CCD: float [B] from raw teacher logits [B, N] of x and of x~.

    "cosine" is the method: w = cos(z_t(x), z_t(x~)) + 1, in [0, 2]. The others are controls:
    "one" w = 1 (plain KD on both views); "mean" every w = mean(cosine w) of the batch; "shuffled" cosine w in an order
    given by `keys` (float [B], sorted); "normalised" cosine w / mean; "centred" Pearson correlation + 1; "softmax"
    cosine of the softmaxes + 1; "confidence" the teacher's largest probability on x~, + 1.

    Two are hard, after the check of BRCD (He et al., 2024): "cluster" w = 1 where z_t(x) and z_t(x~) have the same
    nearest one of `centres` (floating [K, N], see `k_means`), else 0; "cluster_shuffled" the same in the order of
    `keys`, which takes as many views away, but others.
    Raises ValueError for an unknown kind, for a shuffled one without keys, and for these two without centres.
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
    weights = same_cluster(original, augmented, centres) if kind in CLUSTERED else _cosine(original, augmented) + 1
    if kind == "mean":
        return weights.mean().expand_as(weights)
    if kind == "normalised":
        return weights / weights.mean().clamp_min(1e-12)
    if kind in ("shuffled", "cluster_shuffled"):
        if keys is None:
            raise ValueError(f"weight = {kind!r} needs keys: one uniform number for each sample of the batch")
        return weights[keys.argsort(stable=True)]
    return weights


def same_cluster(original: Tensor, augmented: Tensor, centres: Tensor | None) -> Tensor:
    """1 where rows of both, floating [B, N], have the same nearest one of centres, floating [K, N], else 0: [B].

    Raises ValueError without centres, or for those of another width.
    """
    if centres is None or centres.ndim != 2 or centres.shape[1] != original.shape[1]:
        found = None if centres is None else list(centres.shape)
        raise ValueError(
            f"centres are {found}; allowed is [K, {original.shape[1]}], from k_means of the teacher's logits"
        )
    return (nearest(original, centres) == nearest(augmented, centres)).to(original.dtype)


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


def clustered(options: CCDOptions) -> bool:
    """Whether the weight needs centres of the teacher's answers."""
    return options.weight in CLUSTERED


def survey(answers: Tensor, options: CCDOptions) -> tuple[float, ...]:
    """Ten centres, one after the other, of the teacher's logits [n, N] on one plain crop of each training image."""
    return tuple(k_means(answers, CLUSTERS).flatten().tolist())


def centres_of(batch: Batch) -> Tensor:
    """What `survey` made, float64 [K, N]. Raises ValueError without, or if it is of another number of classes."""
    limits, classes = batch.step.limits, batch.teacher_output.logits.shape[1]
    if not limits or len(limits) % classes:
        found = None if limits is None else f"{len(limits)} numbers"
        raise ValueError(f"limits is {found}: they are the centres of clusters; allowed are K times {classes} numbers")
    return _centres(limits, classes, batch.teacher_output.logits.device)


@lru_cache(maxsize=16)
def _centres(limits: tuple[float, ...], classes: int, device: torch.device) -> Tensor:
    """On the device once and for all steps."""
    return torch.tensor(limits, dtype=torch.float64, device=device).view(-1, classes)


def ccd(batch: Batch, options: CCDOptions) -> Loss:
    """alpha CE + beta T^2 1/2 [KL_T(x) + w KL_T(x~)]; the mean of w is recorded."""
    student, teacher = batch.pair(batch.student.logits), batch.pair(batch.teacher_output.logits)
    w = ccd_weights(*teacher, options.weight, batch.step.keys, centres_of(batch) if clustered(options) else None)
    value = ccd_loss(student, teacher, w, options.temperature)
    return {
        "ce": Term(batch.cross_entropy, options.ce_weight),
        "ccd": soft_term(value, options.kd_weight, options.temperature),
    }, {"w": w.mean()}


class CCDLoss(nn.Module):
    """T^2 1/2 [KL_T(x) + w KL_T(x~)], the mean over images, for a training loop of your own; labels are yours to add.

    temperature: T, above 0; weight: "cosine", the method, or one of its controls, see `ccd_weights`; centres: floating
    [K, N], see `k_means`, for the weights that need them. Raises ValueError for other values, and for logits of unequal
    shape.

    >>> import torch
    >>> x, augmented = torch.randn(8, 100, requires_grad=True), torch.randn(8, 100, requires_grad=True)
    >>> CCDLoss(temperature=4.0)((x, augmented), (torch.randn(8, 100), torch.randn(8, 100))).backward()
    """

    def __init__(self, temperature: float = 4.0, weight: Weight = "cosine", centres: Tensor | None = None):
        super().__init__()
        self.options = CCDOptions(temperature=temperature, weight=weight)
        if clustered(self.options) and centres is None:
            raise ValueError(f"centres must be given with weight = {weight!r}; allowed is [K, N], see k_means")
        self.centres = centres

    def forward(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
        """A scalar. student, teacher: logits [B, N] on the original views and on the augmented views of the same
        images, in the same order; no gradient reaches the teacher's."""
        check_pairs("logits on the original views, and on the augmented views", student=student, teacher=teacher)
        (own, own_augmented), (its, its_augmented) = student, (logits.detach() for logits in teacher)
        check_logits(student=own, student_augmented=own_augmented, teacher=its, teacher_augmented=its_augmented)
        keys = torch.rand(len(its), device=its.device) if self.options.weight.endswith("shuffled") else None
        centres = None if self.centres is None else self.centres.to(its.device)
        w = ccd_weights(its, its_augmented, self.options.weight, keys, centres)
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
    survey=survey,
    surveys=clustered,
    taxonomy=Taxonomy(
        knowledge=("answer",), sees="both the same", chosen_by="cosine", labels="the same", status="verified"
    ),
)
