"""Self-Supervision Knowledge Distillation (Xu et al., ECCV 2020): turned views, and which image each comes from.

A first stage trains the teacher's head, a second the student. Each view that the policy makes becomes four; so under
JDA the set of x and the set of x~ are two images with four views each.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import (
    Batch,
    Definition,
    Loss,
    NoOptions,
    Term,
    check_logits,
    check_pairs,
    check_tensor,
    soft_term,
    total,
)
from kdlib.methods.kd import kd_loss, kl_divergence
from kdlib.methods.numerics import unit_rows, widened
from kdlib.methods.taxonomy import Taxonomy
from kdlib.methods.turns import count_sets, set_labels, turned_views
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


def sskd_terms(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], labels: Tensor, options: SSKDOptions
) -> dict[str, Term]:
    """Upright views by KL, turned ones by KL, and the similarities of turned to upright ones by KL at tau.

    student, teacher: logits [4B, N], and what the head makes of the same views, [4B, d]; labels: int64 [B].
    """
    temperature, tau = options.temperature, options.similarity_temperature
    own, others = (rotation_similarity(embeddings) for _, embeddings in (student, teacher))
    targets = rotation_targets(len(labels), labels.device)
    turned = ranked_kl(
        turned_views(student[0]),
        turned_views(teacher[0]),
        labels.repeat_interleave(3),
        temperature,
        options.turned_ratio,
    )
    alike = ranked_kl(own, others, targets, tau, options.similarity_ratio)
    upright = kd_loss(student[0][::4], teacher[0][::4], temperature)
    return {
        "kl": soft_term(upright, options.kd_weight, temperature),
        "turned": soft_term(turned, options.turned_weight, temperature),
        "similarity": soft_term(alike, options.similarity_weight, tau),
    }


def sskd(batch: Batch, options: SSKDOptions) -> Loss:
    """`sskd_terms`, and CE of upright views."""
    labels = set_labels(batch)
    student, teacher = ((output.logits, output.head_output) for output in (batch.student, batch.teacher_output))
    terms = sskd_terms(student, teacher, labels, options)
    return {"ce": Term(F.cross_entropy(student[0][::4], labels), options.ce_weight)} | terms, {}


DEFAULTS = SSKDOptions()


class SSKDLoss(nn.Module):
    """beta T^2 KL_T(x) + gamma T^2 KL_T(turned x) + delta tau^2 KL_tau(similarities), for a training loop of your own.

    The cross-entropy of the upright views, published with the weight 0.1, is yours to add. The teacher's head is
    trained before, on the frozen teacher: by the cross-entropy of `rotation_similarity` with `rotation_targets`.

    temperature: T, similarity_temperature: tau, above 0; kd_weight: beta, turned_weight: gamma, similarity_weight:
    delta, 0 and up; turned_ratio, similarity_ratio: the share that is kept of the rows on which the teacher is wrong, 0
    to 1. Raises ValueError for other values.

    >>> import torch
    >>> logits, embeddings = torch.randn(32, 100, requires_grad=True), torch.randn(32, 64, requires_grad=True)
    >>> teacher = torch.randn(32, 100), torch.randn(32, 256)
    >>> SSKDLoss(temperature=4.0)((logits, embeddings), teacher, torch.arange(8)).backward()
    """

    def __init__(
        self,
        temperature: float = DEFAULTS.temperature,
        similarity_temperature: float = DEFAULTS.similarity_temperature,
        kd_weight: float = DEFAULTS.kd_weight,
        turned_weight: float = DEFAULTS.turned_weight,
        similarity_weight: float = DEFAULTS.similarity_weight,
        turned_ratio: float = DEFAULTS.turned_ratio,
        similarity_ratio: float = DEFAULTS.similarity_ratio,
    ):
        super().__init__()
        self.options = SSKDOptions(
            temperature=temperature,
            similarity_temperature=similarity_temperature,
            kd_weight=kd_weight,
            turned_weight=turned_weight,
            similarity_weight=similarity_weight,
            turned_ratio=turned_ratio,
            similarity_ratio=similarity_ratio,
        )

    def forward(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        """A scalar from views of B images, four of each in a row: upright, and turned by 90, 180 and 270 degrees.

        student, teacher: floating logits [4 B, N], and floating embeddings [4 B, d] of a head, whose widths d may
        differ; labels: int64 [B]. No gradient reaches the teacher's. Raises ValueError for other shapes and types.
        """
        check_pairs("logits [4 B, N], and a head's embeddings [4 B, d]", student=student, teacher=teacher)
        (own, embedded), (its, its_embedded) = student, teacher
        check_logits(student_logits=own, teacher_logits=its)
        check_tensor("labels are", labels, "int64", count_sets("student_logits", own))
        check_tensor("student_embeddings is", embedded, "floating", len(own), "d")
        check_tensor("teacher_embeddings is", its_embedded, "floating", len(own), "d")
        return total(sskd_terms((own, embedded), (its.detach(), its_embedded.detach()), labels, self.options))


SSKD_TEACHER = Definition(
    loss=sskd_teacher,
    options=NoOptions,
    source=f"{SOURCE}, first stage",
    formula=r"\mathrm{CE}(s_{ij}),\; s_{ij} = \cos\bigl(g(\mathrm{rot}^r x_i), g(x_j)\bigr), \text{ target } j = i",
    trains_student=False,
    revision=1,
    spread="turned crops",
    head=contrast_head,
    taxonomy=Taxonomy(
        knowledge=(), sees="teacher alone", chosen_by="none", labels="the image itself", status="verified"
    ),
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
    taxonomy=Taxonomy(
        knowledge=("answer", "relation"),
        sees="both the same",
        chosen_by="rank",
        labels="none on turned ones",
        status="verified",
    ),
)
