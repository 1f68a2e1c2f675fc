"""ShuffleNetV1 with 3 groups for CIFAR (after Zhang et al., CVPR 2018).

The stem is a 1x1 convolution without max-pool. As in the CIFAR networks that results are published for, and unlike
in the paper, a ReLU follows the depthwise convolution too.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.models.base import Backbone, conv_norm, initialise

GROUPS = 3
WIDTHS = (24, 240, 480, 960)  # the stem, then the three stages
UNITS = (4, 8, 4)


class Unit(nn.Module):
    """1x1 convolution in groups, channel shuffle, 3x3 depthwise, 1x1 in groups; ReLU after joining with the input.

    At stride 1 the input is added. At stride 2 its 3x3 average pool is concatenated, so that the convolutions
    give only what is missing to `outputs`. The first convolution has no groups where it reads the stem.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        own = outputs if stride == 1 else outputs - inputs
        middle = own // 4
        groups = 1 if inputs == WIDTHS[0] else GROUPS
        self.stride = stride
        self.residual = nn.Sequential(
            conv_norm(inputs, middle, 1, groups=groups),
            nn.ChannelShuffle(groups),
            conv_norm(middle, middle, 3, stride, groups=middle),
            conv_norm(middle, own, 1, groups=GROUPS, relu=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] to [B, outputs, h / stride, w / stride]."""
        out = self.residual(x)
        if self.stride == 1:
            return F.relu(out + x, inplace=True)
        return F.relu(torch.cat([out, F.avg_pool2d(x, 3, self.stride, padding=1)], dim=1), inplace=True)


def make_stage(units: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """`units` units; the first one changes the width and the stride."""
    return nn.Sequential(Unit(inputs, outputs, stride), *(Unit(outputs, outputs, 1) for _ in range(units - 1)))


class ShuffleNetV1(Backbone):
    """ShuffleNetV1: a 1x1 stem of 24 channels and three stages that start at stride 2."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, feature_dim=WIDTHS[-1], stage_channels=WIDTHS[1:])
        self.conv1 = conv_norm(3, WIDTHS[0], 1)
        self.layer1, self.layer2, self.layer3 = (
            make_stage(UNITS[i], WIDTHS[i], WIDTHS[i + 1], stride=2) for i in range(3)
        )
        self.fc = nn.Linear(WIDTHS[-1], num_classes)
        initialise(self)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3

    def stem(self, images: Tensor) -> Tensor:
        return self.conv1(images)

    def new_stage(self, index: int, tail: bool = False) -> nn.Module:
        outputs = self.stage_channels[index]
        inputs, stride = (outputs, 1) if tail else (WIDTHS[index], 2)
        stage = make_stage(UNITS[index], inputs, outputs, stride)
        initialise(stage)
        return stage


MODELS = {"shufflenetv1": ShuffleNetV1}
