"""Hierarchical Self-supervised Augmented Knowledge Distillation (Yang et al., IJCAI 2021): branches on turned views.

A first stage trains branches on the teacher, frozen or together with them; a second trains the student and its own.
Each view that the policy makes becomes four, as in `kdlib.methods.sskd`.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, NoOptions, Term, soft_term, summed
from kdlib.methods.kd import kd_loss
from kdlib.methods.turns import set_labels
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


def hsakd(batch: Batch, options: HSAKDOptions) -> Loss:
    """CE of upright views, KL_T of all, and KL_T of every branch."""
    student, teacher, temperature = batch.student, batch.teacher_output, options.temperature
    pairs = zip(student.head_output.unbind(1), teacher.head_output.unbind(1), strict=True)
    branches = summed(kd_loss(own, other, temperature) for own, other in pairs)
    return {
        "ce": Term(F.cross_entropy(student.logits[::4], set_labels(batch)), options.ce_weight),
        "kl": soft_term(kd_loss(student.logits, teacher.logits, temperature), options.kd_weight, temperature),
        "branches": soft_term(branches, options.branch_weight, temperature),
    }, {}


HSAKD_TEACHER = Definition(
    loss=hsakd_teacher,
    options=NoOptions,
    source=f"{SOURCE}, heads on a frozen teacher",
    formula=r"\sum_l \mathrm{CE}(a_l(\mathrm{rot}^r x), 4y + r)",
    trains_student=False,
    revision=1,
    spread="turns",
    head=branches_of,
)


HSAKD_JOINT_TEACHER = Definition(
    loss=hsakd_joint_teacher,
    options=NoOptions,
    source=f"{SOURCE}, teacher and heads trained together",
    formula=r"\mathrm{CE}(x, y) + \sum_l \mathrm{CE}(a_l(\mathrm{rot}^r x), 4y + r)",
    needs_teacher=False,
    spread="turns",
    head=branches_of,
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
)
