"""The student: a ResNet-8 with one stage more, and the light decoder that exists only while it is taught."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.elsewhere.masked.sparse import Sparse
from kdlib.models.base import Backbone, conv3x3, initialise
from kdlib.models.network import Network
from kdlib.models.resnet import make_stage

STRIDES = (1, 2, 2, 2)
STAGES = len(STRIDES)


class Encoder(Backbone):
    """A CIFAR ResNet of one block a stage and four stages: its last map has one position for each 8 x 8 pixels."""

    def __init__(self, width: int, num_classes: int) -> None:
        widths = (width, *(width * 2**k for k in range(STAGES)))
        super().__init__(num_classes, feature_dim=widths[-1], stage_channels=widths[1:])
        self.conv1 = conv3x3(3, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            make_stage(1, *shape) for shape in zip(widths, widths[1:], STRIDES, strict=False)
        )
        self.fc = nn.Linear(widths[-1], num_classes)
        initialise(self)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4

    def stem(self, images: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(images)), inplace=True)

    def last_map(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Normalised images, float [B, 3, H, W], to the last map, float [B, d, n, n].

        kept: bool [B, 1, n, n], the cells that are shown; the others are zero in every map, see `Sparse`. None: all,
        and every layer as it is.
        """
        if kept is None:
            return nn.Sequential(*self.stages)(self.stem(images))
        sparse = Sparse(kept)
        feature = F.relu(sparse.norm(self.bn1, sparse(self.conv1, sparse.zeroed(images))))
        for stage in self.stages:
            for block in stage:
                feature = sparse.block(block, feature)
        return feature


class Decoder(nn.Module):
    """From the student's last map to a prediction of each of the teacher's tokens, twice as many to a side.

    A learnt vector stands where a cell was masked; then a 1x1 convolution, and one block of SparK's decoder: a
    transposed convolution, and two 3x3 ones with BatchNorm and a ReLU6 between them.
    """

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.empty = nn.Parameter(torch.zeros(1, inputs, 1, 1))
        nn.init.trunc_normal_(self.empty, std=0.02)
        self.narrow = nn.Conv2d(inputs, width, 1)
        self.widen = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)
        self.block = nn.Sequential(
            conv3x3(width, width), nn.BatchNorm2d(width), nn.ReLU6(inplace=True),
            conv3x3(width, width), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.predict = nn.Conv2d(width, outputs, 1)

    def forward(self, feature: Tensor, kept: Tensor | None = None) -> Tensor:
        """[B, inputs, n, n] to [B, 4 n n, outputs], token by token, row by row. kept: bool [B, 1, n, n], or all."""
        filled = feature if kept is None else torch.where(kept, feature, self.empty.to(feature.dtype))
        return self.predict(self.block(self.widen(self.narrow(filled)))).flatten(2).transpose(1, 2)


class Student(nn.Module):
    """Encoder, which is kept, and decoder, which is not."""

    def __init__(self, width: int, tokens: int, mean: tuple, std: tuple, classes: int, precision: str) -> None:
        super().__init__()
        encoder = Encoder(width, classes)
        self.network = Network(encoder, mean, std, precision)
        self.decoder = Decoder(encoder.feature_dim, encoder.feature_dim // 2, tokens)

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """[B, tokens, width of the teacher] from normalised images; kept: see `Encoder.last_map`."""
        return self.decoder(self.network.backbone.last_map(images, kept), kept)

    def predicted(self, images: Tensor, kept: Tensor | None) -> Tensor:
        """The same in float32 from uint8 [B, 3, H, W], computed in the student's precision."""
        with self.network.autocast(images):
            return self(self.network.normalised(images), kept).float()
