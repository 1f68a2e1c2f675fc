"""The strong view of CRLD (Zhang et al., ACM MM 2024): two random ops and a grey square on a crop.

Each op is one of 14, drawn with replacement, at a magnitude that is uniform in its range; those that enhance only go
down (a darker image, less colour, contrast or sharpness, never more). Pixels are PIL's, with nearest neighbours and
black where a geometric op leaves pixels empty. Each image has a magnitude of its own, so an op takes one per image.

Random numbers are uniforms on the CPU, looked up by image id (see kdlib.randomness); images may be on any device.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.views import cutmix
from kdlib.views.ops import OPS

NUM_OPS = 2
OP_DRAWS = 2 * NUM_OPS  # uniforms per image: which ops, and their magnitudes
SQUARE_DRAWS = 3  # uniforms per image: side, and row and column of the centre
LARGEST_SQUARE = 0.5  # of the image's side
GREY = (125, 123, 114)


@dataclass(frozen=True)
class StrongOp:
    """One op and the range of its value.

    apply: (uint8 images [n, 3, H, W], values float64 [n] on the CPU) -> uint8 images of equal shape; the values are
    unused by an op that takes none. low, high: the values of the uniforms 0 and 1.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    low: float = 0.0
    high: float = 0.0

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """The op on each image, at the place in its range that the image's uniform gives; uniforms float32 [n]."""
        return self.apply(images, self.low + (self.high - self.low) * uniforms.double())


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    """One value for all pixels of an image: [n] on the CPU -> [n, 1, 1, 1] where the images are."""
    return values.to(images.device, non_blocking=True)[:, None, None, None]


def _enhanced(name: str) -> StrongOp:
    """Between what the op makes of an image at factor 0 and the image itself, at factors of 0.05 to 0.95."""

    def apply(images: Tensor, factors: Tensor) -> Tensor:
        least = OPS[name].apply(images, -1.0).float()
        levels = (images.float() - least).mul_(_per_image(factors.float(), images)).add_(least)
        return levels.to(torch.int16).to(torch.uint8)  # by way of int16: several times faster on a CPU

    return StrongOp(apply, 0.05, 0.95)


def _solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    limit = _per_image(thresholds.ceil().to(torch.int16), images)
    return torch.where(images < limit, images, 255 - images)


def _posterize(images: Tensor, bits: Tensor) -> Tensor:
    return images & _per_image((256 - 2 ** (8 - bits.long())).to(torch.uint8), images)


def _affine(matrix: Callable[[Tensor, int, int], Mapping[int, Tensor]], low: float, high: float) -> StrongOp:
    """Pixels from elsewhere: (x, y) shows (a0 x + a1 y + a2, a3 x + a4 y + a5). matrix: (values float64 [n], height,
    width) -> the entries by number that are not those of the identity, float64 [n] each."""

    def apply(images: Tensor, values: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        one, zero = torch.ones_like(values), torch.zeros_like(values)
        entries = {0: one, 1: zero, 2: zero, 3: zero, 4: one, 5: zero} | dict(matrix(values, height, width))
        index = _sources(torch.stack([entries[k] for k in range(6)], dim=1), height, width)
        index = index.to(images.device, non_blocking=True)
        padded = F.pad(images.flatten(2), (0, 1))  # one black pixel, for what lies outside
        return padded.gather(2, index[:, None].expand(-1, 3, -1)).view(images.shape)

    return StrongOp(apply, low, high)


def _sources(matrices: Tensor, height: int, width: int) -> Tensor:
    """For each pixel the index of the one it shows, H * W if that lies outside: int64 [n, H * W] from float64 [n, 6].

    In PIL's fixed-point arithmetic, 16 bits after the point, so that pixels fall as they do in PIL.
    """
    y, x = torch.arange(height)[:, None], torch.arange(width)

    def place(along: Tensor, across: Tensor, shift: Tensor) -> Tensor:
        start = shift + 0.5 * (along + across)  # the centre of the first pixel
        along, across, start = ((v * 65536 + 0.5).floor().long()[:, None, None] for v in (along, across, start))
        return (start + across * y + along * x) >> 16

    a = matrices.unbind(1)
    column, row = place(a[0], a[1], a[2]), place(a[3], a[4], a[5])
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return torch.where(inside, row * width + column, height * width).flatten(1)


def _rotation(degrees: Tensor, height: int, width: int) -> dict[int, Tensor]:
    """Anticlockwise about the centre."""
    cos, sin = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    x, y = width / 2, height / 2
    return {0: cos, 1: -sin, 2: x - cos * x + sin * y, 3: sin, 4: cos, 5: y - sin * x - cos * y}


STRONG_OPS: Mapping[str, StrongOp] = MappingProxyType(
    {
        "autocontrast": StrongOp(lambda x, _: OPS["autocontrast"].apply(x, 0.0)),
        "brightness": _enhanced("brightness"),
        "color": _enhanced("color"),
        "contrast": _enhanced("contrast"),
        "equalize": StrongOp(lambda x, _: OPS["equalize"].apply(x, 0.0)),
        "identity": StrongOp(lambda x, _: x),
        "posterize": StrongOp(_posterize, 4.0, 8.0),
        "rotate": _affine(_rotation, -30.0, 30.0),
        "sharpness": _enhanced("sharpness"),
        "shearX": _affine(lambda slope, height, width: {1: slope}, -0.3, 0.3),
        "shearY": _affine(lambda slope, height, width: {3: slope}, -0.3, 0.3),
        "solarize": StrongOp(_solarize, 0.0, 256.0),
        "translateX": _affine(lambda part, height, width: {2: part * width}, -0.3, 0.3),
        "translateY": _affine(lambda part, height, width: {5: part * height}, -0.3, 0.3),
    }
)


def drawn_ops(uniforms: Tensor) -> Tensor:
    """Indices into STRONG_OPS, int64 [B, 2], of uniforms float32 [B, 4]."""
    return (uniforms[:, :NUM_OPS] * len(STRONG_OPS)).long()


def random_ops(images: Tensor, uniforms: Tensor) -> Tensor:
    """Two ops, one after the other. images uint8 [B, 3, H, W], uniforms float32 [B, 4] -> new uint8 tensor."""
    drawn, out = drawn_ops(uniforms), images.clone()
    for turn in range(NUM_OPS):
        for index, op in enumerate(STRONG_OPS.values()):
            group = (drawn[:, turn] == index).nonzero().squeeze(1)
            if len(group):
                rows = group.to(images.device, non_blocking=True)
                out[rows] = op(out[rows], uniforms[group, NUM_OPS + turn])
    return out


def squares(uniforms: Tensor, height: int, width: int) -> Tensor:
    """int64 [B, 4], (top, left, bottom, right) in pixels, the last two exclusive; uniforms float32 [B, 3].

    The side is uniform from 0 to half the image's width, the centre uniform in the image; the square is clipped at the
    border, and its edges are rounded down to whole pixels, so that it may be empty.
    """
    side = LARGEST_SQUARE * width * uniforms[:, :1].double()
    size = torch.tensor([height, width])
    centre = uniforms[:, 1:].double() * size
    return torch.cat(
        [(centre - side / 2).floor().clamp(min=0), torch.minimum((centre + side / 2).floor(), size)], 1
    ).long()


def grey_square(images: Tensor, uniforms: Tensor) -> Tensor:
    """The images with a grey square each; images uint8 [B, 3, H, W], uniforms float32 [B, 3] -> new uint8 tensor."""
    grey = torch.tensor(GREY, dtype=torch.uint8).to(images.device, non_blocking=True)[:, None, None]
    return cutmix.paste(images, grey.expand_as(images), squares(uniforms, *images.shape[-2:]))


def strong_view(crops: Tensor, ops: Tensor, square: Tensor) -> Tensor:
    """Two ops and a square on crops uint8 [B, 3, H, W]; ops float32 [B, 4], square float32 [B, 3]: uniforms."""
    return grey_square(random_ops(crops, ops), square)
