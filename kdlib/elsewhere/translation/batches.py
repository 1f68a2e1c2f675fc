"""Which pairs a step of translation has, and how they are spelt: all of it follows from the seed and the step.

So that arms of one seed see the same targets step by step, pairs are sorted by what is never spelt anew: their targets.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from kdlib.elsewhere.translation.decoding import padded
from kdlib.elsewhere.translation.parallel import Pair
from kdlib.elsewhere.translation.spec import PRESENTATIONS, TranslationSpec
from kdlib.elsewhere.translation.spelling import BOS, EOS, Speller, replaced, spelt_anew
from kdlib.randomness import generator

Written = tuple[str, list[int]]  #: a source without a translation, and the pieces that are learnt in its place


class Batch(NamedTuple):
    """The pairs of a step: first all in their plain spelling, then all in their view."""

    #: int64 [B], their numbers
    ids: Tensor
    #: int64 [2 B, S]
    source: Tensor
    #: int64 [2 B, T], what is written so far: begins with BOS
    target: Tensor
    #: int64 [2 B, T], what comes next: ends with EOS
    labels: Tensor


class Batches:
    """The pairs of a run, and behind them its text without translations."""

    def __init__(self, spec: TranslationSpec, pairs: Sequence[Pair], speller: Speller, further: Sequence[Written] = ()):
        self.spec, self.speller, self.pairs = spec, speller, len(pairs)
        self.texts = [source for source, _ in (*pairs, *further)]
        self.sources = [speller.plain(source) for source in self.texts]
        self.targets = [*(speller.plain(target) for _, target in pairs), *(pieces for _, pieces in further)]
        self.lengths = torch.tensor([len(target) for target in self.targets])
        self.steps_per_epoch = len(self.texts) // spec.pairs_per_step
        self.counts = torch.bincount(torch.tensor([i for ids in self.sources for i in ids]), minlength=len(speller))
        self.order, self.view = lru_cache(maxsize=1)(self._order), lru_cache(maxsize=1)(self._view)
        self.view_again = lru_cache(maxsize=1)(self._view_again)

    def at(self, step: int) -> Batch:
        """The batch of step 0, 1, 2, ..."""
        epoch, place = divmod(step, self.steps_per_epoch)
        ids, views = self.order(epoch)[place], self.view(epoch)
        chosen = ids.tolist()
        targets = [self.targets[i] for i in chosen] * PRESENTATIONS
        return Batch(
            ids,
            padded([self.sources[i] for i in chosen] + [views[i] for i in chosen]),
            padded([[BOS, *target] for target in targets]),
            padded([[*target, EOS] for target in targets]),
        )

    def again(self, step: int) -> Tensor:
        """int64 [2 U, S]: how another network reads the U > 0 sentences of a step that have no translation.

        As in `Batch` first plainly, then in their view, of which it has draws of its own.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        chosen = [i for i in self.order(epoch)[place].tolist() if i >= self.pairs]
        views = self.view_again(epoch)
        return padded([self.sources[i] for i in chosen] + [views[i - self.pairs] for i in chosen])

    def _order(self, epoch: int) -> Tensor:
        """int64 [steps, B] of one epoch: drawn pairs, with those of like length in one step, steps in a drawn order."""
        size, draws = self.spec.pairs_per_step, generator(self.spec.seed, "order of pairs", epoch)
        drawn = torch.randperm(len(self.texts), generator=draws)[: self.steps_per_epoch * size]
        alike = drawn[self.lengths[drawn].argsort(stable=True)].view(-1, size)
        return alike[torch.randperm(len(alike), generator=draws)]

    def _view(self, epoch: int) -> list[list[int]]:
        """What the second presentation of each sentence reads in one epoch."""
        return self._viewed(0, epoch)

    def _view_again(self, epoch: int) -> list[list[int]]:
        """The same for another network, of sentences without translations alone."""
        return self._viewed(self.pairs, epoch, " again")

    def _viewed(self, first: int, epoch: int, which: str = "") -> list[list[int]]:
        spec, sources = self.spec, self.sources[first:]
        if spec.p == 0:
            return sources
        if spec.view == "replacement":
            return replaced(sources, self.counts, spec.p, spec.seed, epoch, f"replacement{which}")
        return spelt_anew(self.speller, self.texts[first:], spec.p, spec.seed, epoch, f"spelling{which}")
