"""What a translation is trained with: labels that are smoothed, and what a teacher says of each piece.

B sentences of T places, with V pieces in the vocabulary, of sources of S pieces; states are of width d. Places with PAD
as label count for nothing; every loss of places is the mean over the others. Distances of kNN-KD are those of the
teacher's last hidden states (Yang et al., 2022).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.elsewhere.translation.spelling import PAD
from kdlib.methods.kd import kd_loss, kl_divergence

CHUNK = 512  # states whose neighbours are searched at once


def label_loss(scores: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy with smoothed labels, a scalar; scores: float [B, T, V]; labels: int64 [B, T]."""
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=PAD, label_smoothing=smoothing)


def words_loss(scores: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
    """KL(teacher || student) at each place, at temperature 1, a scalar; scores, taught: float [B, T, V]."""
    there = labels != PAD
    return kd_loss(scores[there], taught[there], 1.0)


def consistency_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Half of KL both ways between the first half of the sentences and the second, their other presentations.

    R-Drop (Liang et al., 2021). scores: float [2 B, T, V]; labels: int64 [2 B, T], the same in both halves.
    """
    first, second = (half[labels.chunk(2)[0] != PAD] for half in scores.chunk(2))
    return (kl_divergence(first, second, 1.0) + kl_divergence(second, first, 1.0)).mean() / 2


class Neighbours(NamedTuple):
    """What followed the nearest states of each of n states."""

    #: int64 [n, k], the pieces
    pieces: Tensor
    #: float32 [n, k], squared distances
    distances: Tensor


def nearest_states(states: Tensor, pieces: Tensor, k: int) -> Neighbours:
    """The k nearest of n states by squared L2 distance, each among its own; all of them where there are fewer.

    states: float32 [n, d]; pieces: int64 [n], what followed each.
    """
    k, found = min(k, len(states)), []
    squares = states.square().sum(1)
    for some, own in zip(states.split(CHUNK), squares.split(CHUNK), strict=True):
        distances = (own[:, None] - 2 * some @ states.T + squares).clamp_min(0)
        found.append(distances.topk(k, dim=1, largest=False))
    near, places = (torch.cat([getattr(one, part) for one in found]) for part in ("values", "indices"))
    return Neighbours(pieces[places], near)


def neighbour_answers(near: Neighbours, tau: float, vocabulary: int) -> Tensor:
    """q, float32 [n, V]: the softmax of -distance / tau, added up over neighbours of the same piece."""
    weights = (-near.distances / tau).softmax(1)
    return weights.new_zeros(len(weights), vocabulary).scatter_add_(1, near.pieces, weights)


def answers_loss(scores: Tensor, answers: Tensor) -> Tensor:
    """KL(q || student), a scalar; scores: float [n, V]; answers: q, float [n, V], rows sum to one."""
    entropy = torch.xlogy(answers, answers).sum(1)
    return (entropy - (answers * scores.log_softmax(1)).sum(1)).mean()


def pooled(states: Tensor, source: Tensor) -> Tensor:
    """float [B, d] of unit length: the mean of what was read over the pieces of each source, padding left out.

    states: float [B, S, d]; source: int64 [B, S].
    """
    there = (source != PAD)[..., None]
    return F.normalize(states.masked_fill(~there, 0).sum(1) / there.sum(1), dim=1)


def encoder_loss(states: Tensor, source: Tensor, others: Tensor, read: Tensor) -> Tensor:
    """Squared distance of `pooled` states from those of another network, a scalar: the mean over sentences.

    Inspired by dual distillation (Wan et al., 2024). states: float [B, S, d] of source: int64 [B, S]; others: float
    [B, S', d] of read: int64 [B, S'], the same sentences, maybe in another spelling. They are what is approached: no
    gradient reaches them.
    """
    return (pooled(states, source) - pooled(others, read).detach()).square().sum(1).mean()
