"""A small Transformer (Vaswani et al., 2017) that reads one sentence and writes another.

Normalisation comes before each block, positions are sines, and one matrix embeds the pieces of both languages and gives
the scores of the next piece. B sentences of S pieces are read, T pieces are written, d is the width.
"""

import math
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.elsewhere.translation.spelling import PAD
from kdlib.lab.cost import parameters
from kdlib.models.hollow import hollow

Keys = tuple[Tensor, Tensor]  #: keys and values of one attention, float [B, heads, length, d / heads]


class Shape(NamedTuple):
    """How large a network is."""

    #: of the vocabulary
    pieces: int
    #: d, a multiple of the heads and of 2
    width: int
    #: of the encoder, and as many of the decoder
    layers: int
    #: of each attention
    heads: int

    @property
    def inner(self) -> int:
        """Width of the layer between two others in each block."""
        return 4 * self.width


class Attention(nn.Module):
    """Multi-head attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def keys(self, memory: Tensor) -> Keys:
        """Of what is attended to, float [B, length, d]."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def forward(self, queries: Tensor, keys: Keys, mask: Tensor | None) -> Tensor:
        """float [B, T, d]; mask: bool, False where nothing is attended to, [B, 1, 1 or T, length]."""
        key, value = keys
        query = self._split(self.query(queries)) / math.sqrt(key.shape[-1])
        scores = query @ key.transpose(2, 3)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return self.out((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """A layer: attention to the own sentence, in a decoder also to the other one, and two linear layers."""

    def __init__(self, shape: Shape, decodes: bool, dropout: float):
        super().__init__()
        self.own, self.other = (Attention(shape.width, shape.heads) if k <= decodes else None for k in (0, 1))
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width) for _ in range(2 + decodes))
        self.inner = nn.Sequential(nn.Linear(shape.width, shape.inner), nn.ReLU(), nn.Linear(shape.inner, shape.width))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, states: Tensor, mask: Tensor | None, other: tuple[Keys, Tensor] | None = None, past: Keys | None = None
    ) -> tuple[Tensor, Keys]:
        """States float [B, T, d], and the own keys with those before; other: keys of the other sentence, their mask."""
        normed = self.norms[0](states)
        own = self.own.keys(normed)
        if past is not None:
            own = torch.cat([past[0], own[0]], 2), torch.cat([past[1], own[1]], 2)
        states = states + self.dropout(self.own(normed, own, mask))
        if self.other is not None and other is not None:
            states = states + self.dropout(self.other(self.norms[1](states), *other))
        return states + self.dropout(self.inner(self.norms[-1](states))), own


class Translator(nn.Module):
    """Encoder and decoder.

    >>> network = Translator(Shape(pieces=50, width=16, layers=1, heads=2), dropout=0.1)
    >>> network(torch.randint(4, 50, (8, 7)), torch.randint(4, 50, (8, 5))).shape
    torch.Size([8, 5, 50])
    """

    def __init__(self, shape: Shape, dropout: float):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.pieces, shape.width)
        nn.init.normal_(self.embedding.weight, std=shape.width**-0.5)
        self.encoder, self.decoder = (
            nn.ModuleList(Block(shape, decodes, dropout) for _ in range(shape.layers)) for decodes in (False, True)
        )
        self.ends = nn.ModuleList(nn.LayerNorm(shape.width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Scores of the next piece at each place, float [B, T, V]; source, target: int64 [B, S] and [B, T]."""
        return self.scores(self.hidden(target, self.encode(source), source))

    def encode(self, source: Tensor) -> Tensor:
        """What was read, float [B, S, d]; source: int64 [B, S], padded with PAD."""
        states, mask = self._embedded(source, 0), (source != PAD)[:, None, None]
        for block in self.encoder:
            states, _ = block(states, mask)
        return self.ends[0](states)

    def hidden(self, target: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        """The last hidden states, float [B, T, d]; target: int64 [B, T], that begins with BOS."""
        length = target.shape[1]
        states = self._embedded(target, 0)
        mask = torch.ones(length, length, dtype=torch.bool, device=target.device).tril()[None, None]
        for block, other in zip(self.decoder, self.attended(memory, source), strict=True):
            states, _ = block(states, mask, other)
        return self.ends[1](states)

    def attended(self, memory: Tensor, source: Tensor) -> list[tuple[Keys, Tensor]]:
        """What each layer of the decoder attends to of the source, and its mask."""
        mask = (source != PAD)[:, None, None]
        return [(block.other.keys(memory), mask) for block in self.decoder]

    def step(
        self, piece: Tensor, others: list[tuple[Keys, Tensor]], past: list[Keys | None], place: int
    ) -> tuple[Tensor, list[Keys | None]]:
        """Scores of the piece after `piece`, float [B, V], and the keys so far; piece: int64 [B], at its place."""
        states, kept = self._embedded(piece[:, None], place), []
        for block, other, before in zip(self.decoder, others, past, strict=True):
            states, own = block(states, None, other, before)
            kept.append(own)
        return self.scores(self.ends[1](states))[:, 0], kept

    def scores(self, hidden: Tensor) -> Tensor:
        """float [..., V] of states float [..., d]."""
        return F.linear(hidden, self.embedding.weight)

    def _embedded(self, ids: Tensor, first: int) -> Tensor:
        width = self.shape.width
        states = self.embedding(ids) * math.sqrt(width)
        return self.dropout(states + positions(first, ids.shape[1], width).to(states))


def positions(first: int, count: int, width: int) -> Tensor:
    """Sines and cosines of places, float32 [count, width], from the place `first` on."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(first, first + count)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@cache
def network_parameters(shape: Shape) -> int:
    """Those of a translator."""
    with hollow():
        return parameters(Translator(shape, 0.0))


def pair_macs(shape: Shape, source: int, target: int) -> int:
    """Multiply-accumulates of one pair in one pass forward; source, target: pieces that are read and written.

    Linear layers and attention are counted, padding too where the lengths hold it.

    >>> pair_macs(Shape(pieces=4000, width=96, layers=2, heads=4), 22, 22) / 1e6
    19.17696
    """
    own = encoder_macs(shape, target)  # a decoder is an encoder of its sentence that attends to the other one too
    other = (2 * target + 2 * source) * shape.width**2 + 2 * target * source * shape.width
    return encoder_macs(shape, source) + own + shape.layers * other + target * shape.width * shape.pieces


def encoder_macs(shape: Shape, source: int) -> int:
    """Those of the encoder alone, for a sentence of so many pieces."""
    blocks = source * (4 * shape.width**2 + 2 * shape.width * shape.inner)
    return shape.layers * (blocks + 2 * source**2 * shape.width)
