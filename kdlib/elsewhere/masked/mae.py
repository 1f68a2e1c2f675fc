"""Masked autoencoding (He et al., 2022): a transformer sees a few patches, and a light decoder draws the others."""

import torch
from torch import Tensor, nn

from kdlib.elsewhere.masked.masks import kept_count
from kdlib.elsewhere.masked.vit import EPSILON, PATCH, Block, ViT, start

PIXELS = 3 * PATCH**2  # numbers of a patch


def patches(images: Tensor) -> Tensor:
    """float [B, 3, H, W] to [B, n, PIXELS], row by row."""
    batch, channels, height, width = images.shape
    cut = images.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, PIXELS)


def normalised(pixels: Tensor) -> Tensor:
    """Each patch [..., PIXELS] with mean 0 and, unless it is of one colour, standard deviation 1."""
    return (pixels - pixels.mean(-1, keepdim=True)) / (pixels.var(-1, keepdim=True) + EPSILON).sqrt()


class MAE(nn.Module):
    """The decoder around a transformer: half its width, one block, a learnt vector for each masked patch.

    forward: normalised images float [B, 3, H, W] and uniforms float [B, n], one for each patch -> the mean squared
    error on masked patches, each normalised.
    """

    def __init__(self, vit: ViT, heads: int, ratio: float) -> None:
        super().__init__()
        width, count = vit.feature_dim // 2, vit.positions.shape[1]
        self.vit, self.kept = vit, kept_count(count, ratio)
        self.norm = nn.LayerNorm(vit.feature_dim, EPSILON)
        self.narrow = nn.Linear(vit.feature_dim, width)
        self.empty = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, count, width))
        self.block = Block(width, heads)
        self.last = nn.LayerNorm(width, EPSILON)
        self.draw = nn.Linear(width, PIXELS)
        for part in (self.narrow, self.block, self.draw):
            start(part)
        for learnt in (self.empty, self.positions):
            nn.init.trunc_normal_(learnt, std=0.02)

    def forward(self, images: Tensor, uniforms: Tensor) -> Tensor:
        order = uniforms.argsort(dim=1, stable=True).to(images.device)
        seen, hidden = order[:, : self.kept], order[:, self.kept :]
        drawn = self.drawn(images, seen).float()
        asked = normalised(patches(images.float()))
        errors = (drawn - asked).square().mean(2)
        return errors.gather(1, hidden).mean()

    def drawn(self, images: Tensor, seen: Tensor) -> Tensor:
        """[B, n, PIXELS], every patch as it is drawn from those that are seen, int64 [B, k]."""
        tokens = self.vit.blocks(taken(self.vit.embedded(images), seen))
        narrow = self.narrow(self.norm(tokens))
        places = seen[..., None].expand(-1, -1, narrow.shape[2])
        count = self.positions.shape[1]
        whole = self.empty.to(narrow.dtype).expand(len(images), count, -1).scatter(1, places, narrow)
        return self.draw(self.last(self.block(whole + self.positions)))


def taken(tokens: Tensor, places: Tensor) -> Tensor:
    """Of tokens [B, n, width] those at places int64 [B, k]."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))
