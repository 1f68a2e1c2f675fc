"""The networks against published counts, and against reference networks written from the papers."""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdlib.cost import macs, parameters
from kdlib.models import MODELS, Output, create_model, model_names

# Published for 100 classes (RepDistiller, HSAKD): parameters; MACs at 32x32 in millions, as printed.
PUBLISHED = {
    "wrn_40_2": (2_255_156, "327.6"),
    "wrn_16_2": (703_284, "101.1"),
    "wrn_40_1": (569_780, "83.29"),
    "resnet56": (861_620, "125.75"),
    "resnet20": (278_324, "40.82"),
    "resnet110": (1_736_564, None),
    "resnet32": (472_756, None),
    "resnet32x4": (7_433_860, "1083.04"),
    "resnet8x4": (1_233_540, "177.07"),
}
# Parameters of HSAKD's auxiliary branches for 100 classes, from the same code base.
AUXILIARY = {
    "wrn_40_2": 5_769_328,
    "wrn_16_2": 1_928_304,
    "wrn_40_1": 1_484_432,
    "resnet56": 2_206_064,
    "resnet20": 762_992,
    "resnet32x4": 18_907_056,
    "resnet8x4": 3_557_296,
}
SMALL = ("resnet8", "resnet8x4", "wrn_10_1", "wrn_16_2")


def on_meta(name: str, num_classes: int = 100) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, num_classes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(name):
    count, printed = PUBLISHED[name]
    model = on_meta(name)
    assert parameters(model) == count
    if printed is not None:
        decimals = len(printed.partition(".")[2])
        assert f"{macs(model, (1, 3, 32, 32)) / 1e6:.{decimals}f}" == printed


@pytest.mark.parametrize("name", AUXILIARY)
def test_rebuilt_stages_give_the_published_auxiliary_branches(name):
    model = on_meta(name)
    last = len(model.stages) - 1
    branches = [[model.new_stage(i) for i in range(first, last + 1)] for first in range(1, last + 1)]
    branches.append([model.new_stage(last, tail=True)])
    with torch.device("meta"):
        ends = [nn.Sequential(model.new_end(), nn.Linear(model.feature_dim, 400)) for _ in branches]
    assert sum(parameters(part) for part in [*sum(branches, []), *ends]) == AUXILIARY[name]


@pytest.mark.parametrize("name", [*MODELS, "wrn_28_3"])
def test_shapes_on_meta(name):
    model = on_meta(name, num_classes=7)
    output = model(torch.empty(2, 3, 32, 32, device="meta"))
    assert isinstance(output, Output)
    assert output.logits.shape == (2, 7)
    assert output.pooled.shape == (2, model.feature_dim)
    assert [tuple(stage.shape) for stage in output.stages] == [
        (2, width, side, side) for width, side in zip(model.stage_channels, (32, 16, 8), strict=True)
    ]
    assert model.num_classes == 7


@pytest.mark.parametrize("name", ["resnet8x4", "wrn_16_2"])
def test_rebuilt_stages_run_where_the_originals_do(name):
    model = create_model(name, 10)
    stages = model(torch.randn(2, 3, 32, 32)).stages
    for index in (1, 2):
        new = model.new_stage(index)
        assert new(stages[index - 1]).shape == stages[index].shape
        old = dict(model.stages[index].named_parameters())
        for key, value in new.named_parameters():
            assert value.shape == old[key].shape
            assert value.data_ptr() != old[key].data_ptr()
            if value.ndim == 4:
                assert not torch.equal(value, old[key])
    assert model.new_stage(2, tail=True)(stages[2]).shape == stages[2].shape
    assert model.new_end()(stages[2]).shape == stages[2].shape


def test_resnet_has_the_names_of_the_public_checkpoints():
    batch_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", "fc.weight", "fc.bias"} | {f"bn1.{part}" for part in batch_norm}
    for layer in (1, 2, 3):
        for i in range(3):
            block = f"layer{layer}.{i}"
            expected |= {f"{block}.conv{j}.weight" for j in (1, 2)}
            expected |= {f"{block}.bn{j}.{part}" for j in (1, 2) for part in batch_norm}
        if layer > 1:
            expected.add(f"layer{layer}.0.downsample.0.weight")
            expected |= {f"layer{layer}.0.downsample.1.{part}" for part in batch_norm}
    assert set(create_model("resnet20", 100).state_dict()) == expected


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


@pytest.mark.parametrize(
    ("name", "formula", "blocks"),
    [
        ("resnet14", resnet_by_formula, 2),
        ("resnet8x4", resnet_by_formula, 1),
        ("wrn_16_1", wrn_by_formula, 2),
        ("wrn_10_2", wrn_by_formula, 1),
    ],
)
def test_forward_is_the_formula(name, formula, blocks):
    model = settled(name)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    state = {key: value.detach() for key, value in model.state_dict().items()}
    with torch.no_grad():
        output = model(images)
        stages, last = formula(state, images, blocks)
    pooled = last.sum(dim=(2, 3)) / 64
    for found, expected in zip(output.stages, stages, strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(output.pooled, pooled)
    torch.testing.assert_close(output.logits, pooled @ state["fc.weight"].T + state["fc.bias"])


@pytest.mark.parametrize("name", SMALL)
def test_channels_last_gives_equal_logits(name):
    torch.manual_seed(0)
    model, images = create_model(name, 10).eval(), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        plain = model(images).logits
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last)).logits
    torch.testing.assert_close(last, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_training_step_reaches_every_parameter(name):
    torch.manual_seed(0)
    model = create_model(name, 10)
    output = model(torch.randn(8, 3, 32, 32))
    loss = F.cross_entropy(output.logits, torch.arange(8)) + sum(stage.mean() for stage in output.stages)
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", ["resnet32x4", "wrn_16_2"])
def test_initialisation(name):
    """In layers of at least 4,000 weights, 5 % is over 4 standard errors of a standard deviation (1.1 %)."""
    torch.manual_seed(0)
    model = create_model(name, 100)
    for part in model.modules():
        if isinstance(part, nn.Conv2d) and part.weight.numel() >= 4000:
            expected = math.sqrt(2 / (part.kernel_size[0] * part.kernel_size[1] * part.out_channels))
            assert part.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert abs(part.weight.mean().item()) < 5 * expected / math.sqrt(part.weight.numel())
        elif isinstance(part, nn.BatchNorm2d):
            assert (part.weight == 1).all()
            assert (part.bias == 0).all()
    bound = 1 / math.sqrt(model.feature_dim)  # PyTorch's default for a linear layer
    assert model.fc.weight.abs().max() <= bound
    assert model.fc.weight.abs().max() > 0.95 * bound
    assert (model.fc.bias == 0).all() == name.startswith("wrn")


def test_the_generator_alone_decides_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in create_model("resnet8", 10).parameters()])

    first = weights(3)
    assert torch.equal(first, weights(3))
    assert not torch.equal(first, weights(4))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "resnet18",
        "ResNet20",
        "wrn_17_2",
        "wrn_4_1",
        "wrn_16_0",
        "wrn_16",
        "wrn_16_2 ",
        "wrn_16_-1",
        "wrn_016_1",
    ],
)
def test_unknown_name_says_what_is_allowed(name):
    with pytest.raises(ValueError, match="wrn_D_k") as caught:
        create_model(name, 10)
    message = str(caught.value)
    assert message.count("\n") == 0
    if not re.fullmatch(r"wrn_[1-9]\d*_[1-9]\d*", name):
        assert all(known in message for known in model_names())


@pytest.mark.parametrize("count", [0, -3])
def test_too_few_classes(count):
    with pytest.raises(ValueError, match=f"num_classes is {count}"):
        create_model("resnet8", count)


@pytest.mark.parametrize("count", [10.0, "10", None, True])
def test_classes_must_be_an_integer(count):
    with pytest.raises(TypeError, match="num_classes"):
        create_model("resnet8", count)


def test_every_listed_name_is_built():
    assert model_names() == tuple(MODELS)
    assert set(PUBLISHED) <= set(MODELS)
