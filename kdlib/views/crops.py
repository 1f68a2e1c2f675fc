"""Random crops, horizontal flips and quarter turns, as batched operations on uint8 images [B, 3, H, W].

Images may be on any device; the uniform random numbers that decide are on the CPU (see kdlib.randomness), or, for
padded crops, where the images are.
"""

import math

import torch
import torch.nn.functional as F
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
    flipped = torch.where(
        flips(uniforms).to(images.device, non_blocking=True)[:, None, None, None], images.flip(3), images
    )
    turned = [_crop(turn, others[:, 2 * k : 2 * k + 2]) for k, turn in enumerate(quarter_turns(flipped)[1:])]
    return [crop_flip(images, uniforms), *turned]


ATTEMPTS = 4  # a crop that does not fit is drawn again, at most so often; then it is made to fit (2 in 100,000)
RESIZED_DRAWS = 2 * ATTEMPTS + 3


def resized_crop_flip(images: Tensor, uniforms: Tensor, size: int) -> Tensor:
    """Random resized crop (Szegedy et al., CVPR 2015), then a horizontal flip with probability 1/2.

    The crop has 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3 (uniform in its logarithm), as in
    torchvision's RandomResizedCrop, and is scaled to size x size by bilinear interpolation without antialiasing.
    images uint8 [B, 3, S, S]; uniforms float32 [B, 11] (area and ratio of each attempt, row, column, flip), on the CPU.
    Returns uint8 [B, 3, size, size], channels_last.
    """
    top, left, height, width = (side[:, None] for side in resized_boxes(uniforms, images.shape[-1]).float().unbind(1))
    side, mirrored = images.shape[-1], torch.where(uniforms[:, -1:] < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(top)
    rows = [mirrored * width / side, zero, 2 * (left + width / 2) / side - 1]
    rows += [zero, height / side, 2 * (top + height / 2) / side - 1]
    theta = torch.cat(rows, 1).view(-1, 2, 3).to(images.device, non_blocking=True)
    grid = F.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    scaled = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return scaled.round_().clamp_(0, 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def resized_boxes(uniforms: Tensor, side: int) -> Tensor:
    """int64 [B, 4], (top, left, height, width) in pixels, of the random resized crops of square images."""
    draws = uniforms.double()
    area = side**2 * (0.08 + 0.92 * draws[:, 0 : 2 * ATTEMPTS : 2])
    ratio = torch.exp(math.log(4 / 3) * (2 * draws[:, 1 : 2 * ATTEMPTS : 2] - 1))
    width, height = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()  # [B, ATTEMPTS]
    first = ((width <= side) & (height <= side)).long().argmax(1, keepdim=True)  # 0 where none fits
    width, height = (sides.gather(1, first).clamp(1, side) for sides in (width, height))
    places = [(draws[:, -3 + k : -2 + k] * (side - length + 1)).floor() for k, length in enumerate((height, width))]
    return torch.cat([*places, height, width], 1).long()


def centre(images: Tensor, size: int) -> Tensor:
    """The central size x size pixels of images [N, 3, S, S], without a copy."""
    start = (images.shape[-1] - size) // 2
    return images[..., start : start + size, start : start + size]


def _crop(images: Tensor, places: Tensor, flipped: Tensor | None = None) -> Tensor:
    """Crops at places float32 [B, 2] (row, column) of the padded frame, mirrored where `flipped` bool [B]."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (PADDING,) * 4)
    offsets = (places * (2 * PADDING + 1)).long()
    columns = torch.arange(width, device=places.device).expand(len(images), -1)
    if flipped is not None:
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
    columns = columns + offsets[:, 1:]
    rows = torch.arange(height, device=places.device) + offsets[:, :1]
    rows, columns = (part.to(images.device, non_blocking=True) for part in (rows, columns))
    batch = torch.arange(len(images), device=images.device)
    picked = padded[batch[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [B, H, W, 3]
    return picked.permute(0, 3, 1, 2)
