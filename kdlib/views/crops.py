"""Random crops, horizontal flips and quarter turns, as batched operations on uint8 images [B, 3, H, W].

Images may be on any device; the uniform random numbers that decide are on the CPU (see kdlib.randomness).
"""

import torch
from torch import Tensor

PADDING = 4  # black pixels on each side before the random crop


def crop_flip(images: Tensor, uniforms: Tensor) -> Tensor:
    """Random crop from a frame of 4 black pixels, then a horizontal flip with probability 1/2.

    images uint8 [B, 3, H, W]; uniforms float32 [B, 3] (row, column, flip), on the CPU. The result is channels_last.
    """
    return _crop(images, uniforms[:, :2], flips(uniforms))


def flips(uniforms: Tensor) -> Tensor:
    """bool [B]: the images that the uniforms of `crop_flip` flip."""
    return uniforms[:, 2] < 0.5


def quarter_turns(images: Tensor) -> list[Tensor]:
    """The images turned by 0, 90, 180 and 270 degrees counter-clockwise. Raises ValueError if they are not square."""
    height, width = images.shape[-2:]
    if height != width:
        raise ValueError(f"images of {height} x {width} pixels cannot be turned by 90 degrees; allowed are square ones")
    return [torch.rot90(images, k, (2, 3)) for k in range(4)]


def turned_crops(images: Tensor, uniforms: Tensor, others: Tensor) -> list[Tensor]:
    """The four crops of SSKD (Xu et al., ECCV 2020): flip the image, turn it, then crop each of the four on its own.

    uniforms float32 [B, 3] decide the flip, which the four share, and the first crop, which is that of `crop_flip`
    (cropping and then flipping is flipping and then cropping at the mirrored column); others float32 [B, 6] are the
    rows and columns of the three turned images' crops.
    """
    flipped = torch.where(flips(uniforms).to(images.device)[:, None, None, None], images.flip(3), images)
    turned = [_crop(turn, others[:, 2 * k : 2 * k + 2]) for k, turn in enumerate(quarter_turns(flipped)[1:])]
    return [crop_flip(images, uniforms), *turned]


def _crop(images: Tensor, places: Tensor, flipped: Tensor | None = None) -> Tensor:
    """Crops at places float32 [B, 2] (row, column) of the padded frame, mirrored where `flipped` bool [B]."""
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (PADDING,) * 4)
    offsets = (places * (2 * PADDING + 1)).long()
    columns = torch.arange(width).expand(len(images), -1)
    if flipped is not None:
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
    columns = columns + offsets[:, 1:]
    rows = torch.arange(height) + offsets[:, :1]
    rows, columns = rows.to(images.device), columns.to(images.device)
    batch = torch.arange(len(images), device=images.device)
    picked = padded[batch[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [B, H, W, 3]
    return picked.permute(0, 3, 1, 2)
