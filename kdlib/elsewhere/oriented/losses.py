"""What a detector of turned boxes learns: the terms of `kdlib.elsewhere.boxes.losses`, and those of the angle."""

from typing import NamedTuple

from torch import Tensor

from kdlib.elsewhere.boxes import losses
from kdlib.elsewhere.boxes.detector import Said, centres
from kdlib.elsewhere.boxes.losses import Form, Targets, assigned, confidence
from kdlib.elsewhere.oriented.angles import angle_divergence, angle_loss
from kdlib.elsewhere.oriented.boxes import TurnedBoxes
from kdlib.elsewhere.oriented.detector import TurnedSaid
from kdlib.elsewhere.oriented.geometry import holds

ANGLE = 0.25  # weight of an angle's terms, beside that of the classes


class TurnedTargets(NamedTuple):
    """What each of P cells of B images is to say."""

    #: of class and sides, those of the box before it is turned
    upright: Targets
    #: float32 [B, P] in degrees; 0 where there is no box
    angles: Tensor


class TeacherWeights(NamedTuple):
    """Of what a teacher says."""

    #: of the divergence of classes
    kd: float
    #: of the divergence of sides
    ld: float
    #: of the divergence of angles
    akd: float
    #: within it, of the bins beside the target's
    beta: float


def targets(boxes: TurnedBoxes, side: int) -> TurnedTargets:
    """Each cell is to find the smallest box that is near and, before it is turned, holds the cell's centre.

    Cells whose centre lies in a turned box that is hardly visible, and which have no box of their own, are asked
    nothing.
    """
    plain = losses.targets(boxes, side)
    if boxes.labels.shape[1] == 0:
        return TurnedTargets(plain, plain.corners[..., 0])
    which, positive, _ = assigned(boxes, side)
    hidden = holds(boxes.turned[:, :, None], centres(side, boxes.corners.device)) & boxes.ignored[..., None]
    angles = boxes.angles.gather(1, which) * positive
    return TurnedTargets(plain._replace(ignored=hidden.any(1) & ~positive), angles)


def label_losses(said: TurnedSaid, asked: TurnedTargets, side: int) -> dict[str, Tensor]:
    """The terms of what labels say, scalars, each with its weight: "class", "sides" and "giou" of the boxes before they
    are turned, and "angle", a mean over cells with a box, weighted as those of the sides are."""
    found = losses.label_losses(Said(said.classes, said.sides), asked.upright, side)
    image, cell = (asked.upright.labels >= 0).nonzero(as_tuple=True)
    weights, total = confidence(Said(said.classes, said.sides), image, cell)
    angle = angle_loss(said.angles[image, cell], asked.angles[image, cell])
    return found | {"angle": ANGLE * (weights * angle).sum() / total}


def teacher_losses(
    student: TurnedSaid, teacher: TurnedSaid, asked: TurnedTargets, weights: TeacherWeights, form: Form = "bernoulli"
) -> dict[str, Tensor]:
    """The terms of what a teacher says, scalars: "kd" of classes and "ld" of sides as for upright boxes, and "akd", the
    decoupled divergence of the angles of cells with a box. 0 where the student says the same."""
    own, other = (Said(said.classes, said.sides) for said in (student, teacher))
    found = losses.teacher_losses(own, other, asked.upright, (weights.kd, weights.ld), form)
    cells = (asked.upright.labels >= 0).nonzero(as_tuple=True)
    angle = angle_divergence(student.angles[cells], teacher.angles[cells], asked.angles[cells], weights.beta)
    return found | {"akd": weights.akd * angle}
