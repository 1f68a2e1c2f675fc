"""A small vision transformer (Dosovitskiy et al., 2021), pre-norm, without a class token: what timm makes with
`class_token=False, global_pool="avg"`, weight by weight."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.models.base import Backbone, Output

PATCH = 4  # pixels of a side: one token
WIDER = 4  # times the width, inside a block
EPSILON = 1e-6  # of LayerNorm


class Attention(nn.Module):
    """Multi-head self-attention. forward: [B, n, width] -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        q, k, v = self.qkv(x).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, count, width))


class Block(nn.Module):
    """Attention, then two layers on each token by itself, each behind a LayerNorm and beside an identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.fc1 = nn.Linear(width, WIDER * width)
        self.fc2 = nn.Linear(WIDER * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(Backbone):
    """Patches of 4 x 4 pixels, learnt positions, `depth` blocks, the mean over tokens, LayerNorm, a classifier.

    It has no stages in the sense of a `Backbone`: what it teaches are the tokens after its last block.
    """

    def __init__(self, side: int, width: int, depth: int, heads: int, num_classes: int) -> None:
        super().__init__(num_classes, feature_dim=width, stage_channels=())
        self.patch = nn.Conv2d(3, width, PATCH, stride=PATCH)
        self.positions = nn.Parameter(torch.zeros(1, (side // PATCH) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, EPSILON)
        self.fc = nn.Linear(width, num_classes)
        start(self)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def embedded(self, images: Tensor) -> Tensor:
        """Normalised images, float [B, 3, H, W], to [B, n, width], row by row, each with its position."""
        return self.patch(images).flatten(2).transpose(1, 2) + self.positions

    def tokens(self, images: Tensor) -> Tensor:
        """The same after the last block."""
        return self.blocks(self.embedded(images))

    def forward(self, images: Tensor) -> Output:
        pooled = self.norm(self.tokens(images).mean(1))
        return Output(self.fc(pooled), pooled)


def start(module: nn.Module) -> None:
    """Draws the weights of linear layers: truncated normal with standard deviation 0.02, and biases of 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)
