"""CutMix (Yun et al., ICCV 2019): a box of another image is pasted into an image, which shares its label by area.

The box is the paper's, as torchvision's `transforms.v2.CutMix` computes it with alpha = 1: lambda ~ Beta(1, 1), that is
uniform; a box of sqrt(1 - lambda) times the image's sides, about a centre uniform over the pixels, clipped at the
border. Here each image has its own box and its own partner; there a batch shares one box.
"""

import torch
from torch import Tensor

# Uniforms per image of each role: which image is the partner, its crop and flip, and (lambda, row, column) of the box.
ROLES = {"partner": 1, "partner crop": 3, "box": 3}


def boxes(uniforms: Tensor, height: int, width: int) -> Tensor:
    """int64 [B, 4], (top, left, bottom, right) in pixels, the last two exclusive; 0 <= top <= bottom <= height.

    uniforms float32 [B, 3]: lambda, and the row and the column of the centre. A box may be empty.
    """
    side = 0.5 * (1 - uniforms[:, :1].double()).sqrt()
    size = torch.tensor([height, width])
    half = (side * size).long()
    centre = (uniforms[:, 1:] * size).long()
    return torch.cat([(centre - half).clamp(min=0), torch.minimum(centre + half, size)], 1)


def kept(found: Tensor, height: int, width: int) -> Tensor:
    """float32 [B] in [0, 1]: the share of the pixels that lie outside the boxes int64 [B, 4]."""
    area = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    return (1 - area.double() / (height * width)).float()


def paste(images: Tensor, partners: Tensor, found: Tensor) -> Tensor:
    """images with the partners' pixels inside the boxes; uint8 [B, 3, H, W] each, boxes int64 [B, 4] on the CPU."""
    height, width = images.shape[-2:]
    top, left, bottom, right = found.to(images.device, non_blocking=True)[:, :, None].unbind(1)
    row, column = (torch.arange(size, device=images.device) for size in (height, width))
    inside = ((row >= top) & (row < bottom))[:, :, None] & ((column >= left) & (column < right))[:, None]
    return torch.where(inside[:, None], partners, images)
