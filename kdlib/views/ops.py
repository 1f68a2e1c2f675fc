"""The op table of Joint Data Augmentation (JDA), as batched operations on uint8 images.

The ops are those of AutoAugment (Cubuk et al., CVPR 2019), with the ten magnitudes that JDA uses (Li et al.,
ACCV 2022). The pixels are what PIL computes for the same op, but one call treats a whole batch of shape
[B, 3, H, W], on any device. Autocontrast and shear differ from PIL by at most one grey level, the others not
at all (tests/views/test_ops.py).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from kdlib.views import functional as TF  # noqa: N812

MAGNITUDE_STEPS = 10
FILL = 128  # grey level of the pixels that a geometric op leaves empty


@dataclass(frozen=True)
class Op:
    """One image operation and the ten values its magnitude index 0..9 stands for.

    apply: (uint8 images [B, 3, H, W], value) -> uint8 images of equal shape; `value` is unused by an op that
        takes no magnitude.
    magnitudes: the values at index 0..9, or None for an op that takes no magnitude.
    neutral: the value at which the op changes no image, or None if there is none.
    signed: whether the value is multiplied by the random sign of the view.
    """

    name: str
    apply: Callable[[Tensor, float], Tensor]
    magnitudes: tuple[float, ...] | None = None
    neutral: float | None = None
    signed: bool = False


def apply_op(name: str, images: Tensor, magnitude: int, sign: int = 1) -> Tensor:
    """Apply one op, at one magnitude and sign, to every image of a batch.

    Args:
        name: a key of `OPS`.
        images: uint8, [B, 3, H, W], RGB; B may be 0. It is left unchanged.
        magnitude: index 0..9 into the op's values; without effect on autocontrast, equalize and invert.
        sign: +1 or -1; without effect on an op that is not signed (`Op.signed`).

    Returns:
        A new uint8 tensor of equal shape on the same device.

    Raises:
        TypeError: images are not a uint8 tensor.
        ValueError: unknown name, magnitude or sign out of range, or images not of shape [B, 3, H, W].
    """
    op = _find_op(name, magnitude)
    if isinstance(sign, bool) or sign not in (-1, 1):
        raise ValueError(f"sign is {sign!r}; it must be 1 or -1.")
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images is of type {kind}; it must be a torch.uint8 tensor.")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise ValueError(f"images has shape {list(images.shape)}; it must be [B, 3, H, W] with H, W >= 1.")
    if len(images) == 0 or is_identity(name, magnitude):
        return images.clone()
    value = op.magnitudes[magnitude] if op.magnitudes else 0.0
    return op.apply(images, sign * value if op.signed else value)


def is_identity(name: str, magnitude: int) -> bool:
    """Whether the op at this magnitude index (0..9) changes no image, for example `posterize` at 8 bits.

    Raises ValueError for an unknown name or a magnitude out of range.
    """
    op = _find_op(name, magnitude)
    return op.magnitudes is not None and op.magnitudes[magnitude] == op.neutral


def _find_op(name: str, magnitude: int) -> Op:
    if name not in OPS:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(OPS)}.")
    if not isinstance(magnitude, int) or isinstance(magnitude, bool) or not 0 <= magnitude < MAGNITUDE_STEPS:
        raise ValueError(f"magnitude is {magnitude!r}; it must be an int from 0 to {MAGNITUDE_STEPS - 1}.")
    return OPS[name]


def _gather(images: Tensor, index: Tensor) -> Tensor:
    """Output pixel i of a channel = its input pixel index[i]: [B, 3, pixels] -> [B, 3, len(index)]."""
    return images.gather(2, index.expand(*images.shape[:2], -1))


def _shear(images: Tensor, slope: float, axis: int) -> Tensor:
    """Move pixels along `axis` (3: x, 2: y) by slope times the other coordinate, about the top-left corner.

    Cubic interpolation over four taps as PIL does it: kernel with a = -1, edge pixels repeated, the result
    truncated, empty where the source centre lies outside the image.
    """
    height, width = images.shape[2:]
    index, t, low, high = _shear_maps(height, width, slope, axis, images.device)
    levels, step = _gather(images.flatten(2), index).to(torch.float32), 1 if axis == 3 else width
    rise = levels[..., step:] - levels[..., :-step]  # from each tap to the next one
    left, middle, right = rise[..., : -2 * step], rise[..., step:-step], rise[..., 2 * step :]
    # Horner's form of v2 + (v3 - v1) t + (2 (v1 - v2) + v3 - v4) t^2 + (v2 - v1 + v4 - v3) t^3, with the taps v1 to
    # v4: it keeps a constant area exactly constant.
    bend = left + right
    cubic = (bend * t).sub_(bend.add_(left)).mul_(t).add_(left + middle).mul_(t).add_(levels[..., step : -2 * step])
    rows = cubic.to(torch.int16).clamp_(low, high).view(*images.shape[:3], -1)
    return rows[..., :width].to(torch.uint8)


@lru_cache(maxsize=64)
def _shear_maps(height: int, width: int, slope: float, axis: int, device: torch.device) -> tuple[Tensor, ...]:
    """Where the pixels of a shear come from, and what is made of them.

    index: int64 [N], the pixels to read: those of the output, with one more before them along the axis and two after
        them, so that the four taps of each are neighbours (along x, three more pixels complete the last ones).
    t: float32 [M], for each pixel read the position between its middle two taps, in [0, 1).
    low, high: int16 [M], the limits of its level: both FILL where the output is empty.
    """
    rows, columns = (height, width + 3) if axis == 3 else (height + 3, width)
    y, x = np.mgrid[:rows, :columns]
    along, across, size = (x, y, width) if axis == 3 else (y, x, height)
    shift = slope * (across + 0.5)
    taps = np.clip(along - 1 + np.floor(shift).astype(np.int64), 0, size - 1)
    index = np.pad((y * width + taps if axis == 3 else taps * width + x).ravel(), (0, columns - width))
    centre = (along + 0.5) + shift
    empty = (centre < 0) | (centre >= size)
    limits = (np.where(empty, FILL, level).astype(np.int16) for level in (0, 255))
    maps = (array.ravel()[: height * columns] for array in ((shift - np.floor(shift)).astype(np.float32), *limits))
    return tuple(torch.from_numpy(array).to(device) for array in (index, *maps))


def _translate(images: Tensor, fraction: float, axis: int) -> Tensor:
    """Move pixels along `axis` (3: x, 2: y) by a fraction of the image size, rounded to whole pixels."""
    shift = math.floor(fraction * images.shape[axis] + 0.5)
    padding = (-shift, shift) if axis == 3 else (0, 0, -shift, shift)
    return F.pad(images, padding, value=FILL)  # a negative amount crops


def _rotate(images: Tensor, degrees: float) -> Tensor:
    """Rotate anticlockwise about the centre, nearest neighbour."""
    padded = F.pad(images.flatten(2), (0, 1), value=FILL)
    return _gather(padded, _rotation_map(*images.shape[2:], degrees, images.device)).view(images.shape)


@lru_cache(maxsize=64)
def _rotation_map(height: int, width: int, degrees: float, device: torch.device) -> Tensor:
    """For each output pixel the index of its source pixel, H * W if that lies outside: int64 [H * W].

    PIL rotates an image of pixel indices, so that ties between neighbours fall as they do in PIL.
    """
    pixels = np.arange(height * width, dtype=np.int32).reshape(height, width)
    rotated = Image.fromarray(pixels).rotate(degrees, fillcolor=pixels.size)
    return torch.from_numpy(np.array(rotated, dtype=np.int64).reshape(-1)).to(device)


def _to_uint8(levels: Tensor) -> Tensor:
    """Clip float levels to 0..255, in place, and truncate them. By way of int16: several times faster on a CPU."""
    return levels.clamp_(0, 255).to(torch.int16).to(torch.uint8)


def _blend(degenerate: Tensor, levels: Tensor, factor: float) -> Tensor:
    """Enhance as PIL does: degenerate + factor (levels - degenerate), clipped and truncated to uint8."""
    return _to_uint8((levels - degenerate).mul_(factor).add_(degenerate))


def _luma(levels: Tensor) -> Tensor:
    """ITU-R 601 grey levels, whole numbers in float32 [B, 1, H, W], from levels [B, 3, H, W].

    In PIL's fixed-point arithmetic, which float32 holds exactly: 8 bits before the point and 16 after it. The weights
    sum to one, so that a grey image is its own luma; torchvision's sum to 0.9999.
    """
    red, green, blue = levels.split(1, dim=1)
    total = (red * (19595 / 65536)).add_(green, alpha=38470 / 65536).add_(blue, alpha=7471 / 65536)
    return total.add_(0.5).floor_()


def _color(images: Tensor, value: float) -> Tensor:
    levels = images.to(torch.float32)
    return _blend(_luma(levels), levels, 1 + value)


def _contrast(images: Tensor, value: float) -> Tensor:
    levels, pixels = images.to(torch.float32), images.shape[2] * images.shape[3]
    total = _luma(levels).to(torch.int16).sum(dim=(2, 3), keepdim=True)
    mean = (2 * total + pixels) // (2 * pixels)  # the mean luma of each image, rounded half up
    return _blend(mean.to(torch.float32), levels, 1 + value)


def _brightness(images: Tensor, value: float) -> Tensor:
    return _to_uint8(images.to(torch.float32).mul_(1 + value))


def _sharpness(images: Tensor, value: float) -> Tensor:
    """Mix with a 3x3 smoothing (weight 5 at the centre, 1 around, sum 13); edge pixels stay as they are.

    By sums, because a convolution in reduced precision, as on a GPU, would round differently.
    """
    result, width = images.clone(memory_format=torch.contiguous_format), images.shape[3]
    if min(images.shape[2:]) < 3:
        return result
    # Of the rows laid end to end, in a few long loops. At the edge columns that mixes rows: they are put back below.
    levels = images.flatten(2).to(torch.float32)
    inner = levels[..., width + 1 : -width - 1]
    rows = (levels[..., : -2 * width] + levels[..., width:-width]).add_(levels[..., 2 * width :])
    total = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(inner, alpha=4)
    smooth = total.mul_(1 / 13).round_()  # thirteenths: never halfway between two integers
    result.flatten(2)[..., width + 1 : -width - 1] = _blend(smooth, inner, 1 + value)
    result[..., :: width - 1] = images[..., :: width - 1]
    return result


def _solarize(images: Tensor, threshold: float) -> Tensor:
    # Inverting is flipping all 8 bits. By way of int16: comparisons that yield bool are ten times slower on a CPU.
    return images ^ images.to(torch.int16).ge_(math.ceil(threshold)).neg_().to(torch.uint8)


def _autocontrast(images: Tensor) -> Tensor:
    """Stretch every channel to 0..255: torchvision's arithmetic, without its masks, which would wait for a GPU."""
    levels = images.to(torch.float32)
    low, high = levels.amin(dim=(2, 3), keepdim=True), levels.amax(dim=(2, 3), keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low).mul_(1 / 255))
    return levels.sub_(torch.where(flat, 0.0, low)).div_(scale).clamp_(0, 255).to(torch.uint8)


def _equalize(images: Tensor) -> Tensor:
    """Spread every channel's levels evenly; one of fewer than 255 pixels below its highest level stays."""
    levels = images.flatten(2).to(torch.int64)
    counts = levels.new_zeros(*images.shape[:2], 256, dtype=torch.int32)
    counts.scatter_add_(2, levels, counts.new_ones(1).expand_as(levels))
    below = counts.cumsum(2, dtype=torch.int32) - counts  # pixels below each level
    step = below.gather(2, levels.amax(2, keepdim=True)).div_(255, rounding_mode="floor")
    # A quotient of whole numbers below 2^24 never rounds up to the next one, so that truncating it is exact.
    spread = _to_uint8((below + step // 2) / step.clamp(min=1))
    table = torch.where(step == 0, torch.arange(256, dtype=torch.uint8, device=images.device), spread)
    return table.gather(2, levels).view(images.shape)


def _steps(first: float, last: float) -> tuple[float, ...]:
    return tuple(np.linspace(first, last, MAGNITUDE_STEPS).tolist())


_SHEAR, _TRANSLATE, _ENHANCE = _steps(0, 0.3), _steps(0, 150 / 331), _steps(0, 0.9)

#: Op name -> the op. One of your own: `OPS["mine"] = Op("mine", apply, magnitudes)`.
OPS: dict[str, Op] = {
    op.name: op
    for op in (
        Op("shearX", lambda x, slope: _shear(x, slope, 3), _SHEAR, neutral=0, signed=True),
        Op("shearY", lambda x, slope: _shear(x, slope, 2), _SHEAR, neutral=0, signed=True),
        Op("translateX", lambda x, part: _translate(x, part, 3), _TRANSLATE, neutral=0, signed=True),
        Op("translateY", lambda x, part: _translate(x, part, 2), _TRANSLATE, neutral=0, signed=True),
        Op("rotate", _rotate, _steps(0, 30), neutral=0),
        Op("color", _color, _ENHANCE, neutral=0, signed=True),
        Op("posterize", lambda x, bits: TF.posterize(x, bits), tuple(round(bits) for bits in _steps(8, 4)), neutral=8),
        Op("solarize", _solarize, _steps(256, 0), neutral=256),
        Op("contrast", _contrast, _ENHANCE, neutral=0, signed=True),
        Op("sharpness", _sharpness, _ENHANCE, neutral=0, signed=True),
        Op("brightness", _brightness, _ENHANCE, neutral=0, signed=True),
        Op("autocontrast", lambda x, _: _autocontrast(x)),
        Op("equalize", lambda x, _: _equalize(x)),
        Op("invert", lambda x, _: TF.invert(x)),
    )
}
