"""Energy DKD (Kim et al., 2024): both parts of DKD at a temperature that follows from the teacher's energy."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Term, check_logits, check_tensor, soft_term, total
from kdlib.methods.dkd import DKDOptions, dkd_parts, numbers, risen
from kdlib.methods.energy import (
    EnergyOptions,
    Limits,
    Rule,
    assigned,
    by_group,
    checked_limits,
    limits_and_order,
    survey,
)
from kdlib.methods.numerics import widened
from kdlib.methods.taxonomy import Taxonomy
from kdlib.records import Number


def energy_dkd_losses(
    student: Tensor, teacher: Tensor, labels: Tensor, temperatures: Tensor, reference: float
) -> tuple[Tensor, Tensor]:
    """The means of (T_i / T)^2 TCKD and of (T_i / T)^2 NCKD at T_i over samples, two scalars: without the factor T^2 of
    the reference T.

    student, teacher: logits [M, N], N >= 2; labels: int64 [M]; temperatures: T_i, float [M]. With all T_i = T they are
    those of DKD, bit for bit.
    """
    student, teacher = widened(student), widened(teacher)
    temperatures = temperatures.to(student.dtype)
    weights = (temperatures / reference) ** 2
    target, others = dkd_parts(student, teacher, labels, temperatures[:, None])
    return (weights * target).mean(), (weights * others).mean()


class EnergyDKDOptions(DKDOptions, EnergyOptions):
    """alpha, beta: weights of the target and of the non-target part (1 and 8 in the released program, 6 for VGG-13 and
    VGG-8); warm_up: share of the run's epochs over which both rise (20 of 240 epochs as released); temperature: of
    samples of middle energy; low_temperature, high_temperature: of those of low and of high energy; share: of the
    training images, how many are low, and how many high; energy_temperature: that of the energy itself; rule: the
    method as released ("rising"), the reverse ("falling"), or a control."""

    share: Number = Field(0.1, ge=0, le=0.5, title="r")


def dkd_pulls(
    student: Tensor, teacher: Tensor, labels: Tensor, temperatures: Tensor, alpha: float, beta: float
) -> Tensor:
    """How hard each sample pulls at its logits: the length of the gradient of T_i^2 (alpha TCKD + beta NCKD), float
    [M]. The first part moves the label's logit against all others by their shares, the second these among each other.
    """
    student, temperatures = widened(student.detach()), temperatures.to(widened(student).dtype)
    q, p = (F.softmax(logits / temperatures[:, None], dim=1) for logits in (student, widened(teacher)))
    label = torch.arange(q.shape[1], device=q.device) == labels[:, None]
    rest, its_rest = (
        F.softmax((logits / temperatures[:, None]).masked_fill(label, -torch.inf), dim=1)
        for logits in (student, widened(teacher))
    )
    more = ((q - p) * label).sum(1, keepdim=True)  # of the label, by the student
    gradient = alpha * more * (label.to(q.dtype) - rest) + beta * (rest - its_rest)
    return temperatures * torch.linalg.vector_norm(gradient, dim=1)


def energy_dkd_terms(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    limits: Limits,
    order: Tensor | None,
    options: EnergyDKDOptions,
    warmth: float = 1.0,
) -> Loss:
    """Both parts, and what is recorded by group of energy. student, teacher: logits [M, N]; labels: int64 [M]; order:
    int64 [M], whose temperature each sample takes, for "shuffled"; warmth: the share of their weight that they have."""
    temperatures, groups = assigned(teacher, limits, order, options)
    reference = options.temperature
    target, others = energy_dkd_losses(student, teacher, labels, temperatures, reference)
    pull = dkd_pulls(student, teacher, labels, temperatures, options.alpha, options.beta)
    return {
        "tckd": soft_term(target, warmth * options.alpha, reference),
        "nckd": soft_term(others, warmth * options.beta, reference),
    }, by_group(groups, pull)


def energy_dkd(batch: Batch, options: EnergyDKDOptions) -> Loss:
    """CE + min(e / e_0, 1) mean T_i^2 (alpha TCKD + beta NCKD) at T_i, over all views; shares and pulls of the groups
    are recorded. Each view has the energy of its own crop."""
    logits, (limits, order) = (batch.student.logits, batch.teacher_output.logits), limits_and_order(batch)
    warmth = risen(batch.step.epoch, batch.step.epochs, options)
    terms, records = energy_dkd_terms(*logits, batch.view_labels, limits, order, options, warmth)
    return {"ce": Term(batch.cross_entropy, options.ce_weight)} | terms, records


DEFAULTS = EnergyDKDOptions()


class EnergyDKDLoss(nn.Module):
    """The mean of T_i^2 (alpha TCKD + beta NCKD) at T_i over samples, without a warm-up; labels' cross-entropy is yours
    to add.

    limits: below the first an energy is low, above the second high, see `kdlib.methods.energy.energy_limits`; they come
    from the teacher's energies of the training images and stay as they are. The rest: see `EnergyDKDOptions`; the order
    of "shuffled" comes from torch's generator. Raises ValueError for other values, and for logits of unequal shape.

    >>> import torch
    >>> from kdlib.methods.energy import energy, energy_limits
    >>> student, teacher = torch.randn(8, 100, requires_grad=True), 9 * torch.randn(8, 100)
    >>> limits = energy_limits(energy(9 * torch.randn(1000, 100)), share=0.1)
    >>> EnergyDKDLoss(limits, beta=6.0)(student, teacher, torch.arange(8)).backward()
    """

    def __init__(
        self,
        limits: Limits,
        temperature: float = DEFAULTS.temperature,
        alpha: float = DEFAULTS.alpha,
        beta: float = DEFAULTS.beta,
        low_temperature: float = DEFAULTS.low_temperature,
        high_temperature: float = DEFAULTS.high_temperature,
        energy_temperature: float = DEFAULTS.energy_temperature,
        rule: Rule = DEFAULTS.rule,
    ):
        super().__init__()
        self.limits = checked_limits(limits)
        self.options = EnergyDKDOptions(
            temperature=temperature,
            alpha=alpha,
            beta=beta,
            low_temperature=low_temperature,
            high_temperature=high_temperature,
            energy_temperature=energy_temperature,
            rule=rule,
        )

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """A scalar from logits [B, N], N >= 2, and labels int64 [B]; no gradient reaches the teacher's."""
        check_logits(student=student, teacher=teacher)
        check_tensor("labels are", labels, "int64", len(student))
        order = torch.randperm(len(teacher)).to(teacher.device) if self.options.rule == "shuffled" else None
        return total(energy_dkd_terms(student, teacher.detach(), labels, self.limits, order, self.options)[0])


ENERGY_DKD = Definition(
    loss=energy_dkd,
    options=EnergyDKDOptions,
    source="Energy KD on DKD (Kim et al., 2024), as its released program computes it",
    formula=r"\mathrm{CE} + \min(e / e_0, 1)\, T_i^2 (\alpha\,\mathrm{TCKD}_{T_i} + \beta\,\mathrm{NCKD}_{T_i}),\;"
    r" T_i = T_-,\, T,\, T_+ \text{ for low, middle and high } E_i = -T_E \log \sum_c e^{z_{t,c} / T_E}",
    logits_only=True,
    survey=survey,
    numbers=numbers,
    taxonomy=Taxonomy(
        knowledge=("answer",), sees="both the same", chosen_by="energy", labels="the same", status="verified"
    ),
)
