"""Logit standardisation (Sun et al., CVPR 2024): KD between logits of mean 0 and standard deviation 1."""

from typing import Literal, get_args

from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Term, check_logits, soft_term, total
from kdlib.methods.kd import KDOptions, kd_loss
from kdlib.methods.numerics import widened
from kdlib.methods.taxonomy import Taxonomy
from kdlib.records import Number

Scale = Literal["sample", "batch", "none"]

LS_SCALES: tuple[Scale, ...] = get_args(Scale)

TINY = 1e-7  # added to a standard deviation, so that equal logits stay finite


def standardised(logits: Tensor, scale: str = "sample") -> Tensor:
    """(z - mean z) / (std z + 1e-7) of each row (Sun et al., CVPR 2024): float [M, N] from logits [M, N], N >= 2.

    std is that of a sample: its squares are divided by N - 1. "sample" is the method, the controls are "batch", every
    std the mean over the rows, and "none", the logits as they are. Raises ValueError for an unknown scale.
    """
    if scale not in LS_SCALES:
        raise ValueError(f"scale = {scale!r} is unknown; allowed are {', '.join(LS_SCALES)}")
    logits = widened(logits)
    if scale == "none":
        return logits
    # In units of the largest logit, so that squares cannot overflow; the unit cancels, and is a constant to autograd.
    size = logits.detach().abs()
    unit = (size.amax(1, keepdim=True) if scale == "sample" else size.amax()).clamp_min(1e-30)
    centred = logits / unit
    centred = centred - centred.mean(1, keepdim=True)
    std = centred.std(1, keepdim=True)
    return centred / ((std.mean() if scale == "batch" else std) + TINY / unit)


def ls_loss(student: Tensor, teacher: Tensor, temperature: float, scale: str = "sample") -> Tensor:
    """The mean of KL_T(t||s) over samples between standardised logits [M, N], without T^2, a scalar."""
    return kd_loss(standardised(student, scale), standardised(teacher, scale), temperature)


class LSOptions(KDOptions):
    """scale: the method ("sample") or one of its controls, see `standardised`; with "none" it is plain KD. The weights
    and T are those of the released command line."""

    temperature: Number = Field(2.0, gt=0, title="T")
    ce_weight: Number = Field(0.1, ge=0, title=r"\alpha")
    kd_weight: Number = Field(9.0, ge=0, title=r"\beta")
    scale: Scale = "sample"


def ls(batch: Batch, options: LSOptions) -> Loss:
    """alpha CE + beta T^2 KL_T between standardised logits, over all views."""
    kl = ls_loss(batch.student.logits, batch.teacher_output.logits, options.temperature, options.scale)
    return {
        "ce": Term(batch.cross_entropy, options.ce_weight),
        "kl": soft_term(kl, options.kd_weight, options.temperature),
    }, {}


class LSLoss(nn.Module):
    """T^2 KL_T between standardised logits, the mean over samples, for a training loop of your own.

    Published with the weight 9, and 0.1 for the labels' cross-entropy, which is yours to add. temperature: T, above 0;
    scale: "sample", the method, or one of its controls, see `standardised`. Raises ValueError for other values, and for
    logits of unequal shape.

    >>> import torch
    >>> student, teacher = torch.randn(8, 100, requires_grad=True), torch.randn(8, 100)
    >>> LSLoss(temperature=2.0)(student, teacher).backward()
    """

    def __init__(self, temperature: float = 2.0, scale: Scale = "sample"):
        super().__init__()
        self.options = LSOptions(temperature=temperature, scale=scale)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar from logits [B, N] of one batch, N >= 2; no gradient reaches the teacher's."""
        check_logits(student=student, teacher=teacher)
        temperature, scale = self.options.temperature, self.options.scale
        return total({"kl": soft_term(ls_loss(student, teacher.detach(), temperature, scale), 1.0, temperature)})


LS = Definition(
    loss=ls,
    options=LSOptions,
    source="logit standardisation (Sun et al., CVPR 2024)",
    formula=r"\alpha\,\mathrm{CE} + \beta\, T^2\, \mathrm{KL}_T(\hat z_t \| \hat z_s),\;"
    r" \hat z = \frac{z - \mathrm{mean}_c\, z}{\mathrm{std}_c\, z + 10^{-7}}",
    mixes=True,
    logits_only=True,
    taxonomy=Taxonomy(
        knowledge=("answer",), sees="both the same", chosen_by="none", labels="the same", status="verified"
    ),
)
