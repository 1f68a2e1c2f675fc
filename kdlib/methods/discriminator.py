"""A network that tells the features of a student from those of its teacher, and is led astray by the student.

With a reversed gradient (Ganin and Lempitsky, ICML 2015): one pass trains the network to tell them apart, and the
student to make that hard.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Reversed(torch.autograd.Function):
    """The values as they are; their gradient times -weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reversed_gradient(x: Tensor, weight: float) -> Tensor:
    """x, through which a gradient goes back with the opposite sign, times weight."""
    return _Reversed.apply(x, weight)


class Discriminator(nn.Module):
    """A logit for each row of features [M, d]: above 0 it takes the row for the teacher's. Two layers of d units."""

    def __init__(self, dimensions: int):
        super().__init__()
        self.dimensions = dimensions
        self.layers = nn.Sequential(nn.Linear(dimensions, dimensions), nn.ReLU(), nn.Linear(dimensions, 1))

    def forward(self, features: Tensor) -> Tensor:
        """float [M] of float [M, d]."""
        return self.layers(features).squeeze(1)

    @property
    def macs(self) -> int:
        """Of one view, of which it sees the features of both networks."""
        return 2 * self.dimensions * (self.dimensions + 1)


def discrimination(
    discriminator: Discriminator, student: Tensor, teacher: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """(the mean logistic loss of telling rows apart, the share that is told apart), two scalars.

    student, teacher: features float [M, d]. Guessing costs log 2. The discriminator's gradient is that of the loss; the
    student's is -weight times it, so it learns to be taken for the teacher.
    """
    logits = torch.cat([discriminator(reversed_gradient(student, weight)), discriminator(teacher)])
    is_teacher = torch.arange(len(logits), device=logits.device) >= len(student)
    loss = F.binary_cross_entropy_with_logits(logits, is_teacher.to(logits.dtype))
    return loss, ((logits.detach() > 0) == is_teacher).to(logits.dtype).mean()
