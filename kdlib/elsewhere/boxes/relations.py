"""Relations between what is said at several places of an image, and a gate for all that a teacher says.

Inspired by ReAL (Wang et al., IEEE TIP 2024), of which the abstract was read: relations within the student and between
student and teacher, of classes and boxes together, and a weight for distillation that is adapted in training. The form
of all of them is ours; the gate is the rule of Du et al. (arXiv 1812.02224), by which an auxiliary loss counts as far
as its gradient points where that of the main one does.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.elsewhere.boxes.detector import BINS, STRIDE, Said, distances
from kdlib.elsewhere.boxes.losses import Targets
from kdlib.elsewhere.boxes.pictures import SIDE
from kdlib.randomness import generator

PLACES = 32  # of an image, between which relations are taken
MEMORY = 0.9  # of the gate's moving average
SMALL = 1e-12  # that a product of lengths is never below

Gate = Literal["none", "agreement", "mean", "shuffled"]


def places_of(asked: Targets, teacher: Said, count: int = PLACES) -> Tensor:
    """int64 [B, count]: the cells of each image with a box, filled up, or cut, by the teacher's highest score."""
    scores = teacher.classes.detach().sigmoid().amax(-1) + 2.0 * (asked.labels >= 0)  # a score is below 1
    return scores.topk(count, dim=1).indices


def descriptions(said: Said, places: Tensor) -> Tensor:
    """float [B, M, C + 4] of length 1: scores of the classes and distances to the four sides, each part of equal
    length, at some places [B, M]."""
    rows = torch.arange(len(places), device=places.device)[:, None]
    scores, sides = said.classes[rows, places].sigmoid(), distances(said.sides[rows, places])
    return torch.cat([F.normalize(scores, dim=-1), F.normalize(sides, dim=-1)], -1) / 2**0.5


def relations(first: Tensor, second: Tensor) -> Tensor:
    """float [B, M, M]: cosines of descriptions [B, M, D] of two sides, place by place."""
    return first @ second.transpose(1, 2)


def relation_losses(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """(self, mutual) of descriptions [B, M, D], means over pairs of places and images.

    self: squared differences of the student's relations from the teacher's; mutual: of those between student and
    teacher from the teacher's. Both are 0 where they say the same. Only the second knows in which direction a
    description lies.
    """
    teacher = teacher.detach()
    wanted = relations(teacher, teacher)
    found = (relations(student, student), relations(student, teacher))
    own, mutual = ((one - wanted).square().mean() for one in found)
    return own, mutual


class Gated(nn.Module):
    """A detector, and the weight of all that its teacher says, of steps that come one after the other.

    rule: "agreement", a moving average of how far the gradients of labels and teacher agree, or one of its controls,
    which know that average too: "mean", its mean over the steps so far; "shuffled", its value at one of them, drawn by
    seed.
    """

    #: float32 [steps]: the moving average after each
    averages: Tensor

    def __init__(self, detector: nn.Module, rule: Gate, steps: int, seed: int):
        super().__init__()
        self.detector, self.rule, self.seed = detector, rule, seed
        self.register_buffer("averages", torch.zeros(steps, device=next(detector.parameters()).device))

    def update(self, main: Tensor, auxiliary: Tensor, parameter: Tensor, number: int) -> Tensor:
        """The weight of a step, float32 in [0, 1], of the gradients of two losses with respect to a parameter."""
        grads = [torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in (main, auxiliary)]
        found = agreement(*grads)
        self.averages[number] = MEMORY * self.averages[number - 1] + (1 - MEMORY) * found if number else found
        return self.averages[self.chosen(number)].mean()

    def chosen(self, number: int) -> slice:
        """The steps over whose averages a step's weight is the mean."""
        if self.rule == "mean":
            return slice(number + 1)
        last = number
        if self.rule == "shuffled":
            last = int(torch.randint(number + 1, (), generator=generator(self.seed, "gate", number)))
        return slice(last, last + 1)


def gate_macs(width: int, classes: int) -> int:
    """Multiply-accumulates that a gate adds for one view: two gradients, each through the answers and into the weight
    of the last layer that they share."""
    cells, shared = (SIDE // STRIDE) ** 2, 4 * width
    return 2 * cells * shared * (classes + 4 * BINS + 9 * shared)


def agreement(first: Tensor, second: Tensor) -> Tensor:
    """max(0, cosine) of two tensors of one shape, a float32 scalar; 0 where one of them is 0.

    >>> agreement(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 2.0])).item()
    0.7071067690849304
    """
    a, b = first.flatten().double(), second.flatten().double()
    return (a @ b / (a.norm() * b.norm()).clamp_min(SMALL)).clamp(0, 1).float()
