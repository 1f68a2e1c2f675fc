"""How a network writes: the likeliest piece after another, or the likeliest of several sentences (beam search)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kdlib.elsewhere.translation.network import Translator
from kdlib.elsewhere.translation.spelling import BOS, EOS, PAD
from kdlib.lab.evaluate import eval_mode

LONGER = 5  # pieces that a translation may have beyond twice those of its own source, whatever is beside it
BATCH = 64  # sentences that are translated together


def padded(spellings: Sequence[Sequence[int]]) -> Tensor:
    """int64 [B, length of the longest], with PAD behind."""
    return pad_sequence([torch.tensor(ids) for ids in spellings], batch_first=True, padding_value=PAD)


@torch.no_grad()
def translate(network: Translator, sources: Sequence[Sequence[int]], beam: int = 1) -> list[list[int]]:
    """The pieces of a translation of each source, without marks; beam: how many are followed, 1 is greedy.

    Sources of like length are translated together; the order of the answers is that of the sources.
    """
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    found: list[list[int]] = [[] for _ in sources]
    device = network.embedding.weight.device
    with eval_mode(network):
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            batch = padded([sources[i] for i in some]).to(device)
            answers = greedy(network, batch) if beam == 1 else beam_search(network, batch, beam)
            for i, ids in zip(some, answers.tolist(), strict=True):
                found[i] = ids[: ids.index(EOS)] if EOS in ids else ids[: longest(len(sources[i]))]
    return found


def longest(source: int | Tensor) -> int | Tensor:
    """How many pieces a translation of a source of so many may have."""
    return 2 * source + LONGER


def greedy(network: Translator, source: Tensor) -> Tensor:
    """int64 [B, T]: of each source int64 [B, S] the likeliest piece after another, PAD after EOS."""
    others = network.attended(network.encode(source), source)
    piece, past, written = _beginning(network, len(source)), [None] * network.shape.layers, []
    done, limits = torch.zeros_like(piece, dtype=torch.bool), longest((source != PAD).sum(1))
    for place in range(longest(source.shape[1])):
        scores, past = network.step(piece, others, past, place)
        piece = scores.argmax(1).masked_fill(done, PAD)
        written.append(piece)
        done = done | (piece == EOS) | (place + 1 >= limits)
        if done.all():
            break
    return torch.stack(written, dim=1)


def beam_search(network: Translator, source: Tensor, beam: int) -> Tensor:
    """int64 [B, T]: the likeliest of the sentences that are followed, by its mean log-probability of a piece.

    The `beam` likeliest beginnings of each source are followed; one that has ended stays among them as it is.
    """
    count, vocabulary = len(source), network.shape.pieces
    source = source.repeat_interleave(beam, 0)
    others = network.attended(network.encode(source), source)
    piece, past = _beginning(network, count * beam), [None] * network.shape.layers
    total = torch.full((count, beam), -torch.inf, device=source.device)
    total[:, 0] = 0  # all begin alike: the first alone is followed
    ended = torch.zeros(count * beam, dtype=torch.bool, device=source.device)
    written, limits = piece.new_zeros(count * beam, 0), longest((source != PAD).sum(1))
    for place in range(longest(source.shape[1])):
        scores, past = network.step(piece, others, past, place)
        gained = scores.log_softmax(1)
        gained[ended] = -torch.inf
        gained[ended, PAD] = 0.0
        total, best = (total[..., None] + gained.view(count, beam, vocabulary)).flatten(1).topk(beam)
        rows = (best // vocabulary + beam * torch.arange(count, device=best.device)[:, None]).flatten()
        piece = (best % vocabulary).flatten()
        written = torch.cat([written[rows], piece[:, None]], 1)
        ended = ended[rows] | (piece == EOS) | (place + 1 >= limits)
        past = [(key[rows], value[rows]) for key, value in past]
        if ended.all():
            break
    lengths = (written != PAD).sum(1).view(count, beam)
    chosen = (total / lengths).argmax(1) + beam * torch.arange(count, device=total.device)
    return written[chosen]


def _beginning(network: Translator, count: int) -> Tensor:
    return torch.full((count,), BOS, device=network.embedding.weight.device)
