"""What a detector learns from labels: generalized focal loss (Li et al., NeurIPS 2020) and GIoU.

And what it learns from a teacher: localization distillation (LD; Zheng et al., CVPR 2022), and the classes.
"""

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.elsewhere.boxes.detector import BINS, STRIDE, Said, centres, decode, distances, encode
from kdlib.elsewhere.boxes.tensors import Boxes, area, paired_iou

Form = Literal["bernoulli", "softmax"]

FORMS: tuple[Form, ...] = get_args(Form)
NEAR = 1.5  # strides between the centres of a box and of a cell that is to find it, at most, along x and along y
DFL, GIOU = 0.25, 2.0  # weights beside that of the classes, as published
LD, LD_TEMPERATURE = 0.25, 10.0
KD_TEMPERATURE = 2.0
LEAST = 1e-6  # that a sum of weights is divided by


class Targets(NamedTuple):
    """What each of P cells of B images is to say."""

    #: int64 [B, P]: the class of its box, or -1
    labels: Tensor
    #: float32 [B, P, 4], the corners of its box; zeros where there is none
    corners: Tensor
    #: bool [B, P]: cells of which nothing is asked
    ignored: Tensor


def targets(boxes: Boxes, side: int) -> Targets:
    """Each cell is to find the smallest box whose centre is near (1.5 strides) and which holds the cell's centre.

    Cells whose centre lies in a box that is hardly visible, and which have no box of their own, are asked nothing.
    """
    which, positive, hidden = assigned(boxes, side)
    if boxes.labels.shape[1] == 0:
        return Targets(which - 1, which[..., None].expand(-1, -1, 4).float(), hidden)
    labels = torch.where(positive, boxes.labels.gather(1, which), -1)
    own = boxes.corners.gather(1, which[..., None].expand(-1, -1, 4)) * positive[..., None]
    return Targets(labels, own, hidden & ~positive)


def assigned(boxes: Boxes, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each cell, [B, P]: which box it is to find, whether it is to find one, whether it lies in a hidden one."""
    places = centres(side, boxes.corners.device)
    if boxes.labels.shape[1] == 0:
        empty = torch.zeros(len(boxes), len(places), dtype=torch.int64, device=places.device)
        return empty, empty.bool(), empty.bool()
    corners, middles = boxes.corners[:, :, None], boxes.corners.unflatten(-1, (2, 2)).mean(-2)[:, :, None]
    inside = ((places > corners[..., :2]) & (places < corners[..., 2:])).all(-1)  # [B, K, P]
    near = ((places - middles).abs() <= NEAR * STRIDE).all(-1)
    wanted = inside & near & boxes.kept[..., None]
    size, which = area(boxes.corners)[..., None].expand_as(wanted).masked_fill(~wanted, torch.inf).min(1)
    return which, size.isfinite(), (inside & boxes.ignored[..., None]).any(1)


def quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """`|y - sigma|^2` times the cross-entropy of y, for each of logits float [...]; quality: y in [0, 1]. 0 at y."""
    return (quality - logits.sigmoid()).square() * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def distribution_focal(logits: Tensor, strides: Tensor) -> Tensor:
    """Cross-entropy of logits [..., BINS] with the two bins around a distance [...] in strides, weighed by nearness.

    It is least where the two bins have these weights, and then the mean of the distribution is the distance.
    """
    strides = strides.clamp(0, BINS - 1.001)
    lower = strides.floor()
    upper_weight, log = strides - lower, logits.log_softmax(-1)
    lower_term, upper_term = (log.gather(-1, (lower.long() + k)[..., None])[..., 0] for k in (0, 1))
    return -(1 - upper_weight) * lower_term - upper_weight * upper_term


def label_losses(said: Said, asked: Targets, side: int) -> dict[str, Tensor]:
    """The terms of what labels say, scalars, each with its weight.

    "class": of all cells that are asked and all classes, over the number of cells with a box; the true class is to
    have the IoU of the predicted box as its score. "sides" and "giou": means over cells with a box, weighted by their
    own best score, through which no gradient goes.
    """
    from torchvision.ops import generalized_box_iou_loss  # takes a while to import

    image, cell = (asked.labels >= 0).nonzero(as_tuple=True)
    places, true = centres(side, said.sides.device)[cell], asked.corners[image, cell]
    logits = said.sides[image, cell]
    guessed = decode(places, distances(logits))
    quality = torch.zeros_like(said.classes)
    quality[image, cell, asked.labels[image, cell]] = paired_iou(guessed, true).detach()
    per_cell = quality_focal(said.classes, quality).sum(-1).masked_fill(asked.ignored, 0)
    weights, total = confidence(said, image, cell)
    split = distribution_focal(logits, encode(places, true) / STRIDE).mean(-1)
    overlap = generalized_box_iou_loss(guessed, true, reduction="none")
    return {
        "class": per_cell.sum() / max(1, len(cell)),
        "sides": DFL * (weights * split).sum() / total,
        "giou": GIOU * (weights * overlap).sum() / total,
    }


def teacher_losses(
    student: Said, teacher: Said, asked: Targets, weights: tuple[float, float], form: Form = "bernoulli"
) -> dict[str, Tensor]:
    """The terms of what a teacher says, scalars: "kd" of the classes of all cells that are asked, over the number of
    cells with a box, and "ld" of the sides of cells with a box, a mean weighted by the student's own best score.

    weights: of kd and of ld. Both are divergences from the teacher's answer, 0 where the student says the same.
    """
    image, cell = (asked.labels >= 0).nonzero(as_tuple=True)
    per_cell = class_divergence(student.classes, teacher.classes, form).masked_fill(asked.ignored, 0)
    certain, total = confidence(student, image, cell)
    sides = side_divergence(student.sides[image, cell], teacher.sides[image, cell]).mean(-1)
    return {
        "kd": weights[0] * per_cell.sum() / max(1, len(cell)),
        "ld": weights[1] * (certain * sides).sum() / total,
    }


def confidence(said: Said, image: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The best score of some cells, without gradient, and what a sum that is weighted by it is divided by."""
    scores = said.classes.detach()[image, cell].sigmoid().amax(-1)
    return scores, scores.sum().clamp_min(LEAST)


def side_divergence(student: Tensor, teacher: Tensor, temperature: float = LD_TEMPERATURE) -> Tensor:
    """T^2 KL(teacher || student) of logits [..., BINS] at temperature T, a mean over bins as in the released program.

    The sum over bins, as KD of classes usually has it, is nine times as much.
    """
    own, other = ((x / temperature).log_softmax(-1) for x in (student, teacher.detach()))
    return temperature**2 * (other.exp() * (other - own)).mean(-1)


def class_divergence(
    student: Tensor, teacher: Tensor, form: Form = "bernoulli", temperature: float = KD_TEMPERATURE
) -> Tensor:
    """T^2 KL(teacher || student) of class logits [..., C] at temperature T, a mean over classes.

    "bernoulli": of each class by itself, as a score is a sigmoid. "softmax": over the classes, as in the released
    program of LD; of one class alone it is 0 whatever the student says. Raises ValueError for another word.
    """
    if form not in FORMS:
        raise ValueError(f"form = {form!r} is unknown; allowed are {', '.join(FORMS)}")
    own, other = student / temperature, teacher.detach() / temperature
    if form == "softmax":
        log, target = own.log_softmax(-1), other.log_softmax(-1)
        return temperature**2 * (target.exp() * (target - log)).mean(-1)
    yes, no = ((F.logsigmoid(s * other), F.logsigmoid(s * own)) for s in (1, -1))
    return temperature**2 * sum(target.exp() * (target - log) for target, log in (yes, no)).mean(-1)
