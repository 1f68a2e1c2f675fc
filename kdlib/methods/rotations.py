"""Methods that turn every view by quarter turns and train extra heads on them: SSKD and HSAKD.

Both have a first stage that trains the teacher's head, and a second that trains the student. Each view that the policy
makes becomes four; so under JDA the set of x and the set of x~ are two images with four views each.
"""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdlib import losses
from kdlib.heads import AuxiliaryBranches, ContrastHead
from kdlib.methods.base import Batch, Definition, Loss, NoOptions, Term
from kdlib.models import Backbone
from kdlib.records import Number, Record


def _set_labels(batch: Batch) -> Tensor:
    """int64 [B * V / 4]: the label of each set of four turned views."""
    return batch.view_labels[::4]


def _turned(values: Tensor) -> Tensor:
    """The three turned views of each set: [4 M, ...] -> [3 M, ...]."""
    return values.view(-1, 4, *values.shape[1:])[:, 1:].flatten(0, 1)


# --- SSKD


def _contrast_head(backbone: Backbone, options: Record) -> ContrastHead:
    return ContrastHead(backbone.feature_dim)


def _sskd_teacher(batch: Batch, options: NoOptions) -> Loss:
    similarity = losses.rotation_similarity(batch.student.extra)
    targets = losses.rotation_targets(similarity.shape[1], similarity.device)
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


def _sskd(batch: Batch, options: SSKDOptions) -> Loss:
    labels, t2, tau = _set_labels(batch), options.temperature**2, options.similarity_temperature
    student, teacher = batch.student.logits, batch.teacher.logits
    similarity = [losses.rotation_similarity(output.extra) for output in (batch.student, batch.teacher)]
    targets = losses.rotation_targets(len(labels), labels.device)
    turned = losses.ranked_kl(
        _turned(student),
        _turned(teacher),
        labels.repeat_interleave(3),
        options.temperature,
        options.turned_ratio,
    )
    alike = losses.ranked_kl(*similarity, targets, tau, options.similarity_ratio)
    upright = losses.kd_loss(student[::4], teacher[::4], options.temperature)
    return {
        "ce": Term(F.cross_entropy(student[::4], labels), options.ce_weight),
        "kl": Term(upright, options.kd_weight * t2),
        "turned": Term(turned, options.turned_weight * t2),
        "similarity": Term(alike, options.similarity_weight * tau**2),
    }, {}


# --- HSAKD


def _branches(backbone: Backbone, options: Record) -> AuxiliaryBranches:
    return AuxiliaryBranches(backbone)


def _joint_cross_entropy(batch: Batch) -> tuple[Tensor, Tensor]:
    """Sum over branches of the cross-entropy with the joint label, and the accuracy of the last branch on it."""
    branches, joint = batch.student.extra, losses.joint_labels(_set_labels(batch))  # [4 M, L, 4 N], [4 M]
    each = [F.cross_entropy(branch, joint) for branch in branches.unbind(1)]
    return sum(each), (branches[:, -1].argmax(1) == joint).float().mean()


def _hsakd_teacher(batch: Batch, options: NoOptions) -> Loss:
    joint, right = _joint_cross_entropy(batch)
    return {"joint": Term(joint, 1.0)}, {"pretext": right}


def _hsakd_joint(batch: Batch, options: NoOptions) -> Loss:
    joint, right = _joint_cross_entropy(batch)
    ce = F.cross_entropy(batch.student.logits[::4], _set_labels(batch))
    return {"ce": Term(ce, 1.0), "joint": Term(joint, 1.0)}, {"pretext": right}


class HSAKDOptions(Record):
    """Weights of the terms; both KL terms are also multiplied by temperature squared."""

    temperature: Number = Field(3.0, gt=0, title=r"T")
    ce_weight: Number = Field(1.0, ge=0)
    kd_weight: Number = Field(1.0, ge=0)
    branch_weight: Number = Field(1.0, ge=0)


def _hsakd(batch: Batch, options: HSAKDOptions) -> Loss:
    student, teacher, t, t2 = batch.student, batch.teacher, options.temperature, options.temperature**2
    pairs = zip(student.extra.unbind(1), teacher.extra.unbind(1), strict=True)
    return {
        "ce": Term(F.cross_entropy(student.logits[::4], _set_labels(batch)), options.ce_weight),
        "kl": Term(losses.kd_loss(student.logits, teacher.logits, t), options.kd_weight * t2),
        "branches": Term(sum(losses.kd_loss(s, o, t) for s, o in pairs), options.branch_weight * t2),
    }, {}


_SSKD = "Self-Supervision KD (Xu et al., ECCV 2020)"
_HSAKD = "Hierarchical Self-supervised Augmented KD (Yang et al., IJCAI 2021)"

METHODS = {
    "sskd_teacher": Definition(
        _sskd_teacher,
        NoOptions,
        f"{_SSKD}, first stage",
        r"\mathrm{CE}(s_{ij}),\; s_{ij} = \cos\bigl(g(\mathrm{rot}^r x_i), g(x_j)\bigr), \text{ target } j = i",
        trains_student=False,
        revision=1,
        spread="turned crops",
        head=_contrast_head,
    ),
    "sskd": Definition(
        _sskd,
        SSKDOptions,
        f"{_SSKD}, second stage",
        r"\alpha\,\mathrm{CE} + \beta\, T^2 \mathrm{KL}_T(x) + \gamma\, T^2 \mathrm{KL}_T(\mathrm{rot}^r x)"
        r" + \delta\, \tau^2 \mathrm{KL}_\tau(s_t \| s_s)",
        taught_by=("sskd_teacher",),
        spread="turned crops",
        head=_contrast_head,
    ),
    "hsakd_teacher": Definition(
        _hsakd_teacher,
        NoOptions,
        f"{_HSAKD}, heads on a frozen teacher",
        r"\sum_l \mathrm{CE}(a_l(\mathrm{rot}^r x), 4y + r)",
        trains_student=False,
        revision=1,
        spread="turns",
        head=_branches,
    ),
    "hsakd_joint_teacher": Definition(
        _hsakd_joint,
        NoOptions,
        f"{_HSAKD}, teacher and heads trained together",
        r"\mathrm{CE}(x, y) + \sum_l \mathrm{CE}(a_l(\mathrm{rot}^r x), 4y + r)",
        needs_teacher=False,
        spread="turns",
        head=_branches,
    ),
    "hsakd": Definition(
        _hsakd,
        HSAKDOptions,
        f"{_HSAKD}, student",
        r"\mathrm{CE}(x, y) + T^2 \mathrm{KL}_T(\mathrm{rot}^r x) + T^2 \sum_l \mathrm{KL}_T(a_l(\mathrm{rot}^r x))",
        taught_by=("hsakd_teacher", "hsakd_joint_teacher"),
        pairs_stages=True,
        spread="turns",
        head=_branches,
    ),
}
