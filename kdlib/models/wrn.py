"""Wide residual networks, wrn_D_k: D layers, k times as wide (Zagoruyko and Komodakis, BMVC 2016)."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.models.base import Backbone, conv3x3, initialise

STRIDES = (1, 2, 2)


class PreActivationBlock(nn.Module):
    """BN-ReLU-conv-BN-ReLU-conv plus a shortcut, with nothing after the addition.

    The shortcut is an identity on the raw input, or, where the width changes, a 1x1 convolution without
    BatchNorm on the activated input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.shortcut = None
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] to [B, outputs, h / stride, w / stride]."""
        active = F.relu(self.bn1(x), inplace=True)
        out = F.relu(self.bn2(self.conv1(active)), inplace=True)
        out = self.conv2(out)
        return out + (x if self.shortcut is None else self.shortcut(active))


def make_stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """`blocks` pre-activation blocks; the first one changes the width and the stride."""
    first = PreActivationBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(PreActivationBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


class WideResNet(Backbone):
    """wrn_D_k: a stem of 16 channels, three stages of (D - 4) / 6 blocks and 16k, 32k, 64k channels, BN-ReLU.

    Stage features are the raw outputs of the stages, before the BatchNorm that comes next. No dropout.
    """

    def __init__(self, depth: int, widen: int, num_classes: int) -> None:
        if depth < 10 or (depth - 4) % 6 or widen < 1:
            raise ValueError(
                f"wrn_{depth}_{widen} is not a wide residual network: "
                "wrn_D_k has D = 6n+4 layers with n at least 1, and k at least 1."
            )
        widths = (16, 16 * widen, 32 * widen, 64 * widen)
        super().__init__(num_classes, feature_dim=widths[-1], stage_channels=widths[1:])
        self.blocks = (depth - 4) // 6
        self.widths = widths
        self.conv1 = conv3x3(3, widths[0])
        self.layer1, self.layer2, self.layer3 = (
            make_stage(self.blocks, *shape) for shape in zip(widths, widths[1:], STRIDES, strict=False)
        )
        self.bn = nn.BatchNorm2d(widths[-1])
        self.fc = nn.Linear(widths[-1], num_classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3

    def stem(self, images: Tensor) -> Tensor:
        return self.conv1(images)

    def end(self, feature: Tensor) -> Tensor:
        return F.relu(self.bn(feature), inplace=True)

    def new_stage(self, index: int, tail: bool = False) -> nn.Module:
        outputs = self.stage_channels[index]
        inputs, stride = (outputs, 1) if tail else (self.widths[index], STRIDES[index])
        stage = make_stage(self.blocks, inputs, outputs, stride)
        initialise(stage)
        return stage

    def new_end(self) -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(self.feature_dim), nn.ReLU(inplace=True))


MODELS = {
    f"wrn_{depth}_{widen}": partial(WideResNet, depth, widen) for depth, widen in ((16, 1), (16, 2), (40, 1), (40, 2))
}
