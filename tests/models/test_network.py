"""Networks: their own normalisation, and logits in float32."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdlib.methods import METHODS, create_method, new_head
from kdlib.models import Backbone, Output, create_model
from kdlib.models.network import PRECISIONS, Network
from kdlib.randomness import seeded

STATISTICS = [((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]


class Echo(Backbone):
    """Returns what it is given."""

    def __init__(self) -> None:
        super().__init__(7, 3, ())
        self.fc = nn.Linear(3, 7)

    def forward(self, images: Tensor) -> Output:
        return Output(images, images, ())


def images(count: int = 8, size: int = 8, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=draw).to(torch.uint8)


@pytest.mark.parametrize(("mean", "std"), STATISTICS)
def test_normalisation_is_that_of_double_precision(mean: tuple, std: tuple):
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    found = Network(Echo(), mean, std)(levels).logits
    column = [np.asarray(x, np.float64)[:, None, None] for x in (mean, std)]
    expected = (levels.numpy().astype(np.float64) / 255 - column[0]) / column[1]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-6)


def test_each_network_uses_its_own_statistics():
    with seeded(0, "test"):
        backbone = create_model("resnet8", 5).eval()
    x = images(size=32)
    logits = []
    for mean, std in STATISTICS:
        by_hand = (x.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        expected = backbone(by_hand.float()).logits
        logits.append(Network(backbone, mean, std)(x).logits)
        torch.testing.assert_close(logits[-1], expected, rtol=1e-4, atol=1e-5)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_input_is_left_unchanged_and_layout_does_not_matter():
    x = images(size=32)
    before = x.clone()
    net = Network(create_model("resnet8", 5), *STATISTICS[0]).eval()
    result = net(x).logits
    assert torch.equal(x, before)
    assert torch.equal(net(x.contiguous(memory_format=torch.channels_last)).logits, result)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_logits_are_float32_in_every_precision(precision: str):
    with seeded(0, "test"):
        net = Network(create_model("resnet8", 5), *STATISTICS[0], precision).eval()
    output = net(images(size=32))
    assert output.logits.dtype == torch.float32
    assert output.stages[-1].dtype == PRECISIONS[precision]
    assert net.backbone.fc.weight.dtype == torch.float32
    reference = Network(net.backbone, *STATISTICS[0]).eval()(images(size=32)).logits
    error = (output.logits - reference).abs().max() / reference.abs().max()
    assert error < (0.05 if precision == "bfloat16" else 1e-6)  # bfloat16 keeps 8 bits


def head_of(net: Network, method: str = "hsakd_teacher") -> nn.Module:
    return new_head(method, net.backbone, {})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("headed", [False, True])
def test_a_frozen_copy_says_the_same(precision: str, headed: bool):
    with seeded(0, "test"):
        net = Network(create_model("resnet8", 5), *STATISTICS[0], precision)
        net.attach(head_of(net) if headed else None)
    with torch.no_grad():
        net(images(32, size=32))  # BatchNorms see some images
        expected, found = net.eval()(images(size=32)), net.frozen()(images(size=32))
    share = 0.05 if precision == "bfloat16" else 1e-5  # bfloat16 keeps 8 bits
    pairs = [
        (expected.logits, found.logits),
        (expected.pooled, found.pooled),
        *zip(expected.stages, found.stages, strict=True),
    ]
    for one, other in [*pairs, *([(expected.extra, found.extra)] if headed else [])]:
        assert one.dtype == other.dtype and one.shape == other.shape
        assert (one - other).abs().max() <= share * one.abs().max()
    assert torch.equal(net.frozen().logits(images(size=32)), found.logits)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_frozen_copy_shares_nothing_and_learns_nothing(precision: str):
    net = Network(create_model("resnet8", 5), *STATISTICS[0], precision).train()
    net.attach(head_of(net))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    copy = net.frozen()
    assert copy.precision == net.precision and copy.num_classes == 5
    assert not copy.training and not copy.backbone.training and not any(m.training for m in copy.head.modules())
    assert not any(p.requires_grad for p in copy.parameters())
    assert all(m.training for m in net.modules()) and all(p.requires_grad for p in net.parameters())
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not {t.data_ptr() for t in net.state_dict().values()} & {t.data_ptr() for t in copy.state_dict().values()}
    assert {p.dtype for p in copy.backbone.parameters()} == {PRECISIONS[precision]}  # a ResNet has no BatchNorm left
    assert {p.dtype for p in copy.head.parameters()} == {torch.float32}
    assert torch.equal(copy.scale, net.scale) and torch.equal(copy.shift, net.shift)


@pytest.mark.parametrize("method", [name for name, d in METHODS.items() if d.needs_teacher and d.trains_student])
def test_a_method_keeps_a_frozen_copy_of_its_teacher(method: str):
    """Of the teacher as it was given, in whatever mode; training leaves the copy in eval mode."""
    teacher, net = (Network(create_model("resnet8", 10), *STATISTICS[0]).train() for _ in range(2))
    if METHODS[method].taught_by:
        teacher.attach(head_of(teacher, METHODS[method].taught_by[0]))
    options = {"negatives": 5} if method == "crd" else {}
    made = create_method(method, net, teacher, torch.arange(40) % 10, **options).train()
    assert made.teacher is not teacher and teacher.training and all(p.requires_grad for p in teacher.parameters())
    assert not made.teacher.training and not made.teacher.backbone.training
    assert not any(p.requires_grad for p in made.teacher.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in made.teacher.backbone.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in teacher.backbone.modules())
    assert all(p.requires_grad for p in made.student.parameters())
    assert not any(name.startswith("teacher.") for name in made.own_state())


def test_statistics_move_with_the_network_but_are_no_part_of_its_state():
    net = Network(create_model("resnet8", 5), *STATISTICS[0])
    assert {key.split(".")[0] for key in net.state_dict()} == {"backbone"}
    assert net.num_classes == 5
    assert net.to("meta").scale.device.type == "meta"


def test_runs_on_the_meta_device():
    with torch.device("meta"):
        net = Network(create_model("resnet8", 5), *STATISTICS[0])
    logits = net(torch.empty(4, 3, 32, 32, dtype=torch.uint8, device="meta")).logits
    assert logits.shape == (4, 5) and logits.dtype == torch.float32 and logits.device.type == "meta"


def test_unknown_precision_is_refused():
    with pytest.raises(KeyError, match="float8"):
        Network(create_model("resnet8", 5), *STATISTICS[0], "float8")


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        ((0.5,) * 3, (0.2, 0.0, 0.2), r"^std = \(0.2, 0.0, 0.2\) must be above 0 in each channel"),
        ((0.5,) * 3, (0.2, -0.1, 0.2), "must be above 0"),
        ((0.5,) * 3, (0.2, math.nan, 0.2), "^std = .* must be three finite numbers"),
        ((0.5, math.inf, 0.5), (0.2,) * 3, "^mean = .* must be three finite numbers"),
        ((0.5,) * 2, (0.2,) * 3, "^mean = .* must be three finite numbers"),
    ],
)
def test_statistics_that_cannot_be_divided_by_are_refused(mean, std, said):
    with pytest.raises(ValueError, match=said):
        Network(create_model("resnet8", 2), mean, std)
