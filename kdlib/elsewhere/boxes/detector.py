"""A small detector: a class and a box for each cell of a grid, the distances to the sides of the box as distributions.

The head is that of generalized focal loss (Li et al., 2020): for each side it says how probable a distance of
0, 1, ..., 8 strides is, and the distance is the mean. So a box can be taught as an answer can.
"""

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Last = Literal["dilated", "strided"]

LASTS: tuple[Last, ...] = get_args(Last)
STRIDE = 8
BINS = 9  # distances of 0 to 8 strides
#: Of a strided block, its width by a quarter of its input's, u: 9 v^2 + 40 u v = 4 x 288 u^2, as a quarter of the cells
#: has a 3x3 convolution from 4 u to v, one from v to v, and a 1x1 one back.
EQUAL = ((40**2 + 4 * 9 * 4 * 288) ** 0.5 - 40) / 18
PRIOR = 0.01  # the first score of each class: background is what most cells are
SCORE, OVERLAP, MOST = 0.05, 0.6, 100  # of what is found: least score, largest IoU with a better box, boxes an image


class Said(NamedTuple):
    """What a detector says of B images of P cells each, row by row."""

    #: float [B, P, C]; a score is its sigmoid
    classes: Tensor
    #: float [B, P, 4, BINS]: left, top, right, bottom; a probability is its softmax
    sides: Tensor


class Found(NamedTuple):
    """What is found in an image, best first."""

    #: float32 [n, 4], x1, y1, x2, y2 in pixels
    corners: Tensor
    #: float32 [n] in (0, 1)
    scores: Tensor
    #: int64 [n]
    labels: Tensor


class Block(nn.Module):
    """Two 3x3 convolutions around which the input is led: pooled and filled up where it must shrink and widen."""

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.stride, self.wider = stride, width - inputs
        self.first = convolution(inputs, width, stride, dilation)
        self.second = convolution(width, width, 1, dilation)

    def forward(self, x: Tensor) -> Tensor:
        around = F.pad(F.avg_pool2d(x, self.stride), (0, 0, 0, 0, 0, self.wider))
        return F.relu(self.second(F.relu(self.first(x))) + around)


class Strided(nn.Module):
    """A block at half the resolution, scaled up again and added to its input: where `Block` is dilated, this is not.

    Its width is chosen so that it costs as much as a dilated block of the width of its input.
    """

    def __init__(self, width: int):
        super().__init__()
        inner = round(width / 4 * EQUAL)
        self.block = Block(width, inner, stride=2)
        self.back = nn.Sequential(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + F.interpolate(self.back(self.block(x)), scale_factor=2, mode="nearest"))


def convolution(inputs: int, width: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution and its BatchNorm."""
    layer = nn.Conv2d(inputs, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(width))


class Detector(nn.Module):
    """views: uint8 [B, 3, H, W], sides a multiple of 8 -> `Said` of (H / 8)(W / 8) cells, float32.

    width: channels of the first layer; the last have four times as many. last: what the block before the head is:
    dilated, as in DetNet (Li et al., ECCV 2018), or strided and scaled up again, at equal cost; for "strided" sides
    must be a multiple of 16. Raises ValueError for another word.

    >>> said = Detector(8, classes=10)(torch.zeros(2, 3, 128, 128, dtype=torch.uint8))
    >>> said.classes.shape, said.sides.shape
    (torch.Size([2, 256, 10]), torch.Size([2, 256, 4, 9]))
    """

    def __init__(self, width: int, classes: int, last: Last = "dilated"):
        super().__init__()
        if last not in LASTS:
            raise ValueError(f"last = {last!r} is unknown; allowed are {', '.join(LASTS)}")
        self.stem = convolution(3, width, stride=2)
        self.blocks = nn.Sequential(
            Block(width, 2 * width, stride=2), Block(2 * width, 4 * width, stride=2),
            Block(4 * width, 4 * width, dilation=2) if last == "dilated" else Strided(4 * width),
        )  # fmt: skip
        self.head = nn.Sequential(
            convolution(4 * width, 4 * width), nn.ReLU(), convolution(4 * width, 4 * width), nn.ReLU()
        )
        self.classes = nn.Conv2d(4 * width, classes, 1)
        self.sides = nn.Conv2d(4 * width, 4 * BINS, 1)
        nn.init.constant_(self.classes.bias, -torch.tensor(1 / PRIOR - 1).log().item())

    def forward(self, views: Tensor) -> Said:
        return self.answers(self.shared(views))

    @property
    def gated(self) -> Tensor:
        """The weight of the last layer that all answers share."""
        return self.head[2][0].weight

    def shared(self, views: Tensor) -> Tensor:
        """float [B, 4 width, H / 8, W / 8]: what all answers are made of."""
        x = ((views.float() / 255 - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)  # a third faster
        return self.head(self.blocks(F.relu(self.stem(x))))

    def answers(self, shared: Tensor) -> Said:
        """Those of each cell."""
        sides = self.sides(shared).flatten(2).transpose(1, 2).unflatten(2, (4, BINS))
        return Said(self.classes(shared).flatten(2).transpose(1, 2).float(), sides.float())


def centres(side: int, device: str | torch.device = "cpu") -> Tensor:
    """float32 [P, 2], x and y in pixels: the middle of each cell of a square image."""
    along = (torch.arange(side // STRIDE, device=device) + 0.5) * STRIDE
    rows, columns = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], 1)


def distances(sides: Tensor) -> Tensor:
    """float [..., 4] in pixels: the mean of each distribution of logits [..., 4, BINS]."""
    strides = torch.arange(BINS, dtype=sides.dtype, device=sides.device)
    return STRIDE * (sides.softmax(-1) * strides).sum(-1)


def decode(places: Tensor, away: Tensor) -> Tensor:
    """Corners [..., 4] of the boxes whose sides are `away` [..., 4] pixels from places [..., 2]."""
    return torch.cat([places - away[..., :2], places + away[..., 2:]], -1)


def encode(places: Tensor, corners: Tensor) -> Tensor:
    """The distances [..., 4] in pixels from places [..., 2] to the left, top, right and bottom sides of boxes."""
    return torch.cat([places - corners[..., :2], corners[..., 2:] - places], -1)


def find(said: Said, side: int, score: float = SCORE) -> list[Found]:
    """What a detector finds in each image of side x side pixels, all on the CPU.

    Boxes of a score of at least `score`; of boxes of one class that overlap by an IoU above 0.6 the best one; at most
    100 an image. A cell may find boxes of several classes.
    """
    from torchvision.ops import batched_nms  # takes a while to import

    corners = decode(centres(side), distances(said.sides.detach().cpu())).clamp(0, side)
    scores, found = said.classes.detach().cpu().sigmoid(), []
    for own, boxes in zip(scores, corners, strict=True):
        cells, labels = (own >= score).nonzero().unbind(1)
        chosen, values = boxes[cells], own[cells, labels]
        best = batched_nms(chosen, values, labels, OVERLAP)[:MOST]
        found.append(Found(chosen[best], values[best], labels[best]))
    return found
