"""Decoupled Knowledge Distillation (Zhao et al., CVPR 2022): the label's class and the others, weighed apart."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Term, check_logits, check_tensor, soft_term, total
from kdlib.methods.kd import kl_divergence
from kdlib.methods.taxonomy import Taxonomy
from kdlib.records import Number, Record


def dkd_parts(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """(TCKD, NCKD) of each sample, float [B] both.

    TCKD: KL_T between the two-way distributions (p_y, 1 - p_y). NCKD: KL_T between the softmaxes over the classes other
    than y. KL_T = TCKD + (1 - p_y) NCKD, with the teacher's p_y at T. logits [B, N], N >= 2; labels int64 [B];
    temperature: one, or of each sample [B, 1].
    """
    target = labels[:, None]
    others = torch.arange(student.shape[1] - 1, device=labels.device)
    others = others + (others >= target)  # [B, N - 1]: every class but the label

    def two_way(logits: Tensor) -> Tensor:
        log_p = F.log_softmax(logits / temperature, dim=1)
        return torch.cat([log_p.gather(1, target), log_p.gather(1, others).logsumexp(1, keepdim=True)], dim=1)

    # Logarithms of probabilities are logits at temperature 1.
    tckd = kl_divergence(two_way(student), two_way(teacher), 1.0)
    nckd = kl_divergence(student.gather(1, others), teacher.gather(1, others), temperature)
    return tckd, nckd


def dkd_losses(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(TCKD, NCKD) of Decoupled Knowledge Distillation (Zhao et al., CVPR 2022), two means over the batch, see
    `dkd_parts`."""
    tckd, nckd = dkd_parts(student, teacher, labels, temperature)
    return tckd.mean(), nckd.mean()


class DKDOptions(Record):
    """beta: weight of the non-target part (2, 6 or 8 in the paper, by pair of networks); warm_up: share of the run's
    epochs over which the weight of both parts rises (20 of 240)."""

    temperature: Number = Field(4.0, gt=0, title="T")
    ce_weight: Number = Field(1.0, ge=0)
    alpha: Number = Field(1.0, ge=0, title=r"\alpha")
    beta: Number = Field(8.0, ge=0, title=r"\beta")
    warm_up: Number = Field(20 / 240, ge=0, le=1, title="e_0")


def risen(epoch: int, epochs: float, options: DKDOptions) -> float:
    """min(e / e_0, 1), the weight of both parts in an epoch from 1 of a run of so many."""
    rising = options.warm_up * epochs
    return min(epoch / rising, 1.0) if rising else 1.0


def numbers(epoch: int, epochs: float, options: DKDOptions) -> tuple[float]:
    """What the loss takes from the epoch, see `Definition.numbers`."""
    return (risen(epoch, epochs, options),)


def dkd(batch: Batch, options: DKDOptions) -> Loss:
    """CE + min(e / e_0, 1) T^2 (alpha TCKD + beta NCKD)."""
    temperature, share = options.temperature, risen(batch.step.epoch, batch.step.epochs, options)
    target, others = dkd_losses(batch.student.logits, batch.teacher_output.logits, batch.view_labels, temperature)
    return {
        "ce": Term(batch.cross_entropy, options.ce_weight),
        "tckd": soft_term(target, share * options.alpha, temperature),
        "nckd": soft_term(others, share * options.beta, temperature),
    }, {}


class DKDLoss(nn.Module):
    """T^2 (alpha TCKD + beta NCKD), the mean over samples, without a warm-up; labels' cross-entropy is yours to add.

    temperature: T, above 0; alpha, beta: 0 and up. Raises ValueError for other values, and for logits of unequal shape.

    >>> import torch
    >>> student, labels = torch.randn(8, 100, requires_grad=True), torch.arange(8)
    >>> DKDLoss(temperature=4.0, beta=6.0)(student, torch.randn(8, 100), labels).backward()
    """

    def __init__(self, temperature: float = 4.0, alpha: float = 1.0, beta: float = 8.0):
        super().__init__()
        self.options = DKDOptions(temperature=temperature, alpha=alpha, beta=beta)

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """A scalar from logits [B, N], N >= 2, and labels int64 [B]; no gradient reaches the teacher's."""
        check_logits(student=student, teacher=teacher)
        check_tensor("labels are", labels, "int64", len(student))
        options = self.options
        target, others = dkd_losses(student, teacher.detach(), labels, options.temperature)
        return total(
            {
                "tckd": soft_term(target, options.alpha, options.temperature),
                "nckd": soft_term(others, options.beta, options.temperature),
            }
        )


DKD = Definition(
    loss=dkd,
    options=DKDOptions,
    source="Decoupled Knowledge Distillation (Zhao et al., CVPR 2022)",
    formula=r"\mathrm{CE} + \min(e / e_0, 1)\, T^2 (\alpha\,\mathrm{TCKD} + \beta\,\mathrm{NCKD})",
    logits_only=True,
    numbers=numbers,
    taxonomy=Taxonomy(
        knowledge=("answer",), sees="both the same", chosen_by="none", labels="the same", status="verified"
    ),
)
