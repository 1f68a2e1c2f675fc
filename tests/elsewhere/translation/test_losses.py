"""Losses of translation against other libraries, and in their limits."""

import faiss
import numpy as np
import pytest
import sacrebleu
import torch
import torch.nn.functional as F

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
from kdlib.elsewhere.translation.scores import text_scores
from kdlib.elsewhere.translation.spelling import PAD

B, T, V = 4, 5, 12


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.randn(B, T, V, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


@pytest.fixture
def labels() -> torch.Tensor:
    found = torch.randint(1, V, (B // 2, T), generator=torch.Generator().manual_seed(1)).repeat(2, 1)
    found[[0, 2], 3:] = PAD
    return found


def test_labels_are_smoothed_as_in_torch_and_by_hand(scores, labels) -> None:
    there = labels != PAD
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(scores[there], labels[there])
    z = scores[there].detach().numpy()
    logs = z - np.log(np.exp(z).sum(1, keepdims=True))
    spread = 0.9 * np.eye(V)[labels[there].numpy()] + 0.1 / V
    assert label_loss(scores, labels, 0.1).item() == pytest.approx(expected.item())
    assert expected.item() == pytest.approx(-(spread * logs).sum(1).mean())


def test_words_are_the_divergence_at_each_place_that_counts(scores, labels) -> None:
    taught = torch.randn(B, T, V, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    p, q = (z[labels != PAD].detach().softmax(1).numpy() for z in (taught, scores))
    assert words_loss(scores, taught, labels).item() == pytest.approx((p * np.log(p / q)).sum(1).mean())
    assert words_loss(scores, scores, labels).item() == pytest.approx(0, abs=1e-12)
    changed = torch.where((labels == PAD)[..., None], 9.0, taught)
    assert torch.equal(words_loss(scores, changed, labels), words_loss(scores, taught, labels))
    assert words_loss(scores.float() * 1e4, taught.float() * 1e4, labels).isfinite()


def test_consistency_is_zero_for_equal_passes_and_symmetric(scores, labels) -> None:
    twice = scores[:2].repeat(2, 1, 1)
    assert consistency_loss(twice, labels).item() == pytest.approx(0, abs=1e-12)
    value = consistency_loss(scores, labels)
    assert value > 0 and consistency_loss(scores.roll(2, 0), labels).item() == pytest.approx(value.item())
    p, q = (z[labels[:2] != PAD].detach().softmax(1).numpy() for z in scores.chunk(2))
    assert value.item() == pytest.approx(((p - q) * np.log(p / q)).sum(1).mean() / 2)


@pytest.mark.parametrize("loss", ["words", "consistency", "answers"])
def test_gradients_are_those_of_differences(scores, labels, loss) -> None:
    other = torch.randn(B, T, V, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    there = labels != PAD
    functions = {
        "words": lambda z: words_loss(z, other, labels),
        "consistency": lambda z: consistency_loss(z, labels),
        "answers": lambda z: answers_loss(z[there], other[there].softmax(1)),
    }
    assert torch.autograd.gradcheck(functions[loss], (scores,))


# --- neighbours


def test_neighbours_are_those_that_faiss_finds() -> None:
    states = torch.randn(700, 24, generator=torch.Generator().manual_seed(3))
    pieces = torch.arange(700)
    index = faiss.IndexFlatL2(24)
    index.add(states.numpy())
    distances, places = index.search(states.numpy(), 8)
    found = nearest_states(states, pieces, 8)
    assert (found.pieces.numpy() == places).mean() > 0.999 and (found.pieces[:, 0] == pieces).all()
    np.testing.assert_allclose(found.distances.numpy(), distances, atol=1e-3)
    assert nearest_states(states[:5], pieces[:5], 64).pieces.shape == (5, 5)


def test_the_nearest_alone_is_the_label(scores) -> None:
    """k = 1 finds the place itself: KL(q || p) is then the cross-entropy of the label."""
    states = torch.randn(9, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    pieces, z = torch.arange(9), scores.flatten(0, 1)[:9]
    q = neighbour_answers(nearest_states(states, pieces, 1), 10.0, V)
    assert torch.equal(q, F.one_hot(pieces, V).double())
    assert answers_loss(z, q).item() == pytest.approx(F.cross_entropy(z, pieces).item())


def test_at_a_high_temperature_neighbours_are_counted() -> None:
    near = Neighbours(torch.tensor([[3, 3, 7, 1]]), torch.tensor([[0.0, 1.0, 2.0, 50.0]]))
    expected = torch.tensor([[0, 0.25, 0, 0.5, 0, 0, 0, 0.25]])
    assert torch.allclose(neighbour_answers(near, 1e8, 8), expected)
    assert neighbour_answers(near, 1e-3, 8)[0, 3] == pytest.approx(1)


def test_answers_as_the_students_cost_nothing(scores) -> None:
    z = scores.flatten(0, 1)
    assert answers_loss(z, z.softmax(1)).item() == pytest.approx(0, abs=1e-12)


# --- scores of texts


def test_a_text_is_its_own_best_translation() -> None:
    text = ["Der alte Hund sieht das Haus.", "Heute bringt ein Vogel die Blumen, weil er will."]
    assert text_scores(text, text) == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}
    other = ["Der alte Hund sucht das Haus.", "Ein Vogel bringt heute Blumen."]
    found = text_scores(other, text)
    assert found["bleu"] == sacrebleu.corpus_bleu(other, [text]).score < 60
    assert 0 < found["chrf"] == sacrebleu.corpus_chrf(other, [text]).score < 100


# --- what an encoder reads


@pytest.fixture
def read() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """States of sources, and another network's of the same sentences, in other spellings."""
    draws = torch.Generator().manual_seed(5)
    states, others = (torch.randn(B, s, 6, generator=draws, dtype=torch.float64) for s in (T, T + 2))
    source, spelt = torch.ones(B, T, dtype=torch.int64), torch.ones(B, T + 2, dtype=torch.int64)
    source[1, 2:], spelt[0, 4:], spelt[2, 1:] = PAD, PAD, PAD
    return states, source, others, spelt


def test_encoders_are_apart_by_the_slow_sum(read) -> None:
    states, source, others, spelt = read
    expected = 0.0
    for b in range(B):
        h, mean = (x[b, ids[b] != PAD].numpy().mean(0) for x, ids in ((states, source), (others, spelt)))
        expected += ((h / np.linalg.norm(h) - mean / np.linalg.norm(mean)) ** 2).sum() / B
    assert encoder_loss(*read).item() == pytest.approx(expected)
    assert encoder_loss(states, source, 3 * states, source).item() == pytest.approx(0, abs=1e-12)
    assert encoder_loss(states, source, -states, source).item() == pytest.approx(4)


def test_encoders_do_not_see_padding(read) -> None:
    states, source, others, spelt = read
    wider = torch.cat([states, torch.full((B, 3, 6), torch.inf, dtype=torch.float64)], 1)
    changed = wider.masked_fill((F.pad(source, (0, 3), value=PAD) == PAD)[..., None], torch.nan)
    found = encoder_loss(changed, F.pad(source, (0, 3), value=PAD), others, spelt)
    assert found.item() == pytest.approx(encoder_loss(*read).item(), rel=1e-12)


def test_the_gradient_of_encoders_reaches_the_first_alone(read) -> None:
    states, source, others, spelt = read
    states.requires_grad_(), others.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: encoder_loss(x, source, others.detach(), spelt), (states,))
    encoder_loss(states, source, others, spelt).backward()
    assert others.grad is None and states.grad[1, 2:].eq(0).all() and states.grad[1, :2].ne(0).any()
