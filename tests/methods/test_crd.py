"""Scores, losses and the memory of contrastive distillation: formulas in NumPy, and statistics of draws.

Statistical tests reject at 1e-4 each (the error rate of a correct program, were its seeds not fixed).
"""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdlib.methods import METHODS, Step, create_method, total
from kdlib.methods.crd import ContrastiveMemory, crd_loss, crd_scores
from kdlib.models import create_model
from kdlib.models.network import Network
from kdlib.randomness import seeded

from .conftest import count, draw, with_recorder
from .slow import examples, normal, unit, whole

ALPHA = 1e-4


# --- scores and loss


def slow_crd(scores: np.ndarray, z: float, images: int) -> float:
    k = scores.shape[1] - 1
    total = []
    for row in scores / z:
        total.append(math.log(row[0] / (row[0] + k / images + 1e-7)))
        total += [math.log(k / images / (v + k / images + 1e-7)) for v in row[1:]]
    return -math.fsum(total) / len(scores)


@pytest.mark.parametrize("images", [5, 24, 25, 200])  # 24 is the last for which all products are made
def test_crd_scores_are_the_slow_reference_and_take_the_smaller_way(images: int):
    anchor, bank, index = unit(4, 8), unit(images, 8, seed=1), whole(images, 4, 3, seed=2)

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.data_ptr() != bank.data_ptr():  # not the bank or a view of it
                self.elements = max(self.elements, result.numel())
            return result

    with Largest() as largest:
        found = crd_scores(anchor, bank, index)
    pairs = zip(anchor, index, strict=True)
    expected = [[math.exp(math.fsum((e * bank[j]).tolist()) / 0.07) for j in row] for e, row in pairs]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)
    assert largest.elements == 4 * min(images, 3 * 8)
    torch.testing.assert_close(crd_scores(anchor, bank, index, temperature=0.5), found ** (0.07 / 0.5))


@examples
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 500), st.floats(1e-3, 1e6), st.integers(0, 10**6))
def test_crd_loss_is_the_slow_reference(samples: int, negatives: int, images: int, z: float, seed: int):
    scores = normal(samples, negatives + 1, seed=seed).exp()
    found = crd_loss(scores, torch.tensor(z, dtype=torch.float64), images)
    assert found.shape == () and found.item() == pytest.approx(slow_crd(scores.numpy(), z, images), rel=1e-9)
    order = torch.randperm(negatives, generator=torch.Generator().manual_seed(seed)) + 1
    permuted = torch.cat([scores[:, :1], scores[:, order]], 1).flip(0)
    torch.testing.assert_close(crd_loss(permuted, torch.tensor(z, dtype=torch.float64), images), found)


def test_crd_loss_falls_with_the_positive_and_rises_with_negatives():
    scores = normal(3, 5).exp().requires_grad_()
    (gradient,) = torch.autograd.grad(crd_loss(scores, torch.tensor(2.0), 10), scores)
    assert (gradient[:, 0] < 0).all() and (gradient[:, 1:] > 0).all()


def test_crd_loss_in_float32_with_as_many_negatives_as_published():
    scores = (normal(4, 16385, scale=0.1) / 0.07).exp()
    z = 50_000 * scores.mean()
    found = crd_loss(scores.float(), z.float(), 50_000).item()
    assert found == pytest.approx(slow_crd(scores.numpy(), z.item(), 50_000), rel=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_crd_loss_is_finite_at_extreme_scores(size: float):
    scores = (normal(4, 9).exp().float() * size).requires_grad_()
    loss = crd_loss(scores, torch.tensor(1.0), 50)
    assert loss.item() == pytest.approx(slow_crd(scores.detach().double().numpy(), 1.0, 50), rel=1e-5)
    assert torch.autograd.grad(loss, scores)[0].isfinite().all()


@pytest.mark.parametrize("views", [1, 2])
def test_crd_scores_the_pooled_features_of_every_view(make_batch, loss_of, views: int):
    batch = with_recorder(make_batch(views, seed=31, index=torch.tensor([5, 4, 9, 0, 1, 2])))
    terms, records = loss_of("crd", batch)
    student, teacher, index, asked_views, seed = batch.memory.asked
    torch.testing.assert_close(student, batch.student.pooled.float())
    torch.testing.assert_close(teacher, batch.teacher.pooled.float())
    assert index.tolist() == [5, 4, 9, 0, 1, 2]
    assert (asked_views, seed) == (views, 31)
    assert list(terms) == ["ce", "crd"]
    assert (terms["crd"].value, terms["crd"].weight) == (7, 0.8)
    assert records == {}


# --- memory


def memory(labels: Tensor, negatives: int = 4, dims: tuple[int, int] = (6, 9), seed: int = 0) -> ContrastiveMemory:
    with seeded(seed, "memory"):
        return ContrastiveMemory(*dims, labels, negatives)


def features(rows: int, seed: int = 0, dims: tuple[int, int] = (6, 9)) -> tuple[Tensor, Tensor]:
    return tuple(torch.randn(rows, d, generator=draw(seed + i)) for i, d in enumerate(dims))


def unit_length(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


def embeddings(m: ContrastiveMemory, *pooled: Tensor) -> list[np.ndarray]:
    """e of student and teacher, in double precision."""
    layers = (m.student, m.teacher)
    return [
        unit_length(
            x.double().numpy() @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
        )
        for x, layer in zip(pooled, layers, strict=True)
    ]


def banks(m: ContrastiveMemory) -> list[np.ndarray]:
    return [b.double().numpy().copy() for b in (m.student_bank, m.teacher_bank)]


def test_the_bank_starts_uniform():
    """Kolmogorov-Smirnov test of all entries against U(-a, a), a = sqrt(3 / 128)."""
    m, a = memory(torch.arange(400) % 10), math.sqrt(3 / 128)
    for bank in (m.student_bank, m.teacher_bank):
        assert bank.shape == (400, 128)
        assert bank.abs().max() <= a
        assert stats.kstest(bank.flatten().numpy(), stats.uniform(-a, 2 * a).cdf).pvalue > ALPHA
    assert not torch.equal(m.student_bank, m.teacher_bank)
    assert not any(b.requires_grad for b in (m.student_bank, m.teacher_bank))
    assert m.bank_bytes == 2 * 400 * 128 * 4
    assert count(m) == 6 * 128 + 128 + 9 * 128 + 128


def unequal_labels() -> Tensor:
    """20 images: 10 of class 0, 6 of class 1, 4 of class 2, in no order."""
    return torch.tensor([0] * 10 + [1] * 6 + [2] * 4)[torch.randperm(20, generator=draw(3))]


@pytest.mark.parametrize(("negatives", "replaced"), [(5, False), (10, False), (11, True), (40, True)])
def test_negatives_are_of_other_classes(negatives: int, replaced: bool):
    labels = unequal_labels()
    m = memory(labels, negatives)
    index = torch.arange(20)
    for seed in range(20):
        found = m.draw(index, seed)
        assert found.shape == (20, negatives)
        assert found.dtype == torch.int64
        assert (labels[found] != labels[:, None]).all()
        repeats = [len(set(row)) < negatives for row in found.tolist()]
        assert not any(repeats) or replaced
        if negatives == 40:
            assert all(repeats)


@pytest.mark.parametrize("negatives", [3, 10, 11, 30])
def test_negatives_are_uniform_over_the_images_of_other_classes(negatives: int):
    """Chi-square over 4,000 draws for one image of each class. At 3 and 10 without, at 11 and 30 with replacement.

    Without replacement the counts vary less than multinomially, so the test errs on the safe side there; a first place
    that is always taken would still be found.
    """
    labels = unequal_labels()
    m = memory(labels, negatives)
    index = torch.stack([(labels == y).nonzero()[0, 0] for y in range(3)])
    found = torch.stack([m.draw(index, seed) for seed in range(4000)])  # [draws, 3, K]
    for i, y in enumerate(range(3)):
        others = (labels != y).nonzero().squeeze(1)
        counts = found[:, i].flatten().bincount(minlength=20)[others].numpy()
        if negatives == len(others):  # all of them, each time
            assert (counts == 4000).all()
        else:
            assert stats.chisquare(counts).pvalue > ALPHA
    assert torch.equal(m.draw(index, 7), m.draw(index, 7))
    assert not torch.equal(m.draw(index, 7), m.draw(index, 8))


def test_images_of_a_step_have_negatives_of_their_own():
    labels = torch.zeros(200, dtype=torch.int64)
    labels[100:] = 1
    for negatives in (20, 150):
        found = memory(labels, negatives).draw(torch.arange(10), 0)
        assert len({tuple(row) for row in found.tolist()}) == 10


def test_one_class_has_no_negatives():
    with pytest.raises(ValueError, match="^negatives cannot be drawn: the training images are all of one class$"):
        memory(torch.full((6,), 3))


def reference(e: np.ndarray, bank: np.ndarray, columns: list[list[int]], z: float | None) -> tuple[float, float]:
    """(loss of one direction, Z) by loops in double precision. The positive is in the first column."""
    n, k = len(bank), len(columns[0]) - 1
    score = [[math.exp(row @ bank[c] / 0.07) for c in cs] for row, cs in zip(e, columns, strict=True)]
    z = z or n * sum(map(sum, score)) / (len(score) * (k + 1))
    loss = 0.0
    for row in score:
        positive, *others = (s / z for s in row)
        loss -= math.log(positive / (positive + k / n + 1e-7))
        loss -= sum(math.log((k / n) / (v + k / n + 1e-7)) for v in others)
    return loss / len(score), z


@pytest.mark.parametrize("negatives", [4, 30])
@pytest.mark.parametrize("views", [1, 2])
def test_loss_scale_and_update_are_those_of_a_loop(negatives: int, views: int):
    """Three steps; Z is set by the first, and each bank's rows move towards its own network's original view."""
    labels = torch.arange(24) % 4
    m = memory(labels, negatives).train()
    scales = [None, None]
    for step, index in enumerate(([3, 17, 8, 20], [5, 3, 0, 1], [3, 20, 21, 22])):
        places = torch.tensor(index)
        pooled, before = features(4 * views, seed=10 * step), banks(m)
        e = embeddings(m, *pooled)
        drawn = m.draw(places, seed=step).tolist()
        columns = [[index[i], *drawn[i]] for i in range(4) for _ in range(views)]
        expected = [reference(a, b, columns, z) for a, b, z in zip(e, before[::-1], scales, strict=True)]
        scales = [z for _, z in expected]
        loss = m(*pooled, places, views, step)
        assert loss.item() == pytest.approx(sum(value for value, _ in expected), rel=1e-4)
        assert m.scales.tolist() == pytest.approx(scales, rel=1e-4)
        loss.backward()
        assert all(np.array_equal(b, now) for b, now in zip(before, banks(m), strict=True))  # only after the step
        m.update()
        for bank, own, now in zip(before, e, banks(m), strict=True):
            for i, place in enumerate(index):
                bank[place] = unit_length(0.5 * bank[place] + 0.5 * own[i * views])
            np.testing.assert_allclose(now, bank, rtol=0, atol=1e-6)


def test_gradients_reach_both_embeddings_and_both_features():
    m = memory(torch.arange(12) % 3).train()
    pooled = [x.requires_grad_() for x in features(4)]
    m(*pooled, torch.arange(4), 1, 0).backward()
    assert all(x.grad.abs().sum() > 0 for x in (*pooled, *m.parameters()))


def test_an_evaluation_changes_nothing():
    m = memory(torch.arange(12) % 3).train()
    m(*features(4), torch.arange(4), 1, 0)
    m.update()
    before = copy.deepcopy(m.state_dict())
    m.eval()(*features(4, seed=9), torch.arange(4), 1, 0)
    m.update()
    assert all(torch.equal(before[n], v) for n, v in m.state_dict().items())


def test_parts_of_a_step_are_all_written():
    """Two micro-batches, then one update: both parts' rows move, and Z is that of the first part."""
    m = memory(torch.arange(12) % 3).train()
    before = banks(m)
    m(*features(2, seed=1), torch.tensor([0, 1]), 1, 0)
    scales = m.scales.clone()
    m(*features(2, seed=2), torch.tensor([5, 7]), 1, 1)
    assert torch.equal(m.scales, scales)
    m.update()
    for bank, now in zip(before, banks(m), strict=True):
        moved = [i for i in range(12) if not np.array_equal(bank[i], now[i])]
        assert moved == [0, 1, 5, 7]
        np.testing.assert_allclose(np.linalg.norm(now[moved], axis=1), 1, atol=1e-6)
    written = banks(m)
    m.update()  # nothing is left to write
    assert all(np.array_equal(now, again) for now, again in zip(written, banks(m), strict=True))


def crd(seed: int):
    def network(seed: int) -> Network:
        with seeded(seed, "test"):
            return Network(create_model("resnet8", 5), (0.5,) * 3, (0.25,) * 3)

    with seeded(seed, "head"):
        return create_method("crd", network(seed), network(9), torch.arange(20) % 5, negatives=6).train()


def crd_steps(method, steps: range) -> list[float]:
    """Plain gradient steps on views that depend on the number of the step alone."""
    losses = []
    for step in steps:
        images = torch.randint(0, 256, (4, 2, 3, 8, 8), generator=draw(step)).to(torch.uint8)
        index = torch.randperm(20, generator=draw(100 + step))[:4]
        loss = total(method(Step(images, index % 5, torch.rand(4), index, seed=step))[0])
        weights = [p for p in method.parameters() if p.requires_grad]
        with torch.no_grad():
            for p, gradient in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                p -= 0.01 * gradient
        method.after_step()
        losses.append(loss.item())
    return losses


def test_a_resumed_memory_goes_on_with_the_same_bits():
    whole = crd(0)
    first = crd_steps(whole, range(3))
    state = copy.deepcopy(whole.own_state())
    rest = crd_steps(whole, range(3, 6))
    resumed = crd(1)
    assert not torch.equal(resumed.memory.student_bank, state["memory.student_bank"])
    resumed.load_own_state(state)
    assert crd_steps(resumed, range(3, 6)) == rest
    assert all(torch.equal(v, whole.state_dict()[n]) for n, v in resumed.own_state().items())
    assert len({*first, *rest}) == 6


def test_three_methods_keep_something_in_training():
    assert {name for name, d in METHODS.items() if d.memory is not None} == {"crd", "resolution", "soteacher"}
