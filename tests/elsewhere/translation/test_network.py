"""The network: no place sees what comes after it, padding counts for nothing, and operations are counted."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdlib.elsewhere.translation.decoding import beam_search, greedy, translate
from kdlib.elsewhere.translation.network import Shape, Translator, pair_macs, positions
from kdlib.elsewhere.translation.spelling import BOS, EOS, PAD
from kdlib.randomness import seeded

SHAPE = Shape(pieces=40, width=16, layers=2, heads=4)


@pytest.fixture
def network() -> Translator:
    with seeded(1, "test"):
        return Translator(SHAPE, dropout=0.1).eval()


def ids(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(4, SHAPE.pieces, size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_a_later_piece_changes_no_earlier_score(network) -> None:
    source, target = ids(3, 7), ids(3, 6, seed=1)
    before = network(source, target)
    for j in range(6):
        changed = target.clone()
        changed[:, j] = (changed[:, j] - 3) % 36 + 4
        after = network(source, changed)
        assert torch.equal(after[:, :j], before[:, :j]) and not torch.allclose(after[:, j], before[:, j])


@torch.no_grad()
def test_padding_changes_nothing(network) -> None:
    source, target = ids(3, 7), ids(3, 6, seed=1)
    pad = torch.full((3, 4), PAD)
    padded = network(torch.cat([source, pad], 1), torch.cat([target, pad], 1))
    assert torch.allclose(padded[:, :6], network(source, target), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_changed_source_is_seen(network) -> None:
    source, target = ids(1, 7), ids(1, 6, seed=1)
    assert not torch.allclose(network(source, target), network(source.flip(1), target))


@torch.no_grad()
def test_piece_by_piece_is_as_at_once(network) -> None:
    source, target = ids(3, 7), ids(3, 6, seed=1)
    whole, past = network(source, target), [None, None]
    others = network.attended(network.encode(source), source)
    for place in range(6):
        scores, past = network.step(target[:, place], others, past, place)
        assert torch.allclose(scores, whole[:, place], rtol=1e-4, atol=1e-5)


def test_one_matrix_embeds_and_scores(network) -> None:
    assert sum(p.shape == (SHAPE.pieces, SHAPE.width) for p in network.parameters()) == 1
    assert torch.allclose(positions(0, 9, 16)[4:], positions(4, 5, 16))


def test_operations_are_those_that_torch_counts(network) -> None:
    with FlopCounterMode(display=False) as counted:
        network(ids(2, 7), ids(2, 11))
    assert counted.get_total_flops() == 2 * 2 * pair_macs(SHAPE, 7, 11)


# --- writing


@torch.no_grad()
def test_a_beam_of_one_is_greedy_and_wider_ones_find_likelier_sentences(network) -> None:
    network.embedding.weight.mul_(1.3)  # so that some sentences end
    source = ids(8, 6)
    source[3, 4:] = PAD
    assert torch.equal(beam_search(network, source, 1), greedy(network, source))
    scores = {beam: log_probabilities(network, source, beam_search(network, source, beam)) for beam in (1, 4)}
    assert scores[4].mean() > scores[1].mean()


def log_probabilities(network: Translator, source: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    """The mean log-probability of a piece of each sentence, float [B]."""
    target = torch.cat([torch.full((len(written), 1), BOS), written[:, :-1]], 1)
    logs = network(source, target).log_softmax(2).gather(2, written[..., None])[..., 0]
    there = written != PAD
    return (logs * there).sum(1) / there.sum(1)


@torch.no_grad()
def test_a_whole_beam_finds_the_likeliest_of_all(network) -> None:
    """Against all sentences of up to two pieces of a vocabulary of five, one by one."""
    with seeded(3, "test"):
        small = Translator(Shape(pieces=6, width=16, layers=1, heads=2), 0.0).eval()
    source = torch.tensor([[4, 5]])
    found = beam_search(small, source, 36)[0].tolist()
    found = found[: found.index(EOS)] if EOS in found else found
    best = max(
        ([a, b, EOS][-n:] for n in (1, 2, 3) for a in range(6) for b in range(6)),
        key=lambda s: log_probabilities(small, source, torch.tensor([s])).item() if PAD not in s else -1e9,
    )
    score = log_probabilities(small, source, torch.tensor([[*found, EOS]])).item()
    assert score >= log_probabilities(small, source, torch.tensor([best])).item() - 1e-5


def test_translations_stand_in_the_order_of_their_sources(network) -> None:
    sources = [row[: 2 + i % 5].tolist() for i, row in enumerate(ids(70, 8))]
    together = translate(network, sources)
    for i in (0, 33, 69):
        assert translate(network, sources[i : i + 1])[0] == together[i]
    assert all(EOS not in answer for answer in together) and network.training is False
