"""A dense network on kept positions alone, as in SparK (Tian et al., 2023): a mask in place of sparse convolutions.

Every convolution and pooling is computed everywhere and then multiplied by the mask, scaled to its map. A masked
position is zero before each layer, as if the map ended there, and after it: so nothing of it reaches a kept one, and
the set of positions that are not zero never grows. That is a submanifold sparse convolution, at the price of a dense
one.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.elsewhere.masked.masks import scaled
from kdlib.models.resnet import BasicBlock


class Sparse:
    """The layers of a dense network, each on the kept positions of its map. kept: bool [B, 1, n, n], see `masks`."""

    def __init__(self, kept: Tensor):
        self.kept, self.whole = kept, bool(kept.all())
        self._masks: dict[int, Tensor] = {}

    def mask(self, side: int) -> Tensor:
        """bool [B, 1, side, side]"""
        if side not in self._masks:
            self._masks[side] = scaled(self.kept, side)
        return self._masks[side]

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A convolution or a pooling. x: float [B, C, h, h], zero where it is masked."""
        return self.zeroed(layer(x))

    def zeroed(self, x: Tensor) -> Tensor:
        """float [B, C, h, h], times the mask."""
        return x * self.mask(x.shape[-1])

    def norm(self, layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
        """BatchNorm whose statistics, also the running ones, are of kept positions alone; the others stay zero.

        Where all are kept it is the layer itself.
        """
        if self.whole:
            return layer(x)
        mask = self.mask(x.shape[-1]).permute(0, 2, 3, 1).flatten()
        rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        normed = _norm_rows(layer, rows[mask])
        empty = normed.new_zeros(rows.shape)
        places = mask.nonzero().expand(-1, x.shape[1])
        batch, channels, height, width = x.shape
        return empty.scatter(0, places, normed).view(batch, height, width, channels).permute(0, 3, 1, 2)

    def block(self, block: BasicBlock, x: Tensor) -> Tensor:
        """A residual block, see `BasicBlock.forward`; its sum needs no care."""
        out = F.relu(self.norm(block.bn1, self(block.conv1, x)))
        out = self.norm(block.bn2, self(block.conv2, out))
        if block.downsample is not None:
            convolution, norm = block.downsample
            x = self.norm(norm, self(convolution, x))
        return F.relu(out + x)


def _norm_rows(layer: nn.BatchNorm2d, rows: Tensor) -> Tensor:
    """What a layer makes of positions float [n, C], gathered from all images."""
    if layer.training:
        layer.num_batches_tracked.add_(1)
    return F.batch_norm(
        rows, layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.training, layer.momentum, layer.eps
    )
