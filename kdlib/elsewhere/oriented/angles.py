"""Angles as classes on a circle: their labels, and how a teacher's answer teaches them.

The circular smooth label (CSL; Yang and Yan, ECCV 2020) cuts the half turn into bins and gives the neighbours of the
true one a part of its weight, across the seam at -90 and 90 degrees too. The published program trains a sigmoid for
each bin; here it is one softmax, so that the answer is a distribution that decoupled KD (Zhao et al., 2022) can teach.
"""

import torch
from torch import Tensor

from kdlib.elsewhere.oriented.geometry import HALF_TURN
from kdlib.methods.dkd import DKDLoss

WIDTH = 4  # degrees of a bin, omega
BINS = int(HALF_TURN) // WIDTH
RADIUS = 1.5  # of the window, in bins: 6 degrees
NEAR = 2  # bins from the true one that belong to the target's group
TEMPERATURE = 4.0


def bin_of(angles: Tensor) -> Tensor:
    """int64 [...]: the bin of angles in degrees, which may be any.

    >>> bin_of(torch.tensor([-90.0, 0.0, 89.9, 90.0])).tolist()
    [0, 22, 44, 0]
    """
    return ((angles + 90) / WIDTH).floor().long() % BINS


def angle_of(bins: Tensor) -> Tensor:
    """The middle of bins int64 [...], in degrees from -88 to 88."""
    return (bins + 0.5) * WIDTH - 90


def bins_away(bins: Tensor) -> Tensor:
    """int64 [..., BINS]: how many bins each one lies from bins [...], the shorter way round."""
    apart = (torch.arange(BINS, device=bins.device) - bins[..., None]) % BINS
    return torch.minimum(apart, BINS - apart)


def window(bins: Tensor) -> Tensor:
    """float32 [..., BINS]: the circular smooth label exp(-d^2 / (2 r^2)) of bins [...], 1 at the bin itself."""
    return torch.exp(-bins_away(bins).float().square() / (2 * RADIUS**2))


def angle_loss(logits: Tensor, angles: Tensor) -> Tensor:
    """Cross-entropy [...] of logits [..., BINS] with the window of angles [...], normalised to a distribution.

    Least where the softmax is the window; there it is the entropy of it, not 0.
    """
    label = window(bin_of(angles)).to(logits.dtype)
    return -(label / label.sum(-1, keepdim=True) * logits.log_softmax(-1)).sum(-1)


def grouped(logits: Tensor, bins: Tensor, near: int = NEAR, temperature: float = TEMPERATURE) -> Tensor:
    """[N, 1 + rest]: logits [N, BINS] in which the bins within `near` of bins [N] are one, the first.

    Its probability at the temperature is the sum of theirs; those of the others stay, in their order.
    """
    target = bins_away(bins) <= near
    group = temperature * (logits / temperature).masked_fill(~target, -torch.inf).logsumexp(-1)
    rest = logits[~target].view(len(logits), BINS - 2 * near - 1)
    return torch.cat([group[:, None], rest], 1)


def angle_divergence(student: Tensor, teacher: Tensor, angles: Tensor, beta: float, near: int = NEAR) -> Tensor:
    """Decoupled KD of N cells: T^2 (TCKD + beta NCKD) of `kdlib.methods.dkd`, a mean over cells, 0 of none.

    logits [N, BINS]; angles [N] in degrees: what the label says. The target is the label's bin and its neighbours: TCKD
    is of (their sum, the rest), NCKD of the bins among the rest. With near = 0 it is DKD of one bin.
    """
    if not len(student):
        return 0.0 * student.sum()
    bins = bin_of(angles)
    own, other = (grouped(logits, bins, near) for logits in (student, teacher.detach()))
    first = torch.zeros(len(own), dtype=torch.int64, device=own.device)
    return DKDLoss(TEMPERATURE, beta=beta)(own, other, first)
