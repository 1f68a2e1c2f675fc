"""What every network looks like from outside: a stem, explicit stages, an end, a classifier."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """What a backbone returns for a batch of B images.

    logits: [B, N] class scores, before any softmax.
    pooled: [B, d] the globally averaged feature that the classifier reads; None where only logits were stored.
    stages: one raw feature map [B, c, h, w] per stage, first to last; none where only logits were stored.
    extra: what a head made of the rest, [B, ...], where the network has one; else None.
    """

    logits: Tensor
    pooled: Tensor | None = None
    stages: tuple[Tensor, ...] = ()
    extra: Tensor | None = None

    @property
    def pooled_feature(self) -> Tensor:
        """`pooled`, for what cannot do without it. Raises ValueError where it is None."""
        if self.pooled is None:
            raise ValueError("pooled is None: of this network only logits were stored; allowed is a feature [B, d]")
        return self.pooled

    @property
    def head_output(self) -> Tensor:
        """`extra`, for what cannot do without it. Raises ValueError where it is None."""
        if self.extra is None:
            raise ValueError("extra is None: this network has no head; allowed is what one returns, [B, ...]")
        return self.extra


class Backbone(nn.Module):
    """A convolutional classifier cut into stages, so that methods can read, and rebuild, its parts.

    A family defines `stem`, `stages`, `end`, `new_stage` and `new_end`, and a linear layer `fc`. Stages are
    reached through a property and not through a container, so a family keeps the parameter names of the
    checkpoints it must read.

    Attributes:
        num_classes: N, the number of classes.
        feature_dim: d, the width of the pooled feature.
        stage_channels: the width of each stage's output.
    """

    fc: nn.Linear

    def __init__(self, num_classes: int, feature_dim: int, stage_channels: Sequence[int]) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.feature_dim = feature_dim
        self.stage_channels = tuple(stage_channels)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The stages S1..SL, first to last."""
        raise NotImplementedError

    def stem(self, images: Tensor) -> Tensor:
        """Normalised images, float [B, 3, H, W], to the input of the first stage."""
        raise NotImplementedError

    def end(self, feature: Tensor) -> Tensor:
        """The last stage's raw output to the map that is averaged, [B, d, h, w]; by default the same."""
        return feature

    def new_stage(self, index: int, tail: bool = False) -> nn.Module:
        """A freshly initialised rebuild of stage `index` (0..L-1), sharing nothing with this network.

        With `tail`, the stage takes its own output width as input and has stride 1, so that its shortcuts are
        identities: the last auxiliary branch of HSAKD (Yang et al., IJCAI 2021) is built this way.
        """
        raise NotImplementedError

    def new_end(self) -> nn.Module:
        """A freshly initialised module that does what `end` does, for a branch that ends like the network."""
        return nn.Identity()

    def forward(self, images: Tensor) -> Output:
        """Normalised images, float [B, 3, H, W], to their `Output`."""
        feature = self.stem(images)
        maps = []
        for stage in self.stages:
            feature = stage(feature)
            maps.append(feature)
        pooled = self.end(feature).mean(dim=(2, 3))
        return Output(self.fc(pooled), pooled, tuple(maps))


def initialise(module: nn.Module) -> None:
    """Draw the weights of `module` in place: convolutions normal with standard deviation sqrt(2 / (k k out)).

    Their biases, if any, start at 0, BatchNorm at scale 1 and shift 0; linear layers keep PyTorch's default
    (He et al., ICCV 2015, with the fan-out).
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def conv_norm(
    inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1, bias: bool = False, relu: bool = True
) -> nn.Sequential:
    """A convolution that keeps the image size at stride 1, BatchNorm, and a ReLU if `relu`."""
    convolution = nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, groups=groups, bias=bias)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), *[nn.ReLU(inplace=True)] * relu)


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the image size at stride 1, without bias (a BatchNorm follows it)."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
