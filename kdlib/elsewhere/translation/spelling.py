"""How sentences are spelt as pieces of words: one vocabulary for both languages by byte-pair encoding (Sennrich et al.,
2016), spellings that vary by BPE-dropout (Provilkov et al., 2020), and pieces replaced by others.

sentencepiece makes the vocabulary, spells plainly and puts pieces together. Its own dropout is not used: the same seed
gives other draws in another process. Here every draw follows from (seed, epoch, pair).
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from kdlib.data import paths
from kdlib.elsewhere.translation.parallel import Pair, text_hash
from kdlib.files import made_once
from kdlib.randomness import generator, stream_seed

PAD, BOS, EOS, UNKNOWN = 0, 1, 2, 3
BLANK = "\u2581"  # how sentencepiece writes a blank
MODEL = "bpe.model"


class Speller:
    """A vocabulary, and how it spells.

    >>> speller = Speller.trained([("the garden door", "die Gartentür"), ("the garden", "der Garten")], 300)
    >>> speller.text(speller.plain("the garden door"))
    'the garden door'
    """

    def __init__(self, model: bytes):
        processor = sentencepiece().SentencePieceProcessor
        self.model = processor(model_proto=model)
        self.pieces = [self.model.id_to_piece(i) for i in range(len(self))]
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}
        first = UNKNOWN + 1 + 256  # the pieces before are of control, and bytes
        self.ranks = {piece: i for i, piece in enumerate(self.pieces) if i >= first and len(piece) > 1}

    def __len__(self) -> int:
        return self.model.vocab_size()

    @classmethod
    def trained(cls, pairs: Sequence[Pair], size: int) -> "Speller":
        """Learns at most `size` pieces, 260 of them marks and bytes, from both sides of pairs.

        Characters that are in none of them are spelt as bytes, so that any text can be. Raises ValueError if there are
        fewer pieces than the text has characters.
        """
        model = BytesIO()
        try:
            sentencepiece().SentencePieceTrainer.train(
                sentence_iterator=(text for pair in pairs for text in pair), model_writer=model, vocab_size=size,
                model_type="bpe", character_coverage=1.0, byte_fallback=True, hard_vocab_limit=False, num_threads=1,
                normalization_rule_name="identity", pad_id=PAD, bos_id=BOS, eos_id=EOS, unk_id=UNKNOWN, minloglevel=2,
            )  # fmt: skip
        except RuntimeError as error:
            raise ValueError(f"pieces = {size} make no vocabulary of this text: {str(error).split(']')[-1]}") from error
        return cls(model.getvalue())

    def plain(self, text: str) -> list[int]:
        """The usual spelling."""
        return self.model.encode(text)

    def text(self, ids: Sequence[int]) -> str:
        """What pieces spell; marks are left out."""
        return self.model.decode([i for i in ids if i > UNKNOWN])

    def shown(self, ids: Sequence[int]) -> list[str]:
        """The pieces as text, each with the blank before it."""
        return [self.pieces[i].replace(BLANK, " ") for i in ids]

    def dropped(self, text: str, p: float, draw: random.Random) -> list[int]:
        """Another spelling of the same text: BPE-dropout. At p = 0 it is the plain one, at p = 1 that of characters."""
        words = (BLANK + word for word in text.split(" "))
        return [i for word in words for piece in self._merged(word, p, draw) for i in self._known(piece)]

    def _merged(self, word: str, p: float, draw: random.Random) -> list[str]:
        """Characters are merged pair by pair, the earliest learnt first; in each step each pair is left out with
        probability p, and there is an end when none is left."""
        pieces, ranks, last = list(word), self.ranks, len(self.pieces)
        while len(pieces) > 1:
            best, at = last, -1
            for i in range(len(pieces) - 1):
                rank = ranks.get(pieces[i] + pieces[i + 1], last)
                if rank < best and (p == 0 or draw.random() >= p):
                    best, at = rank, i
            if at < 0:
                break
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        return pieces

    def _known(self, piece: str) -> list[int]:
        """The piece, or the bytes of a character that is none."""
        if piece in self.ids:
            return [self.ids[piece]]
        return [self.ids[f"<0x{byte:02X}>"] for byte in piece.encode()]


def sentencepiece() -> Any:
    """The library, which only translations need. Raises ValueError where it is missing."""
    try:
        import sentencepiece
    except ImportError as error:
        raise ValueError("translation needs sentencepiece: pip install 'kdlib[elsewhere]'") from error
    return sentencepiece


def speller_of(pairs: Sequence[Pair], size: int) -> Speller:
    """The speller of training pairs, kept in the cache under what it was made from."""
    version = getattr(sentencepiece(), "__version__", "")
    folder = paths.cache_root() / f"spelling-{text_hash(pairs)[:16]}-{size}-{version}"
    made_once(folder, lambda temporary: _write(temporary / MODEL, pairs, size))
    return _read(folder / MODEL)


def _write(path: Path, pairs: Sequence[Pair], size: int) -> None:
    path.write_bytes(Speller.trained(pairs, size).model.serialized_model_proto())


@lru_cache(maxsize=2)
def _read(path: Path) -> Speller:
    return Speller(path.read_bytes())


def spelt_anew(
    speller: Speller, texts: Sequence[str], p: float, seed: int, epoch: int, role: str = "spelling"
) -> list[list[int]]:
    """Spellings of texts by BPE-dropout in one epoch; text i has draws of its own, which other roles have not."""
    return [
        speller.dropped(text, p, random.Random(stream_seed(seed, f"{role} {i}", epoch))) for i, text in enumerate(texts)
    ]


def replaced(
    spellings: Sequence[Sequence[int]], counts: torch.Tensor, p: float, seed: int, epoch: int, role: str = "replacement"
) -> list[list[int]]:
    """Spellings in which each piece is, with probability p, one that is drawn as often as it occurs.

    counts: float or int [V], how often each piece occurs in the training text.
    """
    draws, flat = generator(seed, role, epoch), torch.tensor([i for ids in spellings for i in ids])
    chosen = torch.rand(len(flat), generator=draws) < p
    others = torch.multinomial(counts.double(), len(flat), replacement=True, generator=draws)
    mixed = torch.where(chosen, others, flat)
    return [part.tolist() for part in mixed.split([len(ids) for ids in spellings])]
