"""Hierarchical Self-supervised Augmented Knowledge Distillation (Yang et al., IJCAI 2021): branches on turned views.

A first stage trains branches on the teacher, frozen or together with them; a second trains the student and its own.
Each view that the policy makes becomes four, as in `kdlib.methods.sskd`.
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
    summed,
    total,
)
from kdlib.methods.kd import kd_loss
from kdlib.methods.taxonomy import Taxonomy
from kdlib.methods.turns import count_sets, set_labels
from kdlib.models import Backbone, Output
from kdlib.records import Number, Record

SOURCE = "Hierarchical Self-supervised Augmented KD (Yang et al., IJCAI 2021)"


class AuxiliaryBranches(nn.Module):
    """HSAKD's branches (Yang et al., IJCAI 2021), built from any backbone of L stages.

    Branch l < L is a fresh rebuild of stages l+1..L fed with the output of stage l; branch L is a rebuild of stage L
    that takes its own output width at stride 1. Each ends like the backbone, averages, and classifies 4 N joint labels
    (class, quarter turn). Nothing is shared.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        count = len(backbone.stages)
        self.bodies = nn.ModuleList(
            nn.Sequential(*(backbone.new_stage(index) for index in range(start, count)), backbone.new_end())
            for start in range(1, count)
        )
        self.bodies.append(nn.Sequential(backbone.new_stage(count - 1, tail=True), backbone.new_end()))
        self.classifiers = nn.ModuleList(nn.Linear(backbone.feature_dim, 4 * backbone.num_classes) for _ in self.bodies)

    def forward(self, output: Output) -> Tensor:
        """[B, L, 4 N]"""
        parts = zip(output.stages, self.bodies, self.classifiers, strict=True)
        return torch.stack([classify(body(stage).mean(dim=(2, 3))) for stage, body, classify in parts], dim=1)


def branches_of(backbone: Backbone, options: Record) -> AuxiliaryBranches:
    """The branches of a backbone."""
    return AuxiliaryBranches(backbone)


def joint_labels(labels: Tensor) -> Tensor:
    """HSAKD's label 4 y + r of view r = 0..3 (Yang et al., IJCAI 2021): int64 [4B], interleaved by image, from [B]."""
    return (4 * labels[:, None] + torch.arange(4, device=labels.device)).flatten()


def joint_cross_entropy(batch: Batch) -> tuple[Tensor, Tensor]:
    """Sum over branches of the cross-entropy with the joint label, and the accuracy of the last branch on it."""
    branches, joint = batch.student.head_output, joint_labels(set_labels(batch))  # [4 M, L, 4 N], [4 M]
    each = [F.cross_entropy(branch, joint) for branch in branches.unbind(1)]
    return summed(each), (branches[:, -1].argmax(1) == joint).float().mean()


def hsakd_teacher(batch: Batch, options: NoOptions) -> Loss:
    """The branches of a frozen teacher: CE of each with the joint labels."""
    joint, right = joint_cross_entropy(batch)
    return {"joint": Term(joint, 1.0)}, {"pretext": right}


def hsakd_joint_teacher(batch: Batch, options: NoOptions) -> Loss:
    """The same, with the teacher itself: CE of its upright views too."""
    joint, right = joint_cross_entropy(batch)
    ce = F.cross_entropy(batch.student.logits[::4], set_labels(batch))
    return {"ce": Term(ce, 1.0), "joint": Term(joint, 1.0)}, {"pretext": right}


class HSAKDOptions(Record):
    """Weights of the terms; both KL terms are also multiplied by temperature squared."""

    temperature: Number = Field(3.0, gt=0, title=r"T")
    ce_weight: Number = Field(1.0, ge=0)
    kd_weight: Number = Field(1.0, ge=0)
    branch_weight: Number = Field(1.0, ge=0)


def hsakd_terms(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], options: HSAKDOptions
) -> dict[str, Term]:
    """KL_T of all views, and KL_T of every branch.

    student, teacher: logits [M, N], and those of the L branches on the same views, [M, L, 4 N].
    """
    temperature = options.temperature
    pairs = zip(student[1].unbind(1), teacher[1].unbind(1), strict=True)
    branches = summed(kd_loss(own, other, temperature) for own, other in pairs)
    return {
        "kl": soft_term(kd_loss(student[0], teacher[0], temperature), options.kd_weight, temperature),
        "branches": soft_term(branches, options.branch_weight, temperature),
    }


def hsakd(batch: Batch, options: HSAKDOptions) -> Loss:
    """`hsakd_terms`, and CE of upright views."""
    student, teacher = ((output.logits, output.head_output) for output in (batch.student, batch.teacher_output))
    ce = F.cross_entropy(student[0][::4], set_labels(batch))
    return {"ce": Term(ce, options.ce_weight)} | hsakd_terms(student, teacher, options), {}


DEFAULTS = HSAKDOptions()


class HSAKDLoss(nn.Module):
    """T^2 [KL_T of the logits + sum of KL_T of every branch], for a training loop of your own, each with its weight.

    The cross-entropy of the upright views is yours to add. The teacher's branches are trained before, each by its
    cross-entropy with `joint_labels`.

    temperature: T, above 0; kd_weight, branch_weight: 0 and up. Raises ValueError for other values.

    >>> import torch
    >>> logits, branches = torch.randn(32, 10, requires_grad=True), torch.randn(32, 3, 40, requires_grad=True)
    >>> teacher = torch.randn(32, 10), torch.randn(32, 3, 40)
    >>> HSAKDLoss(temperature=3.0)((logits, branches), teacher).backward()
    """

    def __init__(
        self,
        temperature: float = DEFAULTS.temperature,
        kd_weight: float = DEFAULTS.kd_weight,
        branch_weight: float = DEFAULTS.branch_weight,
    ):
        super().__init__()
        self.options = HSAKDOptions(temperature=temperature, kd_weight=kd_weight, branch_weight=branch_weight)

    def forward(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
        """A scalar from views of B images, four of each in a row: upright, and turned by 90, 180 and 270 degrees.

        student, teacher: floating logits [4 B, N], and those of L branches, [4 B, L, 4 N], as `AuxiliaryBranches`
        returns them. No gradient reaches the teacher's. Raises ValueError for other shapes and types.
        """
        check_pairs("logits [4 B, N], and those of the branches, [4 B, L, 4 N]", student=student, teacher=teacher)
        (own, branches), (its, its_branches) = student, teacher
        check_logits(student_logits=own, teacher_logits=its)
        count_sets("student_logits", own)
        check_tensor("student_branches is", branches, "floating", len(own), "L", 4 * own.shape[1])
        check_tensor("teacher_branches is", its_branches, "floating", *branches.shape)
        return total(hsakd_terms((own, branches), (its.detach(), its_branches.detach()), self.options))


HSAKD_TEACHER = Definition(
    loss=hsakd_teacher,
    options=NoOptions,
    source=f"{SOURCE}, heads on a frozen teacher",
    formula=r"\sum_l \mathrm{CE}(a_l(\mathrm{rot}^r x), 4y + r)",
    trains_student=False,
    revision=1,
    spread="turns",
    head=branches_of,
    taxonomy=Taxonomy(knowledge=(), sees="teacher alone", chosen_by="none", labels="class and turn", status="verified"),
)


HSAKD_JOINT_TEACHER = Definition(
    loss=hsakd_joint_teacher,
    options=NoOptions,
    source=f"{SOURCE}, teacher and heads trained together",
    formula=r"\mathrm{CE}(x, y) + \sum_l \mathrm{CE}(a_l(\mathrm{rot}^r x), 4y + r)",
    needs_teacher=False,
    spread="turns",
    head=branches_of,
    taxonomy=Taxonomy(knowledge=(), sees="teacher alone", chosen_by="none", labels="class and turn", status="verified"),
)


HSAKD = Definition(
    loss=hsakd,
    options=HSAKDOptions,
    source=f"{SOURCE}, student",
    formula=r"\mathrm{CE}(x, y) + T^2 \mathrm{KL}_T(\mathrm{rot}^r x)"
    r" + T^2 \sum_l \mathrm{KL}_T(a_l(\mathrm{rot}^r x))",
    taught_by=("hsakd_teacher", "hsakd_joint_teacher"),
    pairs_stages=True,
    spread="turns",
    head=branches_of,
    taxonomy=Taxonomy(
        knowledge=("answer",), sees="both the same", chosen_by="none", labels="none on turned ones", status="verified"
    ),
)
