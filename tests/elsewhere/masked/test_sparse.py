"""Sparse by masking: nothing of a masked cell gets in, the kept set stays, and what is kept is the definition."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlib.elsewhere.masked.masks import kept_cells, scaled
from kdlib.elsewhere.masked.sparse import Sparse
from kdlib.elsewhere.masked.student import Encoder, Student

WIDTH = 4


@pytest.fixture(autouse=True)
def same_draws():
    torch.manual_seed(5)


@pytest.fixture
def encoder() -> Encoder:
    made = Encoder(WIDTH, 10)
    for part in made.modules():  # as after some training
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1, 0.3)
            nn.init.normal_(part.bias, 0, 0.3)
            nn.init.normal_(part.running_mean, 0, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return made


def cells(ratio: float = 0.5, images: int = 3) -> torch.Tensor:
    return kept_cells(torch.rand(images, 16), ratio)


@pytest.mark.parametrize("training", [True, False])
def test_the_output_has_no_gradient_at_masked_pixels(encoder, training):
    images, kept = torch.randn(3, 3, 32, 32, requires_grad=True), cells()
    out = encoder.train(training).last_map(images, kept)
    (gradient,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), images)
    mask = scaled(kept, 32).expand(-1, 3, -1, -1)
    assert (gradient[~mask] == 0).all() and (gradient[mask] != 0).float().mean() > 0.9


@pytest.mark.parametrize("training", [True, False])
def test_masked_pixels_change_no_bit(encoder, training):
    images, kept = torch.randn(3, 3, 32, 32), cells(0.6)
    others = torch.where(scaled(kept, 32), images, 1e3 * torch.randn_like(images))
    first, second = (copy.deepcopy(encoder).train(training) for _ in range(2))
    assert torch.equal(first.last_map(images, kept), second.last_map(others, kept))
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


@pytest.mark.parametrize("ratio", [0.25, 0.6, 0.75])
def test_the_active_set_does_not_grow_with_depth(encoder, ratio):
    """A dense network spreads every cell into its neighbours."""
    images, kept = torch.randn(3, 3, 32, 32), cells(ratio)
    sparse, feature = Sparse(kept), None
    feature = sparse.norm(encoder.bn1, sparse(encoder.conv1, sparse.zeroed(images)))
    for stage in encoder.stages:
        assert ((feature != 0).any(1, keepdim=True) & ~scaled(kept, feature.shape[-1])).sum() == 0
        feature = sparse.block(stage[0], feature)
        assert ((feature != 0).any(1, keepdim=True) <= scaled(kept, feature.shape[-1])).all()
    assert (feature != 0).any(1, keepdim=True).float().mean() == pytest.approx(kept.float().mean().item(), abs=0.05)
    spread = F.conv2d(
        F.conv2d(scaled(kept, 32).float(), torch.ones(1, 1, 3, 3), padding=1), torch.ones(1, 1, 3, 3), padding=1
    )
    assert (spread > 0).float().mean() > kept.float().mean() + 0.05


@pytest.mark.parametrize("training", [True, False])
def test_a_mask_of_ones_is_the_dense_network_bit_for_bit(encoder, training):
    images, whole = torch.randn(3, 3, 32, 32), torch.ones(3, 1, 4, 4, dtype=torch.bool)
    sparse, dense, called = (copy.deepcopy(encoder).train(training) for _ in range(3))
    out = sparse.last_map(images, whole)
    assert torch.equal(out, dense.last_map(images)) and torch.equal(out, called(images).stages[-1])
    assert all(torch.equal(a, b) for a, b in zip(sparse.buffers(), dense.buffers(), strict=True))
    for network, made in ((sparse, out), (dense, dense.last_map(images))):
        made.square().sum().backward()
        assert network.conv1.weight.grad is not None


def submanifold(x: np.ndarray, weight: np.ndarray, kept: np.ndarray, stride: int, padding: int) -> np.ndarray:
    """The definition, position by position: only kept inputs are read, and only kept outputs are written.

    x [C, h, h]; weight [out, C, k, k]; kept bool [n, n], of cells.
    """
    side, size = x.shape[1], weight.shape[2]
    outputs = (side + 2 * padding - size) // stride + 1
    active = lambda row, column, of: kept[row * len(kept) // of, column * len(kept) // of]  # noqa: E731
    out = np.zeros((len(weight), outputs, outputs))
    for row in range(outputs):
        for column in range(outputs):
            if not active(row, column, outputs):
                continue
            for i in range(size):
                for j in range(size):
                    r, c = row * stride + i - padding, column * stride + j - padding
                    if 0 <= r < side and 0 <= c < side and active(r, c, side):
                        out[:, row, column] += weight[:, :, i, j] @ x[:, r, c]
    return out


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 2)])
def test_a_kept_position_is_that_of_a_submanifold_convolution(size, stride):
    layer = nn.Conv2d(2, 3, size, stride, (size - 1) // 2, bias=False)
    x, kept = torch.randn(2, 2, 16, 16), cells(0.6, 2)
    sparse = Sparse(kept)
    found = sparse(layer, sparse.zeroed(x)).detach().numpy()
    for b in range(2):
        weight = layer.weight.detach().double().numpy()
        wanted = submanifold(x[b].double().numpy(), weight, kept[b, 0].numpy(), stride, (size - 1) // 2)
        assert np.allclose(found[b], wanted, atol=1e-5)


def test_a_pooling_is_masked_too():
    x, kept = torch.randn(2, 3, 16, 16), cells(0.5, 2)
    sparse = Sparse(kept)
    pooled = sparse(nn.MaxPool2d(3, 2, 1), sparse.zeroed(x))
    assert (pooled == 0).all(1, keepdim=True)[~scaled(kept, 8)].all() and (pooled != 0).any()


@pytest.mark.parametrize("training", [True, False])
def test_statistics_are_those_of_the_gathered_rows(training):
    layer, kept = nn.BatchNorm2d(3).train(training), cells(0.6, 4)
    nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    x = torch.randn(4, 3, 8, 8) * 3 + 1
    sparse, mask = Sparse(kept), scaled(kept, 8)
    out = sparse.norm(layer, sparse.zeroed(x))
    gathered = x.permute(0, 2, 3, 1)[mask[:, 0]].double().numpy()
    mean, variance = gathered.mean(0), gathered.var(0)
    if not training:
        mean, variance = np.zeros(3), np.ones(3)
    wanted = (gathered - mean) / np.sqrt(
        variance + layer.eps
    ) * layer.weight.detach().numpy() + layer.bias.detach().numpy()
    assert np.allclose(out.detach().permute(0, 2, 3, 1)[mask[:, 0]].numpy(), wanted, atol=1e-5)
    assert (out[~mask.expand(-1, 3, -1, -1)] == 0).all()
    if training:
        assert np.allclose(layer.running_mean.numpy(), 0.1 * gathered.mean(0), atol=1e-6)
        assert np.allclose(layer.running_var.numpy(), 0.9 + 0.1 * gathered.var(0, ddof=1), atol=1e-5)
        assert layer.num_batches_tracked == 1


def test_gathered_rows_and_the_layer_agree_where_nothing_is_masked():
    """The short cut for a mask of ones changes no more than rounding."""
    first, second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    x, sparse = torch.randn(4, 3, 8, 8), Sparse(torch.ones(4, 1, 4, 4, dtype=torch.bool))
    short = sparse.norm(first, x)
    sparse.whole = False
    assert torch.allclose(short, sparse.norm(second, x), atol=1e-5)
    assert torch.allclose(first.running_var, second.running_var, atol=1e-6)


def test_images_do_not_see_each_other_in_eval_mode(encoder):
    images, kept = torch.randn(3, 3, 32, 32), cells()
    encoder.eval()
    alone = torch.cat([encoder.last_map(images[k : k + 1], kept[k : k + 1]) for k in range(3)])
    assert torch.allclose(encoder.last_map(images, kept), alone, atol=1e-5)


def test_the_decoder_fills_what_was_masked_with_a_learnt_vector():
    student = Student(2, 12, (0.5,) * 3, (0.5,) * 3, 10, "float32").eval()
    kept, feature = cells(0.5, 2), torch.randn(2, 16, 4, 4)
    nn.init.normal_(student.decoder.empty)
    filled = torch.where(kept, feature, student.decoder.empty)
    assert torch.equal(student.decoder(feature, kept), student.decoder(filled))
    out = student.predicted(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), kept)
    assert out.shape == (2, 64, 12) and out.dtype == torch.float32
