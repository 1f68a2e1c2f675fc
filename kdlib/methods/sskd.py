"""Self-Supervision Knowledge Distillation (Xu et al., ECCV 2020): turned views, and which image each comes from.

A first stage trains the teacher's head, a second the student. Each view that the policy makes becomes four; so under
JDA the set of x and the set of x~ are two images with four views each.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, NoOptions, Term, soft_term
from kdlib.methods.kd import kd_loss, kl_divergence
from kdlib.methods.numerics import unit_rows, widened
from kdlib.methods.turns import set_labels, turned_views
from kdlib.models import Backbone, Output
from kdlib.records import Number, Record

SOURCE = "Self-Supervision KD (Xu et al., ECCV 2020)"


class ContrastHead(nn.Module):
    """SSKD's projection of the pooled feature: Linear(d, d), ReLU, Linear(d, d) (Xu et al., ECCV 2020)."""

    def __init__(self, feature_dim: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(feature_dim, feature_dim), nn.ReLU(inplace=True), nn.Linear(feature_dim, feature_dim)
        )

    def forward(self, output: Output) -> Tensor:
        """[B, d]"""
        return self.layers(output.pooled_feature)


def contrast_head(backbone: Backbone, options: Record) -> ContrastHead:
    """The head of a backbone."""
    return ContrastHead(backbone.feature_dim)


def ranked_kl(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, ratio: float) -> Tensor:
    """The mean of KL_T(t||s) over the rows that the teacher gets right, and a share of the others (a scalar).

    student, teacher: logits or similarities [M, C]; targets: int64 [M], the right column of each row; ratio: in [0, 1].
    The rank of a row is the number of columns with a strictly larger teacher value than its target, so a target that
    ties for the first place is right (rank 0). Rows are sorted by rank, rows of equal rank keep their order, and all
    rows of rank 0 are kept with the first int(ratio * wrong) of the `wrong` others. ratio = 1 keeps all and equals
    `kdlib.methods.kd.kd_loss`; if nothing is kept the loss is 0. Selection of SSKD (Xu et al., ECCV 2020).
    """
    rank = (teacher > teacher.gather(1, targets[:, None])).sum(1)
    wrong = (rank > 0).sum()
    kept = len(rank) - wrong + (ratio * wrong.double()).long()  # in double precision, as Python's int(ratio * wrong)
    sorted_rows = kl_divergence(student, teacher, temperature)[rank.argsort(stable=True)]
    keep = torch.arange(len(rank), device=rank.device) < kept
    return sorted_rows.where(keep, 0).sum() / kept.clamp_min(1)


def rotation_similarity(features: Tensor) -> Tensor:
    """Cosines [3B, B] of each turned view (x0r1, x0r2, x0r3, x1r1, ...) with each un-turned view (x0r0, x1r0, ...).

    features: [4B, d], interleaved by image (x0r0, x0r1, x0r2, x0r3, x1r0, ...). A zero vector has cosine 0 with all.
    SSKD's s_ij (Xu et al., ECCV 2020), without a temperature; in [-1, 1] up to rounding.
    """
    views = unit_rows(widened(features)).unflatten(0, (-1, 4))
    return views[:, 1:].flatten(0, 1) @ views[:, 0].T


def rotation_targets(images: int, device: torch.device | str) -> Tensor:
    """The un-turned view that each turned view came from: int64 [3B], 0, 0, 0, 1, 1, 1, ... for B images."""
    return torch.arange(images, device=device).repeat_interleave(3)


def sskd_teacher(batch: Batch, options: NoOptions) -> Loss:
    """CE of the similarities, whose target is the own image; how often it is the most similar one is recorded."""
    similarity = rotation_similarity(batch.student.head_output)
    targets = rotation_targets(similarity.shape[1], similarity.device)
    right = (similarity.argmax(1) == targets).float().mean()
    return {"contrast": Term(F.cross_entropy(similarity, targets), 1.0)}, {"pretext": right}


class SSKDOptions(Record):
    """temperature: of the KL terms; similarity_temperature: tau; turned_ratio, similarity_ratio: the share of the rows
    on which the teacher is wrong that is kept."""

    temperature: Number = Field(4.0, gt=0, title=r"T")
    similarity_temperature: Number = Field(0.5, gt=0, title=r"\tau")
    ce_weight: Number = Field(0.1, ge=0, title=r"\alpha")
    kd_weight: Number = Field(0.9, ge=0, title=r"\beta")
    turned_weight: Number = Field(2.7, ge=0, title=r"\gamma")
    similarity_weight: Number = Field(10.0, ge=0, title=r"\delta")
    turned_ratio: Number = Field(1.0, ge=0, le=1)
    similarity_ratio: Number = Field(0.75, ge=0, le=1)


def sskd(batch: Batch, options: SSKDOptions) -> Loss:
    """Upright views by CE and KL, turned ones by KL, and the similarities of turned to upright ones by KL at tau."""
    labels, temperature, tau = set_labels(batch), options.temperature, options.similarity_temperature
    student, teacher = batch.student.logits, batch.teacher_output.logits
    own, others = (rotation_similarity(output.head_output) for output in (batch.student, batch.teacher_output))
    targets = rotation_targets(len(labels), labels.device)
    turned = ranked_kl(
        turned_views(student),
        turned_views(teacher),
        labels.repeat_interleave(3),
        temperature,
        options.turned_ratio,
    )
    alike = ranked_kl(own, others, targets, tau, options.similarity_ratio)
    upright = kd_loss(student[::4], teacher[::4], temperature)
    return {
        "ce": Term(F.cross_entropy(student[::4], labels), options.ce_weight),
        "kl": soft_term(upright, options.kd_weight, temperature),
        "turned": soft_term(turned, options.turned_weight, temperature),
        "similarity": soft_term(alike, options.similarity_weight, tau),
    }, {}


SSKD_TEACHER = Definition(
    loss=sskd_teacher,
    options=NoOptions,
    source=f"{SOURCE}, first stage",
    formula=r"\mathrm{CE}(s_{ij}),\; s_{ij} = \cos\bigl(g(\mathrm{rot}^r x_i), g(x_j)\bigr), \text{ target } j = i",
    trains_student=False,
    revision=1,
    spread="turned crops",
    head=contrast_head,
)


SSKD = Definition(
    loss=sskd,
    options=SSKDOptions,
    source=f"{SOURCE}, second stage",
    formula=r"\alpha\,\mathrm{CE} + \beta\, T^2 \mathrm{KL}_T(x) + \gamma\, T^2 \mathrm{KL}_T(\mathrm{rot}^r x)"
    r" + \delta\, \tau^2 \mathrm{KL}_\tau(s_t \| s_s)",
    taught_by=("sskd_teacher",),
    spread="turned crops",
    head=contrast_head,
)
