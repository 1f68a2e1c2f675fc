"""The loss of two views in its four terms, each of which can be switched off (Li et al., 2024) [inferred]."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdlib.methods.base import Batch, Definition, Loss, Term, mixed_cross_entropy, soft_term
from kdlib.methods.kd import kd_loss
from kdlib.methods.taxonomy import Taxonomy
from kdlib.records import Number, Record

Weight = Annotated[Number, Field(ge=0)]


def four_term_losses(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    labels: Tensor,
    temperature: float,
    mixed: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(CE on x, CE on x~, KL_T on x, KL_T on x~), each a mean over the batch, a scalar.

    student, teacher: logits [B, N] of (x, x~), which share the labels int64 [B]; mixed: where x~ is mixed of two
    images, the other labels int64 [B] and the share of its own, float [B].
    """
    augmented = (
        F.cross_entropy(student[1], labels) if mixed is None else mixed_cross_entropy(student[1], labels, *mixed)
    )
    return (
        F.cross_entropy(student[0], labels),
        augmented,
        kd_loss(student[0], teacher[0], temperature),
        kd_loss(student[1], teacher[1], temperature),
    )


class FourTermOptions(Record):
    """weights: of CE on x, CE on x~, KL on x and KL on x~, in this order; (1, 1, 1, 1) is KD on two views."""

    temperature: Number = Field(4.0, gt=0, title="T")
    weights: tuple[Weight, Weight, Weight, Weight] = (1.0, 1.0, 1.0, 1.0)


def four_term(batch: Batch, options: FourTermOptions) -> Loss:
    """1/2 (w_0 CE_x + w_1 CE_x~) + T^2 1/2 (w_2 KL_x + w_3 KL_x~)."""
    student, teacher = batch.pair(batch.student.logits), batch.pair(batch.teacher_output.logits)
    shares, partners = batch.step.shares, batch.step.partners
    mixed = None if shares is None or partners is None else (partners, shares[:, 1])
    values = four_term_losses(student, teacher, batch.labels, options.temperature, mixed)
    halves = [weight / 2 for weight in options.weights]
    return {
        "ce_original": Term(values[0], halves[0]),
        "ce_augmented": Term(values[1], halves[1]),
        "kl_original": soft_term(values[2], halves[2], options.temperature),
        "kl_augmented": soft_term(values[3], halves[3], options.temperature),
    }, {}


FOUR_TERM = Definition(
    loss=four_term,
    options=FourTermOptions,
    source="Li et al., 2024 [inferred]",
    formula=r"\tfrac12 (w_0 \mathrm{CE}_x + w_1 \mathrm{CE}_{\tilde x})"
    r" + T^2 \tfrac12 (w_2 \mathrm{KL}_x + w_3 \mathrm{KL}_{\tilde x})",
    views=(2,),
    mixes=True,
    logits_only=True,
    taxonomy=Taxonomy(
        knowledge=("answer",), sees="both the same", chosen_by="none", labels="switched on or off", status="inspired by"
    ),
)
