"""DIST (Huang et al., NeurIPS 2022): the student's probabilities need only correlate with the teacher's."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Term, check_logits, soft_term, total
from kdlib.methods.kd import KDOptions, labels_and_kd
from kdlib.methods.numerics import widened
from kdlib.methods.taxonomy import Taxonomy
from kdlib.records import Number

TINY = 1e-8  # added to a product of norms, so that equal probabilities have the correlation 0


def inter_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """1 - the mean over samples of the correlation of their probabilities over classes, a scalar in [0, 2].

    student, teacher: logits [M, N]; probabilities are at the temperature, correlations are Pearson's (Huang et al.,
    NeurIPS 2022). At equal logits it is 0 up to 1e-8 / the squared norm of the centred probabilities.
    """
    own, others = _probabilities(student, temperature), _probabilities(teacher, temperature)
    return 1 - _correlations(own, others).mean()


def intra_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """1 - the mean over classes of the correlation of their probabilities over the M samples, a scalar in [0, 2].

    The rest is as in `inter_loss`. Raises ValueError for a single sample, over which nothing correlates.
    """
    if len(student) < 2:
        raise ValueError(
            f"student is a batch of {len(student)}: classes are correlated over its rows; allowed are 2 and more"
        )
    own, others = _probabilities(student, temperature), _probabilities(teacher, temperature)
    return 1 - _correlations(own.T, others.T).mean()


def _probabilities(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(widened(logits) / temperature, dim=1)


def _correlations(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row of a with that of b, in [-1, 1]; of a constant row it is 0."""
    a, b = (x - x.mean(1, keepdim=True) for x in (a, b))
    norms = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (a * b).sum(1) / (norms + TINY)


class DISTOptions(KDOptions):
    """inter_weight: of the correlation over classes, within a sample; intra_weight: of that over samples, within a
    class. Published without the KD term: kd_weight is 0. The weights are the paper's for CIFAR-100; ports default to
    1."""

    kd_weight: Number = Field(0.0, ge=0)
    inter_weight: Number = Field(2.0, ge=0, title=r"\beta")
    intra_weight: Number = Field(2.0, ge=0, title=r"\gamma")


def dist_terms(student: Tensor, teacher: Tensor, options: DISTOptions) -> dict[str, Term]:
    """Both terms, each if it weighs anything. student, teacher: logits [M, N]."""
    temperature, terms = options.temperature, {}
    for name, loss, weight in (
        ("inter", inter_loss, options.inter_weight),
        ("intra", intra_loss, options.intra_weight),
    ):
        if weight:
            terms[name] = soft_term(loss(student, teacher, temperature), weight, temperature)
    return terms


def dist(batch: Batch, options: DISTOptions) -> Loss:
    """CE + T^2 (beta inter + gamma intra), over all views."""
    logits = batch.student.logits, batch.teacher_output.logits
    return labels_and_kd(batch, options) | dist_terms(*logits, options), {}


class DISTLoss(nn.Module):
    """T^2 (beta inter + gamma intra) of a batch, for a training loop of your own; labels are yours to add.

    temperature: T, above 0; inter_weight: beta, intra_weight: gamma, 0 and up, not both 0. Raises ValueError for other
    values, for logits of unequal shape, and for a batch of one if intra weighs anything.

    >>> import torch
    >>> student, teacher = torch.randn(8, 100, requires_grad=True), torch.randn(8, 100)
    >>> DISTLoss(temperature=4.0)(student, teacher).backward()
    """

    def __init__(self, temperature: float = 4.0, inter_weight: float = 2.0, intra_weight: float = 2.0):
        super().__init__()
        self.options = DISTOptions(temperature=temperature, inter_weight=inter_weight, intra_weight=intra_weight)
        if not inter_weight and not intra_weight:
            raise ValueError("inter_weight and intra_weight are 0: there is no loss; allowed is that one is above 0")

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar from logits [B, N] of one batch; no gradient reaches the teacher's."""
        check_logits(student=student, teacher=teacher)
        return total(dist_terms(student, teacher.detach(), self.options))


DIST = Definition(
    loss=dist,
    options=DISTOptions,
    source="DIST (Huang et al., NeurIPS 2022)",
    formula=r"\mathrm{CE} + T^2 \left[\beta\,\bigl(1 - \tfrac1M \textstyle\sum_i \rho(p_{s,i\cdot}, p_{t,i\cdot})\bigr)"
    r" + \gamma\,\bigl(1 - \tfrac1N \textstyle\sum_c \rho(p_{s,\cdot c}, p_{t,\cdot c})\bigr)\right],"
    r"\; p = \mathrm{softmax}(z / T)",
    mixes=True,
    logits_only=True,
    taxonomy=Taxonomy(
        knowledge=("answer", "relation"), sees="both the same", chosen_by="none", labels="the same", status="verified"
    ),
)
