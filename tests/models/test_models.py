"""The networks against published counts, shapes and public checkpoints; their formulas are in test_formulas.py."""

import math
import re

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from kdlib.lab.cost import macs, parameters
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
    "vgg13": (9_462_180, "284.94"),
    "vgg8": (3_965_028, "96.19"),
    "mobilenetv2": (812_836, "6.52"),
    "mobilenetv2_stride1": (812_836, "25.7"),
    "shufflenetv1": (949_258, "38.69"),
    "shufflenetv2": (1_355_528, "44.50"),
    "resnet50": (23_705_252, "1298.01"),
}
# Parameters of HSAKD's auxiliary branches, from the same code base: for 100 classes, or 1000 on ImageNet.
AUXILIARY = {
    "wrn_40_2": 5_769_328,
    "wrn_16_2": 1_928_304,
    "wrn_40_1": 1_484_432,
    "resnet56": 2_206_064,
    "resnet20": 762_992,
    "resnet32x4": 18_907_056,
    "resnet8x4": 3_557_296,
    "vgg13": 37_049_664,
    "mobilenetv2": 4_671_496,
    "mobilenetv2_stride1": 4_671_496,
    "shufflenetv1": 3_118_740,
    "shufflenetv2": 4_519_988,
    "resnet50": 76_976_704,
    "resnet34_imagenet": 76_474_240,
    "resnet18_imagenet": 47_555_456,
}
SMALL = ("resnet8", "resnet8x4", "wrn_10_1", "wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2")
# The side of each stage's map at 32x32, or at 224x224 on ImageNet, where it is not 32, 16, 8.
SIDES = {
    "vgg8": (32, 16, 8, 4),
    "vgg13": (32, 16, 8, 4),
    "mobilenetv2": (16, 8, 4, 2),
    "mobilenetv2_stride1": (32, 16, 8, 4),
    "shufflenetv1": (16, 8, 4),
    "shufflenetv2": (16, 8, 4),
    "resnet50": (32, 16, 8, 4),
    "resnet8_tiny": (16, 8, 4),
    "resnet14_tiny": (16, 8, 4),
    "resnet18_imagenet": (56, 28, 14, 7),
    "resnet34_imagenet": (56, 28, 14, 7),
}


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
    num_classes = 1000 if name.endswith("_imagenet") else 100
    model = on_meta(name, num_classes)
    last = len(model.stages) - 1
    with torch.device("meta"):
        branches = [[model.new_stage(i) for i in range(first, last + 1)] for first in range(1, last + 1)]
        branches.append([model.new_stage(last, tail=True)])
        ends = [nn.Sequential(model.new_end(), nn.Linear(model.feature_dim, 4 * num_classes)) for _ in branches]
    assert sum(parameters(part) for part in [*sum(branches, []), *ends]) == AUXILIARY[name]


@pytest.mark.parametrize("name", [*MODELS, "wrn_28_3"])
def test_shapes_on_meta(name):
    model = on_meta(name, num_classes=7)
    image = 224 if name.endswith("_imagenet") else 32
    output = model(torch.empty(2, 3, image, image, device="meta"))
    assert isinstance(output, Output)
    assert output.logits.shape == (2, 7)
    assert output.pooled.shape == (2, model.feature_dim)
    assert [tuple(stage.shape) for stage in output.stages] == [
        (2, width, side, side) for width, side in zip(model.stage_channels, SIDES.get(name, (32, 16, 8)), strict=True)
    ]
    assert model.num_classes == 7


@pytest.mark.parametrize("name", ["resnet8x4", "wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
def test_rebuilt_stages_run_where_the_originals_do(name):
    model = create_model(name, 10)
    stages = model(torch.randn(2, 3, 32, 32)).stages
    for index in range(1, len(stages)):
        new = model.new_stage(index)
        assert new(stages[index - 1]).shape == stages[index].shape
        old = dict(model.stages[index].named_parameters())
        for key, value in new.named_parameters():
            assert value.shape == old[key].shape
            assert value.data_ptr() != old[key].data_ptr()
            if value.ndim == 4:
                assert not torch.equal(value, old[key])
    assert model.new_stage(index, tail=True)(stages[-1]).shape == stages[-1].shape
    assert model.new_end()(stages[-1]).shape == model.end(stages[-1]).shape


@pytest.mark.parametrize("name", ["resnet50", "resnet18_imagenet"])
def test_rebuilt_stages_of_large_networks_on_meta(name):
    model = on_meta(name)
    stages = model(torch.empty(2, 3, 64, 64, device="meta")).stages
    with torch.device("meta"):
        for index in (1, 2, 3):
            assert model.new_stage(index)(stages[index - 1]).shape == stages[index].shape
        tail = model.new_stage(3, tail=True)
    assert tail(stages[3]).shape == stages[3].shape
    assert tail[0].downsample is None
    new = {key: value.shape for key, value in model.new_stage(1).state_dict().items()}
    assert new == {key: value.shape for key, value in model.stages[1].state_dict().items()}


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_imagenet_resnets_are_those_of_torchvision(name):
    """The published weights fit by name; for ResNet-18 the logits of a random network agree too."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in getattr(torchvision.models, name)().state_dict().items()}
    assert {key: value.shape for key, value in on_meta(f"{name}_imagenet", 1000).state_dict().items()} == shapes
    if name == "resnet18":
        torch.manual_seed(0)
        reference, images = torchvision.models.resnet18(num_classes=5).eval(), torch.randn(2, 3, 64, 64)
        model = create_model("resnet18_imagenet", 5).eval()
        model.load_state_dict(reference.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(model(images).logits, reference(images))


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
        if not (name == "vgg8" and key.endswith(".0.bias")):  # BatchNorm removes the mean, and with it the bias
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", ["resnet32x4", "wrn_16_2", "vgg8", "mobilenetv2"])
def test_initialisation(name):
    """In layers of at least 4,000 weights, 5 % is over 4 standard errors of a standard deviation (1.1 %)."""
    torch.manual_seed(0)
    model = create_model(name, 100)
    for part in model.modules():
        if isinstance(part, nn.Conv2d) and part.weight.numel() >= 4000:
            expected = math.sqrt(2 / (part.kernel_size[0] * part.kernel_size[1] * part.out_channels))
            assert part.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert part.bias is None or (part.bias == 0).all()
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
