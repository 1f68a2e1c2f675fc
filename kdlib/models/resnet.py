"""CIFAR ResNets of 6n+2 layers (He et al., CVPR 2016, section 4.2), also four times as wide ("x4"), and half as wide
at half the resolution ("tiny"), for demonstrations: an eighth of the time of a step.

Parameter names are those of the public checkpoints (see checkpoints.py): conv1, bn1, layer1..3, fc.
"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.models.base import Backbone, conv3x3, initialise

WIDTHS = (16, 16, 32, 64)  # the stem, then the three stages
WIDTHS_X4 = (32, 64, 128, 256)
WIDTHS_TINY = (8, 8, 16, 32)
STRIDES = (1, 2, 2)


class BasicBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus a shortcut, with a ReLU after the addition.

    The shortcut is an identity, or a 1x1 convolution and BatchNorm where the width or the stride changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] to [B, outputs, h / stride, w / stride]."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return F.relu(out, inplace=True)


def make_stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """`blocks` basic blocks; the first one changes the width and the stride."""
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


class ResNet(Backbone):
    """A CIFAR ResNet of `depth` = 6n+2 layers: a stem and three stages of n basic blocks.

    Stage features come after the last block's ReLU. `widths` are those of the stem and of the three stages. The stem
    sees the image averaged over squares of `shrink` x `shrink` pixels.
    """

    def __init__(
        self, depth: int, num_classes: int, widths: tuple[int, int, int, int] = WIDTHS, shrink: int = 1
    ) -> None:
        super().__init__(num_classes, feature_dim=widths[-1], stage_channels=widths[1:])
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth is {depth}, but a CIFAR ResNet has 6n+2 layers with n at least 1.")
        self.blocks = (depth - 2) // 6
        self.widths = widths
        self.shrink = shrink
        self.conv1 = conv3x3(3, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1, self.layer2, self.layer3 = (
            make_stage(self.blocks, *shape) for shape in zip(widths, widths[1:], STRIDES, strict=False)
        )
        self.fc = nn.Linear(widths[-1], num_classes)
        initialise(self)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3

    def stem(self, images: Tensor) -> Tensor:
        if self.shrink > 1:
            images = F.avg_pool2d(images, self.shrink)
        return F.relu(self.bn1(self.conv1(images)), inplace=True)

    def new_stage(self, index: int, tail: bool = False) -> nn.Module:
        outputs = self.stage_channels[index]
        inputs, stride = (outputs, 1) if tail else (self.widths[index], STRIDES[index])
        stage = make_stage(self.blocks, inputs, outputs, stride)
        initialise(stage)
        return stage


MODELS = {
    **{f"resnet{depth}": partial(ResNet, depth) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": partial(ResNet, depth, widths=WIDTHS_X4) for depth in (8, 32)},
    **{f"resnet{depth}_tiny": partial(ResNet, depth, widths=WIDTHS_TINY, shrink=2) for depth in (8, 14)},
}
