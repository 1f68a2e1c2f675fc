"""The transformer against timm's, with the same weights; the autoencoder against a slow version of its loss."""

import numpy as np
import pytest
import torch

from kdlib.elsewhere.masked.mae import MAE, PIXELS, normalised, patches
from kdlib.elsewhere.masked.vit import ViT

WIDTH, DEPTH, HEADS, CLASSES = 48, 3, 4, 7
#: Our name -> timm's.
NAMES = {"patch.": "patch_embed.proj.", "positions": "pos_embed", "norm.": "fc_norm.", "fc.": "head."}


@pytest.fixture
def vit() -> ViT:
    torch.manual_seed(3)
    return ViT(32, WIDTH, DEPTH, HEADS, CLASSES).eval()


def timms(name: str) -> str:
    if name.startswith("blocks."):
        return name.replace(".fc", ".mlp.fc")
    return next(theirs + name.removeprefix(ours) for ours, theirs in NAMES.items() if name.startswith(ours))


@pytest.fixture
def theirs(vit):
    timm = pytest.importorskip("timm")
    made = timm.models.VisionTransformer(
        img_size=32, patch_size=4, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=CLASSES,
        class_token=False, global_pool="avg",
    ).eval()  # fmt: skip
    made.load_state_dict({timms(name): value for name, value in vit.state_dict().items()})  # strictly
    return made


def test_it_is_timms_with_the_same_weights(vit, theirs):
    for part in vit.parameters():  # larger than at the start, so that errors would show
        torch.nn.init.normal_(part, std=0.2)
    theirs.load_state_dict({timms(name): value for name, value in vit.state_dict().items()})
    images = torch.randn(5, 3, 32, 32)
    assert torch.allclose(vit(images).logits, theirs(images), atol=1e-5, rtol=1e-5)
    assert torch.allclose(vit.tokens(images), theirs.forward_features(images), atol=1e-5, rtol=1e-5)


def test_gradients_are_timms_too(vit, theirs):
    images = torch.randn(2, 3, 32, 32)
    vit(images).logits.square().sum().backward()
    theirs(images).square().sum().backward()
    others = dict(theirs.named_parameters())
    for name, part in vit.named_parameters():
        assert torch.allclose(part.grad, others[timms(name)].grad, atol=1e-5), name


def test_patches_are_rows_of_the_image():
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8)
    cut = patches(images)
    assert cut.shape == (2, 4, PIXELS)
    assert torch.equal(cut[1, 2].view(3, 4, 4), images[1, :, 4:8, 0:4])  # second row, first column


def test_the_loss_is_the_slow_one_on_masked_patches_alone(vit):
    made = MAE(vit, HEADS, 0.6)
    images, uniforms = torch.randn(3, 3, 32, 32), torch.rand(3, 64)
    assert made.kept == 26
    seen = uniforms.argsort(1)[:, :26]
    drawn = made.drawn(images, seen).detach().double().numpy()
    cut, total, count = patches(images).double().numpy(), 0.0, 0
    for b in range(3):
        for place in set(range(64)) - set(seen[b].tolist()):
            patch = cut[b, place]
            asked = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
            total, count = total + ((drawn[b, place] - asked) ** 2).mean(), count + 1
    assert count == 3 * 38 and made(images, uniforms).item() == pytest.approx(total / count, rel=1e-5)


def test_patches_of_one_colour_stay_finite():
    assert (normalised(torch.full((2, PIXELS), 7.0)) == 0).all()


def test_masked_patches_are_not_seen(vit):
    made = MAE(vit, HEADS, 0.6)
    images, seen = torch.randn(2, 3, 32, 32, requires_grad=True), torch.rand(2, 64).argsort(1)[:, :26]
    (gradient,) = torch.autograd.grad(made.drawn(images, seen).square().sum(), images)
    shown = torch.zeros(2, 64, dtype=torch.bool).scatter_(1, seen, True)
    assert (patches(gradient)[~shown] == 0).all() and (patches(gradient)[shown] != 0).any(1).all()


def test_where_all_are_shown_in_order_the_transformer_is_the_plain_one(vit):
    made = MAE(vit, HEADS, 0.6)
    images, order = torch.randn(2, 3, 32, 32), torch.arange(64).expand(2, -1)
    whole = made.narrow(made.norm(vit.tokens(images))) + made.positions
    assert torch.allclose(made.drawn(images, order), made.draw(made.last(made.block(whole))), atol=1e-6)
