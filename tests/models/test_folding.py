"""Folded copies: the same function with fewer layers, whatever the network; the original stays as it is."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.lab.cost import macs
from kdlib.models import MODELS, Backbone, Output, create_model
from kdlib.models.base import conv3x3
from kdlib.models.folding import folded

pytestmark = pytest.mark.usefixtures("isolated")

NAMES = [*MODELS, "wrn_10_3"]
# BatchNorms that read a sum: in a wide residual network the first of each block, and the one at the end. The stem's
# convolution is read by the first of them alone where the first block widens (k > 1): then that one is folded too.
LEFT = {"wrn_16_1": 7, "wrn_16_2": 6, "wrn_40_1": 19, "wrn_40_2": 18, "wrn_10_3": 3}


def network(name: str, classes: int = 7) -> Backbone:
    """In eval mode, with drawn BatchNorm statistics, scales (some negative) and shifts."""
    torch.manual_seed(0)
    model = create_model(name, classes).eval()
    for norm in norms(model):
        drawn(norm)
    return model


def drawn(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.running_mean.normal_(0, 0.3)
    norm.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5).mul_(torch.where(torch.rand_like(norm.weight) < 0.2, -1, 1))
        norm.bias.normal_(0, 0.3)
    return norm


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def images(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
    side = 64 if name.endswith("_imagenet") else 32
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1)).to(dtype)


@torch.no_grad()
def outputs(model: Backbone, x: Tensor) -> list[Tensor]:
    """Logits, pooled feature, stages."""
    output = model(x)
    return [output.logits, output.pooled, *output.stages]


def assert_close(found: list[Tensor], expected: list[Tensor], share: float) -> None:
    """Equal up to a share of the largest value."""
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert (one - other).abs().max() <= share * other.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_a_folded_copy_is_the_same_function(name: str):
    """To float32 rounding through up to 110 layers, and in double precision to far less."""
    model = network(name)
    assert_close(outputs(folded(model), images(name)), outputs(model, images(name)), 1e-4)
    model, x = model.double(), images(name, torch.float64)
    assert_close(outputs(folded(model, torch.float64), x), outputs(model, x), 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_only_norms_of_sums_are_left(name: str):
    model = network(name)
    copy = folded(model)
    assert len(norms(copy)) == LEFT.get(name, 0) < len(norms(model))
    convolutions = [[m for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (model, copy)]
    assert len(convolutions[0]) == len(convolutions[1])
    assert sum(m.bias is not None for m in convolutions[1]) >= len(norms(model)) - len(norms(copy))
    with torch.no_grad():
        assert macs(copy, images(name).shape) == macs(model, images(name).shape)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv2"])
def test_the_original_is_left_as_it_is(name: str):
    model = network(name).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modules = dict(model.named_modules())
    copy = folded(model, torch.bfloat16)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(module is modules[key] for key, module in model.named_modules())
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    mine, its = ({t.data_ptr() for t in net.state_dict().values()} for net in (model, copy))
    assert not mine & its


def test_the_copy_is_for_inference_alone():
    copy = folded(network("wrn_16_2").train())
    assert not any(module.training for module in copy.modules())
    assert not any(p.requires_grad for p in copy.parameters())
    assert isinstance(copy, Backbone) and copy.num_classes == 7 and copy.feature_dim == 128
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in copy.parameters() if p.ndim == 4)


def test_a_copy_can_be_copied():
    model = network("wrn_16_1")
    once = folded(model)
    twice = folded(once)
    assert len(norms(twice)) == LEFT["wrn_16_1"]
    assert_close(outputs(twice, images("")), outputs(once, images("")), 0)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("resnet8", torch.float16)]
    + [(name, torch.bfloat16) for name in ("resnet8", "wrn_16_1", "wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv1")],
)
def test_weights_are_rounded_once_to_what_autocast_rounds_them_to(name: str, dtype: torch.dtype):
    """Convolutions and linear layers, whose BatchNorm was folded in float32; BatchNorms keep float32."""
    model, x = network(name), images(name)
    low, full = folded(model, dtype), folded(model)
    for module in low.modules():
        expected = torch.float32 if isinstance(module, nn.BatchNorm2d) else dtype
        assert {p.dtype for p in module.parameters(recurse=False)} <= {expected}
    for one, other in zip(low.parameters(), full.parameters(), strict=True):
        assert torch.equal(one, other.to(one.dtype))
    with torch.autocast("cpu", dtype):
        assert_close(outputs(low, x), outputs(full, x), 0)


# --- networks of one's own


class Own(Backbone):
    """A stem and one stage, which some readers may write in a way that is hard to fold."""

    def __init__(self) -> None:
        super().__init__(5, 8, (8,))
        self.stem_conv, self.stem_bn = conv3x3(3, 8), nn.BatchNorm2d(8)
        self.conv, self.bn, self.fc = conv3x3(8, 8), nn.BatchNorm2d(8), nn.Linear(8, 5)

    @property
    def stages(self) -> tuple:
        return (self.stage,)

    def stem(self, x: Tensor) -> Tensor:
        return F.relu(self.stem_bn(self.stem_conv(x)))

    def stage(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Branching(Own):
    def stage(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) if x.mean() > -1 else x


class Asserting(Own):
    def stage(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 8
        return self.bn(self.conv(x))


class Looping(Own):
    def stage(self, x: Tensor) -> Tensor:
        for _ in range(x.shape[2] // 16):
            x = F.relu(self.bn(self.conv(x)))
        return x


class Recurrent(Own):
    def stage(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(F.relu(self.bn(self.conv(x)))))


class TwoNorms(Own):
    def stage(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.stem_bn(self.conv(x))


class SharedNorm(Own):
    def stage(self, x: Tensor) -> Tensor:
        return self.stem_bn(self.conv(x))


class TwoNames(Own):
    def __init__(self) -> None:
        super().__init__()
        self.same = self.conv

    def stage(self, x: Tensor) -> Tensor:
        return self.bn(self.same(x))


class TwoReaders(Own):
    def stage(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        return self.bn(out) + out


class ReadWeight(Own):
    def stage(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.conv.weight.norm()


class ReadScale(Own):
    def stage(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.bn.weight.view(1, 8, 1, 1)


class Keyword(Own):
    def stage(self, x: Tensor) -> Tensor:
        return self.bn(input=self.conv(x))


class BatchStatistics(Own):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(8, track_running_stats=False)


class NoAffine(Own):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(8, affine=False)


class Listed(Own):
    """The layers of its stage are called one by one, by number."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(conv3x3(8, 8), nn.BatchNorm2d(8))

    def stage(self, x: Tensor) -> Tensor:
        return self.block[1](self.block[0](x))


class Whole(Own):
    """One that has its own forward."""

    def forward(self, images: Tensor) -> Output:
        feature = self.stage(self.stem(images))
        pooled = feature.amax(dim=(2, 3))
        return Output(self.fc(pooled), pooled, (feature,))


EASY = [Own, TwoReaders, NoAffine, Listed, Whole]
HARD = [Branching, Asserting, Looping, Recurrent, TwoNorms, SharedNorm, TwoNames, ReadWeight, ReadScale, Keyword,
        BatchStatistics]  # fmt: skip


@pytest.mark.parametrize("kind", [*EASY, *HARD], ids=lambda kind: kind.__name__)
def test_a_network_of_ones_own_is_the_same_function_however_it_is_written(kind: type[Own]):
    """What cannot be folded is left as it is."""
    torch.manual_seed(2)
    model, x = kind().eval(), images("", torch.float64)
    for norm in norms(model):
        if norm.affine and norm.track_running_stats:
            drawn(norm)
    model = model.double()
    copy = folded(model, torch.float64)
    assert_close(outputs(copy, x), outputs(model, x), 1e-12)
    assert not copy.training and not any(p.requires_grad for p in copy.parameters())
    if kind in EASY:
        assert len(norms(copy)) == {TwoReaders: 1, Listed: 1}.get(kind, 0)  # Listed never calls its first BatchNorm


def test_other_threads_may_run_networks_meanwhile():
    other, found = network("resnet8"), []

    class Meanwhile(Own):
        def stage(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(1) as pool:
                found.append(pool.submit(outputs, other, images("")).result())
            return super().stage(x)

    assert not norms(folded(Meanwhile().eval()))
    assert len(found) == 1
    assert_close(found[0], outputs(other, images("")), 0)
