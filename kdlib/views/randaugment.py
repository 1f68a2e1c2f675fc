"""RandAugment (Cubuk et al., NeurIPS 2020), batched, with the pixels of torchvision's `transforms.v2.RandAugment`.

Every image draws `num_ops` of 14 ops, one after another and with replacement, all at one magnitude. The ops and their
31 magnitudes are torchvision's, with nearest neighbours and black where a geometric op leaves pixels empty. Random
numbers come from uniforms looked up by image id, never from torch's global generator (see kdlib.randomness).

On a GPU the geometric ops and sharpness may round a few pixels otherwise than on a CPU.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from kdlib.views import functional as TF  # noqa: N812

MAGNITUDES = 31


@dataclass(frozen=True)
class RandOp:
    """One op and its magnitudes.

    apply: (uint8 images [B, 3, H, W], value) -> uint8 images of equal shape.
    values: (height, width) -> float32 [31], the values of magnitude 0..30; None for an op that takes none.
    signed: whether the value gets a random sign.
    """

    apply: Callable[[Tensor, float], Tensor]
    values: Callable[[int, int], Tensor] | None = None
    signed: bool = False

    def __call__(self, images: Tensor, magnitude: int, sign: int) -> Tensor:
        """The op at a magnitude 0..30; sign is 1 or -1, without effect on an op that is not signed."""
        value = 0.0 if self.values is None else self.values(*images.shape[-2:])[magnitude].item()
        return self.apply(images, sign * value if self.signed else value)


def _affine(images: Tensor, shift: tuple[float, float] = (0, 0), slopes: tuple[float, float] | None = None) -> Tensor:
    """Move the pixels by whole numbers of pixels (x, y), or shear them by slopes (x, y) about the top-left corner."""
    shear = [math.degrees(math.atan(slope)) for slope in slopes or (0.0, 0.0)]
    corner = None if slopes is None else [0, 0]
    return TF.affine(images, 0.0, [int(s) for s in shift], 1.0, shear, center=corner)


def _upto(last: float) -> Callable[[int, int], Tensor]:
    return lambda height, width: torch.linspace(0.0, last, MAGNITUDES)


_SHEAR, _ENHANCE = _upto(0.3), _upto(0.9)
_LARGEST_SHIFT = 150 / 331  # of the image's side

RAND_OPS: Mapping[str, RandOp] = MappingProxyType(
    {
        "identity": RandOp(lambda x, _: x),
        "shearX": RandOp(lambda x, slope: _affine(x, slopes=(slope, 0.0)), _SHEAR, signed=True),
        "shearY": RandOp(lambda x, slope: _affine(x, slopes=(0.0, slope)), _SHEAR, signed=True),
        "translateX": RandOp(
            lambda x, s: _affine(x, (s, 0)), lambda h, w: _upto(_LARGEST_SHIFT * w)(h, w), signed=True
        ),
        "translateY": RandOp(
            lambda x, s: _affine(x, (0, s)), lambda h, w: _upto(_LARGEST_SHIFT * h)(h, w), signed=True
        ),
        "rotate": RandOp(lambda x, degrees: TF.rotate(x, degrees), _upto(30.0), signed=True),
        "brightness": RandOp(lambda x, value: TF.adjust_brightness(x, 1 + value), _ENHANCE, signed=True),
        "color": RandOp(lambda x, value: TF.adjust_saturation(x, 1 + value), _ENHANCE, signed=True),
        "contrast": RandOp(lambda x, value: TF.adjust_contrast(x, 1 + value), _ENHANCE, signed=True),
        "sharpness": RandOp(lambda x, value: TF.adjust_sharpness(x, 1 + value), _ENHANCE, signed=True),
        "posterize": RandOp(
            lambda x, bits: TF.posterize(x, int(bits)),
            lambda h, w: (8 - torch.arange(MAGNITUDES) / ((MAGNITUDES - 1) / 4)).round(),
        ),
        "solarize": RandOp(
            lambda x, value: TF.solarize(x, 255 * value), lambda h, w: torch.linspace(1.0, 0.0, MAGNITUDES)
        ),
        "autocontrast": RandOp(lambda x, _: TF.autocontrast(x)),
        "equalize": RandOp(lambda x, _: TF.equalize(x)),
    }
)


@dataclass(frozen=True)
class RandAugment:
    """num_ops: ops that each image goes through, at least 1; magnitude: 0..30, the same for all of them."""

    num_ops: int
    magnitude: int

    @property
    def draws(self) -> int:
        """Uniforms per image: for each round one decides the op, one its sign."""
        return 2 * self.num_ops

    def drawn(self, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """(index into RAND_OPS, int64 [B, num_ops]; whether the sign is positive, bool [B, num_ops]).

        uniforms float32 [B, 2 * num_ops]."""
        ops, signs = uniforms.split(self.num_ops, dim=1)
        return (ops * len(RAND_OPS)).long(), signs < 0.5

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """images uint8 [B, 3, H, W] on any device, uniforms float32 [B, 2 * num_ops] on the CPU -> new uint8 tensor."""
        drawn, positive = self.drawn(uniforms)
        out = images.clone()
        for turn in range(self.num_ops):
            for index, op in enumerate(RAND_OPS.values()):
                here = drawn[:, turn] == index
                groups = {1: here & positive[:, turn], -1: here & ~positive[:, turn]} if op.signed else {1: here}
                for sign, group in groups.items():
                    rows = group.nonzero().squeeze(1).to(images.device, non_blocking=True)
                    if len(rows):
                        out[rows] = op(out[rows], self.magnitude, sign)
        return out


def randaugment(num_ops: int = 3, magnitude: int = 5) -> RandAugment:
    """RandAugment(num_ops, magnitude). Raises ValueError on a bad field."""
    for name, value, first, last in (
        ("num_ops", num_ops, 1, len(RAND_OPS)),
        ("magnitude", magnitude, 0, MAGNITUDES - 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not first <= value <= last:
            raise ValueError(f"{name} = {value!r} is not allowed; allowed are whole numbers from {first} to {last}")
    return RandAugment(num_ops, magnitude)
