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
from torchvision.transforms.v2 import functional as TF  # noqa: N812

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
    """Output pixel i of a channel = input pixel index[i], both counted along the rows; H * W means empty."""
    padded = F.pad(images.flatten(2), (0, 1), value=FILL)
    return padded.gather(2, index.expand(*images.shape[:2], -1)).view(images.shape)


def _shear(images: Tensor, slope: float, axis: int) -> Tensor:
    """Move pixels along `axis` (3: x, 2: y) by slope times the other coordinate, about the top-left corner.

    Cubic interpolation over four taps as PIL does it: kernel with a = -1, edge pixels repeated, the result
    truncated, empty where the source centre lies outside the image.
    """
    maps = _shear_maps(*images.shape[2:], slope, axis)
    taps, t = (torch.from_numpy(array).to(images.device) for array in maps)
    v1, v2, v3, v4 = (_gather(images, tap).to(torch.int16) for tap in taps)
    # Horner's form of v2 + (v3 - v1) t + (2 (v1 - v2) + v3 - v4) t^2 + (v2 - v1 + v4 - v3) t^3: it keeps a
    # constant area exactly constant.
    left, right = v2 - v1, v4 - v3
    cubic = ((left + right) * t).sub_(2 * left + right).mul_(t).add_(v3 - v1).mul_(t).add_(v2)
    return _to_uint8(cubic)


@lru_cache(maxsize=64)
def _shear_maps(height: int, width: int, slope: float, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the output pixels of a shear come from: the pixel indices of the four taps, int64 [4, H * W], and
    the position between the middle two, float32 [H, W] in [0, 1)."""
    y, x = np.mgrid[:height, :width]
    along, across, size = (x, y, width) if axis == 3 else (y, x, height)
    centre = (along + 0.5) + slope * (across + 0.5)
    first = np.floor(centre - 0.5)
    taps = np.clip(first.astype(np.int64) + np.arange(-1, 3)[:, None, None], 0, size - 1)
    index = y * width + taps if axis == 3 else taps * width + x
    index[:, (centre < 0) | (centre >= size)] = height * width
    return index.reshape(4, -1), np.float32(centre - 0.5 - first)


def _translate(images: Tensor, fraction: float, axis: int) -> Tensor:
    """Move pixels along `axis` (3: x, 2: y) by a fraction of the image size, rounded to whole pixels."""
    shift = math.floor(fraction * images.shape[axis] + 0.5)
    padding = (-shift, shift) if axis == 3 else (0, 0, -shift, shift)
    return F.pad(images, padding, value=FILL)  # a negative amount crops


def _rotate(images: Tensor, degrees: float) -> Tensor:
    """Rotate anticlockwise about the centre, nearest neighbour."""
    return _gather(images, torch.from_numpy(_rotation_map(*images.shape[2:], degrees)).to(images.device))


@lru_cache(maxsize=64)
def _rotation_map(height: int, width: int, degrees: float) -> np.ndarray:
    """For each output pixel the index of its source pixel, H * W if that lies outside: int64 [H * W].

    PIL rotates an image of pixel indices, so that ties between neighbours fall as they do in PIL.
    """
    pixels = np.arange(height * width, dtype=np.int32).reshape(height, width)
    rotated = Image.fromarray(pixels).rotate(degrees, fillcolor=pixels.size)
    return np.array(rotated, dtype=np.int64).reshape(-1)


def _to_uint8(levels: Tensor) -> Tensor:
    """Clip float levels to 0..255 and truncate them. By way of int16: ten times faster on a CPU."""
    return levels.clamp_(0, 255).to(torch.int16).to(torch.uint8)


def _blend(degenerate: Tensor, images: Tensor, factor: float) -> Tensor:
    """Enhance as PIL does: degenerate + factor (images - degenerate), clipped and truncated to uint8."""
    return _to_uint8((images.to(torch.int16) - degenerate).to(torch.float32).mul_(factor).add_(degenerate))


def _luma(images: Tensor) -> Tensor:
    """ITU-R 601 grey levels, int16 [B, 1, H, W], in PIL's fixed-point arithmetic.

    The weights sum to one exactly, so that a grey image is its own luma; torchvision's sum to 0.9999.
    """
    red, green, blue = images.to(torch.int32).split(1, dim=1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.int16)


def _color(images: Tensor, value: float) -> Tensor:
    return _blend(_luma(images), images, 1 + value)


def _contrast(images: Tensor, value: float) -> Tensor:
    pixels = images.shape[2] * images.shape[3]
    total = _luma(images).sum(dim=(2, 3), keepdim=True)
    mean = (2 * total + pixels) // (2 * pixels)  # the mean luma of each image, rounded half up
    return _blend(mean.to(torch.int16), images, 1 + value)


def _sharpness(images: Tensor, value: float) -> Tensor:
    """Mix with a 3x3 smoothing (weight 5 at the centre, 1 around, sum 13); edge pixels stay as they are.

    By sums, because a convolution in reduced precision, as on a GPU, would round differently.
    """
    result = images.clone()
    if min(images.shape[2:]) < 3:
        return result
    levels = images.to(torch.int16)
    inner = levels[..., 1:-1, 1:-1]
    rows = levels[..., :-2, :] + levels[..., 1:-1, :] + levels[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner
    smooth = total.to(torch.float32).mul_(1 / 13).round_()  # thirteenths: never halfway between two integers
    result[..., 1:-1, 1:-1] = _blend(smooth, inner, 1 + value)
    return result


def _solarize(images: Tensor, threshold: float) -> Tensor:
    # Inverting is flipping all 8 bits. torchvision's solarize refuses the threshold 256 ("invert nothing").
    return images ^ ((images >= threshold).to(torch.uint8) * 255)


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
        Op("posterize", TF.posterize, tuple(round(bits) for bits in _steps(8, 4)), neutral=8),
        Op("solarize", _solarize, _steps(256, 0), neutral=256),
        Op("contrast", _contrast, _ENHANCE, neutral=0, signed=True),
        Op("sharpness", _sharpness, _ENHANCE, neutral=0, signed=True),
        Op("brightness", lambda x, value: _to_uint8(x * (1 + value)), _ENHANCE, neutral=0, signed=True),
        Op("autocontrast", lambda x, _: TF.autocontrast(x)),
        Op("equalize", lambda x, _: TF.equalize(x)),
        Op("invert", lambda x, _: TF.invert(x)),
    )
}
