"""ResNets of four stages (He et al., CVPR 2016) from torchvision's blocks: ResNet-50 for CIFAR, 18 and 34 for ImageNet.

Parameter names are torchvision's, so its published ImageNet weights can be loaded.
"""

from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from kdlib.models.base import Backbone, conv3x3, initialise

if TYPE_CHECKING:
    import torchvision.models.resnet

STEM = 64
WIDTHS = (64, 128, 256, 512)  # inside the blocks; a bottleneck's output is four times as wide
STRIDES = (1, 2, 2, 2)


def block_of(name: str) -> "type[torchvision.models.resnet.BasicBlock | torchvision.models.resnet.Bottleneck]":
    """torchvision's block of that name. It is asked for here, since torchvision takes as long to import as torch."""
    from torchvision.models import resnet

    return {"basic": resnet.BasicBlock, "bottleneck": resnet.Bottleneck}[name]


def make_stage(
    block: "type[torchvision.models.resnet.BasicBlock | torchvision.models.resnet.Bottleneck]",
    blocks: int,
    inputs: int,
    width: int,
    stride: int,
) -> nn.Sequential:
    """`blocks` blocks; the first one changes the width and the stride (a bottleneck has it on its 3x3)."""
    outputs = width * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(block(inputs, width, stride, shortcut), *(block(outputs, width) for _ in range(blocks - 1)))


class FourStageResNet(Backbone):
    """A ResNet whose four stages have `blocks` blocks each; features come after the last block's ReLU.

    The stem is 3x3 at stride 1 for small images; for ImageNet 7x7 at stride 2 and a 3x3 max-pool at stride 2.
    """

    def __init__(self, kind: str, blocks: tuple[int, int, int, int], imagenet: bool, num_classes: int) -> None:
        block = block_of(kind)
        widths = tuple(width * block.expansion for width in WIDTHS)
        super().__init__(num_classes, feature_dim=widths[-1], stage_channels=widths)
        self.block = block
        self.blocks = blocks
        self.inputs = (STEM, *widths)
        self.imagenet = imagenet
        self.conv1 = nn.Conv2d(3, STEM, 7, stride=2, padding=3, bias=False) if imagenet else conv3x3(3, STEM)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            make_stage(block, blocks[i], self.inputs[i], WIDTHS[i], STRIDES[i]) for i in range(4)
        )
        self.fc = nn.Linear(widths[-1], num_classes)
        initialise(self)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4

    def stem(self, images: Tensor) -> Tensor:
        feature = F.relu(self.bn1(self.conv1(images)), inplace=True)
        return F.max_pool2d(feature, 3, stride=2, padding=1) if self.imagenet else feature

    def new_stage(self, index: int, tail: bool = False) -> nn.Module:
        inputs, stride = (self.inputs[index + 1], 1) if tail else (self.inputs[index], STRIDES[index])
        stage = make_stage(self.block, self.blocks[index], inputs, WIDTHS[index], stride)
        initialise(stage)
        return stage


MODELS = {
    "resnet50": partial(FourStageResNet, "bottleneck", (3, 4, 6, 3), False),
    "resnet18_imagenet": partial(FourStageResNet, "basic", (2, 2, 2, 2), True),
    "resnet34_imagenet": partial(FourStageResNet, "basic", (3, 4, 6, 3), True),
}
