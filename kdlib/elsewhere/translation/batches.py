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
    """The pairs of a run."""

    def __init__(self, spec: TranslationSpec, pairs: Sequence[Pair], speller: Speller):
        self.spec, self.speller = spec, speller
        self.texts = [source for source, _ in pairs]
        self.sources = [speller.plain(source) for source in self.texts]
        self.targets = [speller.plain(target) for _, target in pairs]
        self.lengths = torch.tensor([len(target) for target in self.targets])
        self.steps_per_epoch = len(pairs) // spec.pairs_per_step
        self.counts = torch.bincount(torch.tensor([i for ids in self.sources for i in ids]), minlength=len(speller))
        self.order, self.view = lru_cache(maxsize=1)(self._order), lru_cache(maxsize=1)(self._view)

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

    def _order(self, epoch: int) -> Tensor:
        """int64 [steps, B] of one epoch: drawn pairs, with those of like length in one step, steps in a drawn order."""
        size, draws = self.spec.pairs_per_step, generator(self.spec.seed, "order of pairs", epoch)
        drawn = torch.randperm(len(self.texts), generator=draws)[: self.steps_per_epoch * size]
        alike = drawn[self.lengths[drawn].argsort(stable=True)].view(-1, size)
        return alike[torch.randperm(len(alike), generator=draws)]

    def _view(self, epoch: int) -> list[list[int]]:
        """What the second presentation of each pair reads in one epoch."""
        spec = self.spec
        if spec.p == 0:
            return self.sources
        if spec.view == "replacement":
            return replaced(self.sources, self.counts, spec.p, spec.seed, epoch)
        return spelt_anew(self.speller, self.texts, spec.p, spec.seed, epoch)
