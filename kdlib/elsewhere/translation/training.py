"""A run of translation at work."""

import copy
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.elsewhere.translation.batches import Batch, Batches, Written
from kdlib.elsewhere.translation.decoding import BATCH, padded, translate
from kdlib.elsewhere.translation.losses import (
    Neighbours,
    answers_loss,
    consistency_loss,
    encoder_loss,
    label_loss,
    nearest_states,
    neighbour_answers,
    words_loss,
)
from kdlib.elsewhere.translation.network import Translator, encoder_macs, pair_macs
from kdlib.elsewhere.translation.parallel import Pair, load_text
from kdlib.elsewhere.translation.scores import text_scores
from kdlib.elsewhere.translation.spec import BEAM, TranslationSpec
from kdlib.elsewhere.translation.spelling import BOS, EOS, PAD, speller_of
from kdlib.lab.evaluate import eval_mode
from kdlib.lab.learning import Learner
from kdlib.randomness import seeded

SHOWN = 3  # translations that are kept to be read


class Translation(Learner):
    """Teacher and student read the same pieces, and write after the same ones."""

    def __init__(self, spec: TranslationSpec, taught: dict[str, Tensor] | None):
        spec.check()
        text = load_text(spec.data)
        self.spec, self.speller = spec, speller_of(text.train, spec.pieces)
        self.test = text.test[: spec.tested]
        self.external = load_text(spec.external).test if spec.external else ()
        self.fingerprint = _joint(text.fingerprint, load_text(spec.external).fingerprint if spec.external else "")
        with seeded(spec.seed, "translator"):
            self.student = Translator(spec.shape(len(self.speller)), spec.dropout).to(spec.machine.device)
        self.optimiser = torch.optim.Adam(self.student.parameters(), lr=spec.learning_rate, betas=(0.9, 0.98))
        self.average = copy.deepcopy(self.student).requires_grad_(False) if spec.terms.encoder else None
        self.module = self.student if self.average is None else nn.ModuleList([self.student, self.average])
        self.steps, self.evaluations = spec.steps, spec.evaluations
        self.teacher = None if taught is None else self._teacher(taught)
        further = self._written([source for source, _ in text.train[spec.pairs : spec.sentences]])
        self.batches = Batches(spec, text.train[: spec.pairs], self.speller, further)
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), (self.batches.lengths + 1).cumsum(0)])
        self.near = self._neighbours() if spec.terms.neighbours else None
        if spec.terms.sequences:
            pairs = slice(spec.pairs)
            self.batches.targets[pairs] = translate(self.teacher, self.batches.sources[pairs], BEAM)

    @property
    def network(self) -> Translator:
        return self.student

    def _teacher(self, taught: dict[str, Tensor]) -> Translator:
        network = Translator(self.spec.teacher.shape(len(self.speller)), 0.0)
        network.load_state_dict(taught)
        return network.to(self.spec.machine.device).eval().requires_grad_(False)

    def _written(self, sources: Sequence[str]) -> list[Written]:
        """What the teacher writes for text without translations, greedily."""
        if not sources:
            return []
        return list(zip(sources, translate(self.teacher, [self.speller.plain(s) for s in sources]), strict=True))

    @torch.no_grad()
    def _neighbours(self) -> Neighbours:
        """Of the teacher's state before each piece of the plain training pairs, which follow one another."""
        states, pieces, batches = [], [], self.batches
        for start in range(0, len(batches.texts), BATCH):
            source = padded(batches.sources[start : start + BATCH]).to(self.spec.machine.device)
            targets = batches.targets[start : start + BATCH]
            hidden = self.teacher.hidden(
                padded([[BOS, *t] for t in targets]).to(source), self.teacher.encode(source), source
            )
            labels = padded([[*t, EOS] for t in targets]).to(source)
            states.append(hidden[labels != PAD])
            pieces.append(labels[labels != PAD])
        return nearest_states(torch.cat(states), torch.cat(pieces), self.spec.terms.k)

    def step(self, number: int) -> dict[str, Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.spec, number)
        batch = self.batches.at(number)
        batch = Batch(*(tensor.to(self.spec.machine.device) for tensor in batch))
        self.module.train()
        with seeded(self.spec.seed, f"dropout {number}"):
            memory = self.student.encode(batch.source)
            scores = self.student.scores(self.student.hidden(batch.target, memory, batch.source))
        terms, macs = self._terms(batch, scores), self._macs(batch)
        if self.average is not None:
            terms["encoder"], again = self._encoder(batch, memory, number)
            macs += again
        loss = sum(terms.values())
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        if self.average is not None:
            move(self.average, self.student, self.spec.terms.average)
        return {"loss": loss, **terms, "gmacs": loss.new_tensor(macs / 1e9)}

    def _encoder(self, batch: Batch, memory: Tensor, number: int) -> tuple[Tensor, int]:
        """The term of the encoder with its weight, 0 in a step without such text, and the cost of the second pass."""
        rows = (batch.ids >= self.spec.pairs).repeat(len(batch.source) // len(batch.ids))
        if not rows.any():
            return memory.new_zeros(()), 0
        read = self.batches.again(number).to(memory.device)
        with torch.no_grad(), seeded(self.spec.seed, f"dropout of the average {number}"):
            others = self.average.encode(read)
        loss = self.spec.terms.encoder * encoder_loss(memory[rows], batch.source[rows], others, read)
        return loss, len(read) * encoder_macs(self.student.shape, read.shape[1])

    def _terms(self, batch: Batch, scores: Tensor) -> dict[str, Tensor]:
        """The parts of the loss, each with its weight."""
        weights = self.spec.terms
        terms = {"labels": label_loss(scores, batch.labels, self.spec.smoothing)}
        if weights.words:
            with torch.no_grad():
                taught = self.teacher(batch.source, batch.target)
            terms["words"] = weights.words * words_loss(scores, taught, batch.labels)
        if self.near is not None:
            places = [torch.arange(self.starts[i], self.starts[i + 1]) for i in batch.ids.tolist()]
            rows = torch.cat(places).repeat(len(batch.labels) // len(batch.ids)).to(self.near.pieces.device)
            near = Neighbours(self.near.pieces[rows], self.near.distances[rows])
            answers = neighbour_answers(near, weights.tau, scores.shape[2])
            terms["neighbours"] = weights.neighbours * answers_loss(scores[batch.labels != PAD], answers)
        if weights.consistency:
            terms["consistency"] = weights.consistency * consistency_loss(scores, batch.labels)
        return terms

    def _macs(self, batch: Batch) -> int:
        """Of a step, padding too: forward and backward of the student, forward of a teacher that is asked; without
        the second pass of `_encoder`."""
        lengths = batch.source.shape[1], batch.target.shape[1]
        own = 3 * pair_macs(self.student.shape, *lengths)
        asked = pair_macs(self.teacher.shape, *lengths) if self.spec.terms.words else 0
        return len(batch.source) * (own + asked)

    def evaluate(self) -> dict[str, float]:
        """BLEU and chrF of greedy translations, and the share of pieces that are written right after the right ones."""
        return {**self._scores(self.test), "token_accuracy": token_accuracy(self.student, self._spelt(self.test))}

    def measure(self) -> dict[str, Any]:
        """Some translations; with an external text the scores on it."""
        some = self.test[:SHOWN]
        written = self._translated(some)
        keys = ("source", "reference", "translation")
        found: dict[str, Any] = {
            "examples": [dict(zip(keys, (*pair, text), strict=True)) for pair, text in zip(some, written, strict=True)],
            "pairs": self.batches.pairs,
        }
        if self.spec.untranslated:
            found["untranslated"] = len(self.batches.texts) - self.batches.pairs
        external = self._scores(self.external) if self.external else {}
        return found | {f"external_{name}": score for name, score in external.items()}

    def _scores(self, pairs: Sequence[Pair]) -> dict[str, float]:
        return text_scores(self._translated(pairs), [target for _, target in pairs])

    def _translated(self, pairs: Sequence[Pair]) -> list[str]:
        sources = [self.speller.plain(source) for source, _ in pairs]
        return [self.speller.text(ids) for ids in translate(self.student, sources)]

    def _spelt(self, pairs: Sequence[Pair]) -> list[tuple[list[int], list[int]]]:
        return [(self.speller.plain(source), self.speller.plain(target)) for source, target in pairs]


@torch.no_grad()
def move(average: nn.Module, network: nn.Module, kept: float) -> None:
    """A step of a moving average of weights: of each, `kept` stays, and the rest is that of the network."""
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - kept)


def learning_rate(spec: TranslationSpec, step: int) -> float:
    """Of step 0, 1, 2, ...: it rises evenly over the warm-up, then falls with the root of the step."""
    done = (step + 1) / spec.warm_up
    return spec.learning_rate * min(done, 1 / math.sqrt(done))


@torch.no_grad()
def token_accuracy(network: Translator, spelt: Sequence[tuple[list[int], list[int]]]) -> float:
    """How many pieces of targets, in percent, are the likeliest after those before them; spelt: (source, target)."""
    right = count = 0
    with eval_mode(network):
        for start in range(0, len(spelt), BATCH):
            some = spelt[start : start + BATCH]
            source, target, labels = (
                padded(ids).to(network.embedding.weight.device)
                for ids in ([s for s, _ in some], [[BOS, *t] for _, t in some], [[*t, EOS] for _, t in some])
            )
            there = labels != PAD
            right += (network(source, target).argmax(2) == labels)[there].sum().item()
            count += there.sum().item()
    return 100 * right / count


def _joint(*fingerprints: str) -> str:
    return hashlib.sha256("|".join(fingerprints).encode()).hexdigest()[:16]
