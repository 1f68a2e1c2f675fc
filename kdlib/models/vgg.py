"""CIFAR VGGs with BatchNorm (after Simonyan and Zisserman, ICLR 2015): five groups of 3x3 convolutions.

There are max-pools after the first three groups only; global average pooling and one linear layer follow.
"""

from functools import partial

from torch import Tensor, nn

from kdlib.models.base import Backbone, conv_norm, initialise

WIDTHS = (3, 64, 128, 256, 512)  # the image, then the four stages


def make_stage(convolutions: int, inputs: int, outputs: int, pool: bool) -> nn.Sequential:
    """A 2x2 max-pool if `pool`, then `convolutions` times a 3x3 convolution with bias, BatchNorm and ReLU."""
    widths = (inputs, *[outputs] * convolutions)
    parts = [conv_norm(*pair, bias=True) for pair in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(*[nn.MaxPool2d(2)] * pool, *parts)


class VGG(Backbone):
    """A CIFAR VGG whose five groups have `group` convolutions each: 1 in vgg8, 2 in vgg13.

    The last two groups, both 512 wide, form one stage, and there is no stem. Stage features come after the last
    ReLU and before the pool, which is the beginning of the next stage.
    """

    def __init__(self, group: int, num_classes: int) -> None:
        super().__init__(num_classes, feature_dim=WIDTHS[-1], stage_channels=WIDTHS[1:])
        self.convolutions = (group, group, group, 2 * group)
        self.layers = nn.ModuleList(
            make_stage(self.convolutions[i], WIDTHS[i], WIDTHS[i + 1], pool=i > 0) for i in range(4)
        )
        self.fc = nn.Linear(WIDTHS[-1], num_classes)
        initialise(self)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return tuple(self.layers)

    def stem(self, images: Tensor) -> Tensor:
        return images

    def new_stage(self, index: int, tail: bool = False) -> nn.Module:
        outputs = self.stage_channels[index]
        inputs = outputs if tail else WIDTHS[index]
        stage = make_stage(self.convolutions[index], inputs, outputs, pool=index > 0 and not tail)
        initialise(stage)
        return stage


MODELS = {"vgg8": partial(VGG, 1), "vgg13": partial(VGG, 2)}
