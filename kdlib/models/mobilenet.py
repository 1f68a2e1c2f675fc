"""MobileNetV2 of half width for CIFAR (after Sandler et al., CVPR 2018).

With ReLU in place of ReLU6, strides for small images and no dropout. Two code bases publish results under this
name that differ in the stride of the first convolution alone: equal parameters, four times the work at stride 1.
"""

from functools import partial

from torch import Tensor, nn

from kdlib.models.base import Backbone, conv_norm, initialise

STEM = 16
END = 1280  # the only width that is not halved
# For each stage its groups of blocks: expansion, width, number of blocks, stride of the first one.
STAGES = (
    ((1, 8, 1, 1), (6, 12, 2, 1)),
    ((6, 16, 3, 2),),
    ((6, 32, 4, 2), (6, 48, 3, 1)),
    ((6, 80, 3, 2), (6, 160, 1, 1)),
)


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the width, 3x3 depthwise, 1x1 without activation; plus the input if shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        middle = expansion * inputs
        self.residual = nn.Sequential(
            conv_norm(inputs, middle, 1),
            conv_norm(middle, middle, 3, stride, groups=middle),
            conv_norm(middle, outputs, 1, relu=False),
        )
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] to [B, outputs, h / stride, w / stride]."""
        return x + self.residual(x) if self.skip else self.residual(x)


def make_stage(index: int, inputs: int, tail: bool = False) -> nn.Sequential:
    """The blocks of stage `index` for an input of `inputs` channels; all at stride 1 if `tail`."""
    blocks = []
    for expansion, outputs, count, stride in STAGES[index]:
        for i in range(count):
            blocks.append(InvertedResidual(inputs, outputs, expansion, stride if i == 0 and not tail else 1))
            inputs = outputs
    return nn.Sequential(*blocks)


class MobileNetV2(Backbone):
    """MobileNetV2 at width 0.5: a 3x3 stem with `stem_stride`, four stages, a 1x1 convolution to 1280 channels.

    Stage features are those of the last block, which has no activation after its last BatchNorm.
    """

    def __init__(self, stem_stride: int, num_classes: int) -> None:
        widths = tuple(groups[-1][1] for groups in STAGES)
        super().__init__(num_classes, feature_dim=END, stage_channels=widths)
        self.inputs = (STEM, *widths)
        self.conv1 = conv_norm(3, STEM, 3, stem_stride)
        self.layers = nn.ModuleList(make_stage(i, self.inputs[i]) for i in range(4))
        self.conv2 = conv_norm(widths[-1], END, 1)
        self.fc = nn.Linear(END, num_classes)
        initialise(self)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return tuple(self.layers)

    def stem(self, images: Tensor) -> Tensor:
        return self.conv1(images)

    def end(self, feature: Tensor) -> Tensor:
        return self.conv2(feature)

    def new_stage(self, index: int, tail: bool = False) -> nn.Module:
        stage = make_stage(index, self.inputs[index + 1] if tail else self.inputs[index], tail)
        initialise(stage)
        return stage

    def new_end(self) -> nn.Module:
        end = conv_norm(self.stage_channels[-1], END, 1)
        initialise(end)
        return end


MODELS = {"mobilenetv2": partial(MobileNetV2, 2), "mobilenetv2_stride1": partial(MobileNetV2, 1)}
