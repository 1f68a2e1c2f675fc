"""Heads, branches and the memory of contrastive distillation: sizes, formulas in NumPy, and statistics of draws.

Statistical tests reject at 1e-4 each (the error rate of a correct program, were its seeds not fixed).
"""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from kdlib.methods import METHODS, Step, create_method, total
from kdlib.methods.crd import ContrastiveMemory
from kdlib.methods.hsakd import AuxiliaryBranches
from kdlib.methods.sskd import ContrastHead
from kdlib.models import create_model, model_names
from kdlib.models.network import Network
from kdlib.randomness import seeded

ALPHA = 1e-4


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- SSKD's head


def test_the_contrast_head_is_two_linear_layers_with_a_relu_between():
    backbone = create_model("resnet8", 5).eval()
    head, output = ContrastHead(backbone.feature_dim), backbone(torch.randn(3, 3, 16, 16, generator=draw()))
    first, second = (m for m in head.modules() if isinstance(m, nn.Linear))
    assert [tuple(m.weight.shape) for m in (first, second)] == [(64, 64), (64, 64)]
    assert count(head) == 2 * (64 * 64 + 64)
    x = output.pooled.detach().double().numpy()
    hidden = np.maximum(x @ first.weight.detach().double().numpy().T + first.bias.detach().double().numpy(), 0)
    expected = hidden @ second.weight.detach().double().numpy().T + second.bias.detach().double().numpy()
    np.testing.assert_allclose(head(output).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


# --- HSAKD's branches


AUXILIARY = {
    ("wrn_40_2", 100): 5_769_328, ("wrn_16_2", 100): 1_928_304, ("wrn_40_1", 100): 1_484_432,
    ("resnet56", 100): 2_206_064, ("resnet20", 100): 762_992, ("resnet32x4", 100): 18_907_056,
    ("resnet8x4", 100): 3_557_296, ("vgg13", 100): 37_049_664, ("resnet50", 100): 76_976_704,
    ("mobilenetv2", 100): 4_671_496, ("shufflenetv1", 100): 3_118_740, ("shufflenetv2", 100): 4_519_988,
    ("resnet34_imagenet", 1000): 76_474_240, ("resnet18_imagenet", 1000): 47_555_456,
}  # fmt: skip


@pytest.mark.parametrize(("name", "classes"), AUXILIARY, ids=str)
def test_published_parameters_of_the_branches(name: str, classes: int):
    with torch.device("meta"):
        branches = AuxiliaryBranches(create_model(name, classes))
    assert count(branches) == AUXILIARY[name, classes]


@pytest.mark.parametrize("name", model_names())
def test_one_answer_for_each_stage_of_every_family(name: str):
    """Shapes for two image sizes, through a Network; every branch ends in as many channels as the network."""
    with torch.device("meta"):
        backbone = create_model(name, 7).eval()
        branches = AuxiliaryBranches(backbone).eval()
        network = Network(backbone, (0.5,) * 3, (0.25,) * 3, head=branches)
    for size in (32, 64):
        extra = network(torch.empty(2, 3, size, size, dtype=torch.uint8, device="meta")).extra
        assert extra.shape == (2, len(backbone.stages), 4 * 7)
    assert {m.in_features for m in branches.classifiers} == {backbone.feature_dim}


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "mobilenetv2"])
def test_branches_share_nothing_and_leave_the_backbone_alone(name: str):
    backbone = create_model(name, 5)
    before = copy.deepcopy(backbone.state_dict())
    branches = AuxiliaryBranches(backbone)
    own = [p.data_ptr() for p in (*branches.parameters(), *branches.buffers())]
    assert len(set(own)) == len(own)
    assert not set(own) & {p.data_ptr() for p in (*backbone.parameters(), *backbone.buffers())}
    assert all(torch.equal(before[n], v) for n, v in backbone.state_dict().items())
    assert all(p.requires_grad for p in branches.parameters())


def test_branch_l_reads_stage_l_and_only_that():
    backbone = create_model("resnet8", 5).eval()
    branches = AuxiliaryBranches(backbone).eval()
    output = backbone(torch.randn(2, 3, 16, 16, generator=draw()))
    found = branches(output)
    for stage in range(3):
        stages = tuple(s + (i == stage) for i, s in enumerate(output.stages))
        changed = (branches(output._replace(stages=stages)) - found).abs().amax((0, 2)) > 0
        assert changed.tolist() == [i == stage for i in range(3)]


def test_a_branch_that_copies_the_later_stages_is_the_network_itself():
    """Branch l with the weights of stages l+1..L, averaged, is the pooled feature."""
    backbone = create_model("wrn_16_1", 5).eval()
    branches = AuxiliaryBranches(backbone).eval()
    output = backbone(torch.randn(2, 3, 16, 16, generator=draw()))
    for start, body in enumerate(branches.bodies[:-1], 1):
        for own, stage in zip(body[:-1], backbone.stages[start:], strict=True):
            own.load_state_dict(stage.state_dict())
        body[-1].load_state_dict({n.removeprefix("bn."): v for n, v in backbone.bn.state_dict().items()}, strict=False)
        assert sum(p.numel() for p in body[-1].parameters()) == sum(p.numel() for p in backbone.bn.parameters())
        torch.testing.assert_close(body(output.stages[start - 1]).mean(dim=(2, 3)), output.pooled)


# --- CRD's memory


def memory(labels: Tensor, negatives: int = 4, dims: tuple[int, int] = (6, 9), seed: int = 0) -> ContrastiveMemory:
    with seeded(seed, "memory"):
        return ContrastiveMemory(*dims, labels, negatives)


def features(rows: int, seed: int = 0, dims: tuple[int, int] = (6, 9)) -> tuple[Tensor, Tensor]:
    return tuple(torch.randn(rows, d, generator=draw(seed + i)) for i, d in enumerate(dims))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


def embeddings(m: ContrastiveMemory, *pooled: Tensor) -> list[np.ndarray]:
    """e of student and teacher, in double precision."""
    layers = (m.student, m.teacher)
    return [
        unit(x.double().numpy() @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy())
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
                bank[place] = unit(0.5 * bank[place] + 0.5 * own[i * views])
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


def test_the_memory_belongs_to_crd_alone():
    assert [name for name, d in METHODS.items() if d.memory is not None] == ["crd"]
