"""Similarity-Preserving Knowledge Distillation (Tung and Mori, ICCV 2019): which images of a batch are alike."""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Term
from kdlib.methods.kd import KDOptions, labels_and_kd
from kdlib.methods.numerics import scaled, unit_rows, widened
from kdlib.methods.taxonomy import Taxonomy
from kdlib.records import Number


def spkd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Similarity-preserving KD (Tung and Mori, ICCV 2019): ||G_t - G_s||_F^2 / B^2, a scalar.

    student, teacher: feature maps [B, ...] of the last stage; their shapes past B may differ. G [B, B] is f f^T of the
    flattened features f, each row divided by its Euclidean norm; a row of zeros stays zero.
    """
    return F.mse_loss(_similarities(student), _similarities(teacher))


def _similarities(features: Tensor) -> Tensor:
    """G of `spkd_loss`. Its rows are unit vectors: the scale of a left row, and of all of f, does not change them."""
    rows = widened(features).flatten(1)
    return unit_rows(scaled(rows, (1,)) @ scaled(rows, (0, 1)).T)


class SPKDOptions(KDOptions):
    """weight: of the similarity term. Published without the KD term: kd_weight is 0."""

    kd_weight: Number = Field(0.0, ge=0)
    weight: Number = Field(3000.0, ge=0, title=r"\gamma")


def spkd(batch: Batch, options: SPKDOptions) -> Loss:
    """CE + gamma 1/M^2 ||G_t - G_s||_F^2, of the last feature maps."""
    last = (output.stages[-1].float() for output in (batch.student, batch.teacher_output))
    return labels_and_kd(batch, options) | {"sp": Term(spkd_loss(*last), options.weight)}, {}


class SPKDLoss(nn.Module):
    """||G_t - G_s||_F^2 / B^2 of feature maps, for a training loop of your own; published with the weight 3000.

    >>> import torch
    >>> student, teacher = torch.randn(8, 64, 4, 4, requires_grad=True), torch.randn(8, 256, 8, 8)
    >>> SPKDLoss()(student, teacher).backward()
    """

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar from feature maps [B, ...] of one batch, whose shapes past B may differ; no gradient reaches the
        teacher's. Raises ValueError for batches of unequal size."""
        if len(student) != len(teacher):
            raise ValueError(f"student has {len(student)} images, teacher {len(teacher)}; both must be of one batch")
        return spkd_loss(student, teacher.detach())


SPKD = Definition(
    loss=spkd,
    options=SPKDOptions,
    source="Similarity-Preserving KD (Tung and Mori, ICCV 2019)",
    formula=r"\mathrm{CE} + \gamma\, \tfrac{1}{M^2} \lVert \hat G_t - \hat G_s \rVert_F^2,\; G = F F^\top",
    mixes=True,
    taxonomy=Taxonomy(
        knowledge=("relation",), sees="both the same", chosen_by="none", labels="the same", status="verified"
    ),
)
