"""The networks against reference networks written from the papers, in double precision."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdlib.models import create_model


def settled(name: str) -> nn.Module:
    """A network in double precision and evaluation mode whose BatchNorms hold arbitrary numbers."""
    torch.manual_seed(0)
    model = create_model(name, 5).double().eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean):
                nn.init.normal_(tensor, 0.3, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return model


def normalised(x, state, name):
    mean, var, scale, shift = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift


def resnet_by_formula(state, x, blocks):
    """He et al. 2016: y = relu(x' + BN(conv(relu(BN(conv(x)))))), from a state dict alone."""
    x = F.relu(normalised(F.conv2d(x, state["conv1.weight"], padding=1), state, "bn1"))
    stages = []
    for layer in (1, 2, 3):
        for i in range(blocks):
            block, stride = f"layer{layer}.{i}", 2 if layer > 1 and i == 0 else 1
            out = F.conv2d(x, state[f"{block}.conv1.weight"], stride=stride, padding=1)
            out = F.conv2d(F.relu(normalised(out, state, f"{block}.bn1")), state[f"{block}.conv2.weight"], padding=1)
            if f"{block}.downsample.0.weight" in state:
                x = F.conv2d(x, state[f"{block}.downsample.0.weight"], stride=stride)
                x = normalised(x, state, f"{block}.downsample.1")
            x = F.relu(x + normalised(out, state, f"{block}.bn2"))
        stages.append(x)
    return stages, x


def tiny_by_formula(state, x, blocks):
    """The same network on the means of squares of two by two pixels."""
    batch, channels, height, width = x.shape
    return resnet_by_formula(state, x.view(batch, channels, height // 2, 2, width // 2, 2).mean((3, 5)), blocks)


def wrn_by_formula(state, x, blocks):
    """Zagoruyko and Komodakis 2016: y = x' + conv(relu(BN(conv(relu(BN(x)))))), from a state dict alone."""
    x = F.conv2d(x, state["conv1.weight"], padding=1)
    stages = []
    for layer in (1, 2, 3):
        for i in range(blocks):
            block, stride = f"layer{layer}.{i}", 2 if layer > 1 and i == 0 else 1
            active = F.relu(normalised(x, state, f"{block}.bn1"))
            out = F.conv2d(active, state[f"{block}.conv1.weight"], stride=stride, padding=1)
            out = F.relu(normalised(out, state, f"{block}.bn2"))
            if f"{block}.shortcut.weight" in state:
                x = F.conv2d(active, state[f"{block}.shortcut.weight"], stride=stride)
            x = x + F.conv2d(out, state[f"{block}.conv2.weight"], padding=1)
        stages.append(x)
    return stages, F.relu(normalised(x, state, "bn"))


def layer(state, x, name, relu=True, **options):
    """Convolution (padded to keep the size at stride 1), BatchNorm and, by default, ReLU."""
    weight = state[f"{name}.0.weight"]
    x = F.conv2d(x, weight, state.get(f"{name}.0.bias"), padding=weight.shape[-1] // 2, **options)
    x = normalised(x, state, f"{name}.1")
    return F.relu(x) if relu else x


def shuffled(x, groups):
    """Output channel j is channel j // groups of group j % groups."""
    size = x.shape[1] // groups
    return x[:, [j % groups * size + j // groups for j in range(x.shape[1])]]


def vgg_by_formula(state, x, blocks):
    """Groups of `blocks` convolutions of 64, 128, 256, 512, 512 channels, max-pools after the first three."""
    stages = []
    for stage, count in enumerate((blocks, blocks, blocks, 2 * blocks)):
        if stage:
            x = F.max_pool2d(x, 2)
        for i in range(count):
            x = layer(state, x, f"layers.{stage}.{i + (stage > 0)}")
        stages.append(x)
    return stages, x


def mobilenet_by_formula(state, x, stride):
    """Sandler et al. 2018, table 2 at width 0.5: rows (expansion, width, blocks, stride), two rows or one a stage."""
    x, stages, width = layer(state, x, "conv1", stride=stride), [], 16
    rows = [
        [(1, 16, 1, 1), (6, 24, 2, 1)],
        [(6, 32, 3, 2)],
        [(6, 64, 4, 2), (6, 96, 3, 1)],
        [(6, 160, 3, 2), (6, 320, 1, 1)],
    ]
    for stage, groups in enumerate(rows):
        blocks = [(t, c // 2, s if i == 0 else 1) for t, c, n, s in groups for i in range(n)]
        for i, (t, c, s) in enumerate(blocks):
            name = f"layers.{stage}.{i}.residual"
            out = layer(state, layer(state, x, f"{name}.0"), f"{name}.1", stride=s, groups=t * width)
            out = layer(state, out, f"{name}.2", relu=False)
            x, width = (x + out if s == 1 and width == c else out), c
        stages.append(x)
    return stages, layer(state, x, "conv2")


def shufflenetv1_by_formula(state, x, groups):
    """Zhang et al. 2018, figure 2, with a ReLU after the depthwise convolution."""
    x, stages = layer(state, x, "conv1"), []
    for stage, units in enumerate((4, 8, 4)):
        for i in range(units):
            name, stride = f"layer{stage + 1}.{i}.residual", 2 if i == 0 else 1
            first = 1 if stage == i == 0 else groups
            out = shuffled(layer(state, x, f"{name}.0", groups=first), first)
            out = layer(state, out, f"{name}.2", stride=stride, groups=out.shape[1])
            out = layer(state, out, f"{name}.3", relu=False, groups=groups)
            pooled = F.avg_pool2d(x, 3, stride=2, padding=1)
            x = F.relu(torch.cat([out, pooled], dim=1) if i == 0 else x + out)
        stages.append(x)
    return stages, x


def shufflenetv2_by_formula(state, x, groups):
    """Ma et al. 2018, figure 3 (c) and (d)."""
    x, stages = layer(state, x, "conv1"), []
    for stage, units in enumerate((4, 8, 4)):
        for i in range(units):
            name, stride, half = f"layer{stage + 1}.{i}", 2 if i == 0 else 1, x.shape[1] // 2
            if i == 0:
                left = layer(state, x, f"{name}.short.0", relu=False, stride=2, groups=x.shape[1])
                left, right = layer(state, left, f"{name}.short.1"), x
            else:
                left, right = x[:, :half], x[:, half:]
            right = layer(state, right, f"{name}.branch.0")
            right = layer(state, right, f"{name}.branch.1", relu=False, stride=stride, groups=right.shape[1])
            x = shuffled(torch.cat([left, layer(state, right, f"{name}.branch.2")], dim=1), groups)
        stages.append(x)
    return stages, layer(state, x, "conv2")


@pytest.mark.parametrize(
    ("name", "formula", "argument"),
    [
        ("resnet14", resnet_by_formula, 2),
        ("resnet8x4", resnet_by_formula, 1),
        ("resnet8_tiny", tiny_by_formula, 1),
        ("resnet14_tiny", tiny_by_formula, 2),
        ("wrn_16_1", wrn_by_formula, 2),
        ("wrn_10_2", wrn_by_formula, 1),
        ("vgg8", vgg_by_formula, 1),
        ("vgg13", vgg_by_formula, 2),
        ("mobilenetv2", mobilenet_by_formula, 2),
        ("mobilenetv2_stride1", mobilenet_by_formula, 1),
        ("shufflenetv1", shufflenetv1_by_formula, 3),
        ("shufflenetv2", shufflenetv2_by_formula, 2),
    ],
)
def test_forward_is_the_formula(name, formula, argument):
    model = settled(name)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    state = {key: value.detach() for key, value in model.state_dict().items()}
    with torch.no_grad():
        output = model(images)
        stages, last = formula(state, images, argument)
    pooled = last.sum(dim=(2, 3)) / (last.shape[2] * last.shape[3])
    for found, expected in zip(output.stages, stages, strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(output.pooled, pooled)
    torch.testing.assert_close(output.logits, pooled @ state["fc.weight"].T + state["fc.bias"])
