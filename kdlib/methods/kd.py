"""Knowledge distillation (Hinton et al., 2015): the divergence from the teacher's softened answer.

Notation: z_s, z_t are student and teacher logits [B, N]; T is the temperature; KL_T(t||s) is the divergence between
their softmaxes at T. Losses are unweighted, in float32 or better, and finite for inputs up to 1e30. No function waits
for the device: shapes never depend on values.
"""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Term, check_logits, soft_term, total
from kdlib.methods.taxonomy import Taxonomy
from kdlib.records import Number, Record


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """KL_T(t||s) of each sample in nats: float [B] from logits [B, N]; temperature: one, or of each sample [B, 1]."""
    log_p = F.log_softmax(teacher / temperature, dim=1)
    log_q = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Knowledge distillation (Hinton et al., 2015) without its factor T^2: the mean of KL_T over samples, a scalar."""
    return kl_divergence(student, teacher, temperature).mean()


class KDOptions(Record):
    """Weights of the two terms; the KL term is also multiplied by temperature squared."""

    temperature: Number = Field(4.0, gt=0, title=r"T")
    ce_weight: Number = Field(1.0, ge=0, title=r"\alpha")
    kd_weight: Number = Field(1.0, ge=0, title=r"\beta")


def kd_term(batch: Batch, options: KDOptions) -> Term:
    """The mean of KL_T(t||s) over all views, with its weight."""
    kl = kd_loss(batch.student.logits, batch.teacher_output.logits, options.temperature)
    return soft_term(kl, options.kd_weight, options.temperature)


def kd(batch: Batch, options: KDOptions) -> Loss:
    """alpha CE + beta T^2 KL_T(t||s), over all views."""
    return {"ce": Term(batch.cross_entropy, options.ce_weight), "kl": kd_term(batch, options)}, {}


def labels_and_kd(batch: Batch, options: KDOptions) -> dict[str, Term]:
    """The same terms, the second only if it weighs anything: for methods that may do without it."""
    terms = {"ce": Term(batch.cross_entropy, options.ce_weight)}
    return terms | ({"kl": kd_term(batch, options)} if options.kd_weight else {})


class KDLoss(nn.Module):
    """T^2 KL_T(t||s), the mean over samples, for a training loop of your own; labels are yours to add.

    temperature: T, above 0. Raises ValueError for other values, and for logits of unequal shape.

    >>> import torch
    >>> student, teacher = torch.randn(8, 100, requires_grad=True), torch.randn(8, 100)
    >>> KDLoss(temperature=4.0)(student, teacher).backward()
    """

    def __init__(self, temperature: float = 4.0):
        super().__init__()
        self.options = KDOptions(temperature=temperature)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar from logits [B, N] of one batch; no gradient reaches the teacher's."""
        check_logits(student=student, teacher=teacher)
        temperature = self.options.temperature
        return total({"kl": soft_term(kd_loss(student, teacher.detach(), temperature), 1.0, temperature)})


KD = Definition(
    loss=kd,
    options=KDOptions,
    source="Hinton et al., 2015",
    formula=r"\alpha\,\mathrm{CE} + \beta\, T^2\, \mathrm{KL}_T(t \| s)",
    mixes=True,
    logits_only=True,
    taxonomy=Taxonomy(
        knowledge=("answer",), sees="both the same", chosen_by="none", labels="the same", status="verified"
    ),
)
