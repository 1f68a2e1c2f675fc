"""ShuffleNetV2 1x for CIFAR (after Ma et al., ECCV 2018): a 1x1 stem without max-pool."""

import torch
from torch import Tensor, nn

from kdlib.models.base import Backbone, conv_norm, initialise

WIDTHS = (24, 116, 232, 464)  # the stem, then the three stages
UNITS = (4, 8, 4)  # the down-unit and the basic units of each stage
END = 1024


def branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """1x1 convolution, 3x3 depthwise, 1x1; no ReLU after the depthwise convolution."""
    return nn.Sequential(
        conv_norm(inputs, outputs, 1),
        conv_norm(outputs, outputs, 3, stride, groups=outputs, relu=False),
        conv_norm(outputs, outputs, 1),
    )


class BasicUnit(nn.Module):
    """One half of the channels passes unchanged, the other half through `branch`; then the halves are shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = branch(width // 2, width // 2, stride=1)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] to the same shape."""
        left, right = x.chunk(2, dim=1)
        return self.shuffle(torch.cat([left, self.branch(right)], dim=1))


class DownUnit(nn.Module):
    """Both halves of the output read the whole input, one through a shorter branch; then they are shuffled."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.short = nn.Sequential(
            conv_norm(inputs, inputs, 3, stride, groups=inputs, relu=False),
            conv_norm(inputs, outputs // 2, 1),
        )
        self.branch = branch(inputs, outputs // 2, stride)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] to [B, outputs, h / stride, w / stride]."""
        return self.shuffle(torch.cat([self.short(x), self.branch(x)], dim=1))


def make_stage(units: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A down-unit, which changes the width and the stride, and `units` - 1 basic units."""
    return nn.Sequential(DownUnit(inputs, outputs, stride), *(BasicUnit(outputs) for _ in range(units - 1)))


class ShuffleNetV2(Backbone):
    """ShuffleNetV2 1x: a 1x1 stem of 24 channels, three stages that start at stride 2, a 1x1 convolution to 1024."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, feature_dim=END, stage_channels=WIDTHS[1:])
        self.conv1 = conv_norm(3, WIDTHS[0], 1)
        self.layer1, self.layer2, self.layer3 = (
            make_stage(UNITS[i], WIDTHS[i], WIDTHS[i + 1], stride=2) for i in range(3)
        )
        self.conv2 = conv_norm(WIDTHS[-1], END, 1)
        self.fc = nn.Linear(END, num_classes)
        initialise(self)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3

    def stem(self, images: Tensor) -> Tensor:
        return self.conv1(images)

    def end(self, feature: Tensor) -> Tensor:
        return self.conv2(feature)

    def new_stage(self, index: int, tail: bool = False) -> nn.Module:
        outputs = self.stage_channels[index]
        inputs, stride = (outputs, 1) if tail else (WIDTHS[index], 2)
        stage = make_stage(UNITS[index], inputs, outputs, stride)
        initialise(stage)
        return stage

    def new_end(self) -> nn.Module:
        end = conv_norm(WIDTHS[-1], END, 1)
        initialise(end)
        return end


MODELS = {"shufflenetv2": ShuffleNetV2}
