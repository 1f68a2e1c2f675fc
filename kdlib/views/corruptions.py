"""Corrupted images, to test on: noise, blur and low contrast, each at three strengths.

They are synthetic, and stand in for images of another source. Blur and contrast are made by the project's own ops, at
one sign; JDA draws from the same two ops, but never noise.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kdlib.randomness import generator
from kdlib.views.ops import apply_op

#: Of each corruption, weakest first.
STRENGTHS = (1, 2, 3)
NOISE = (8, 16, 32)  # standard deviation in grey levels
BLUR = (1, 2, 4)  # times that the op "sharpness" smooths, at its largest magnitude
# Magnitude index of the op "contrast": 0.7, 0.5 and 0.3 of it is left. At 0.1 networks were near chance on the bundled
# images, where no threshold means anything.
CONTRAST = (3, 5, 7)


def corrupt(images: Tensor, kind: str, strength: int, ids: Tensor) -> Tensor:
    """Images under one corruption: a function of (kind, strength, image id), and of nothing else.

    Args:
        images: uint8 [B, 3, H, W], RGB; left unchanged.
        kind: a key of `KINDS`.
        strength: 1, 2 or 3.
        ids: int64 [B], the place of each image in its set, which decides its noise. One image has the same noise at all
            strengths, times another factor.

    Returns:
        A new uint8 tensor of equal shape on the same device.

    Raises:
        ValueError: an unknown kind or strength, or another number of ids than of images; see also `apply_op`.

    >>> import torch
    >>> grey = torch.full((1, 3, 8, 8), 128, dtype=torch.uint8)
    >>> bool((corrupt(grey, "noise", 1, torch.tensor([5])) == grey).all())
    False
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}.")
    if strength not in STRENGTHS:
        raise ValueError(f"strength is {strength!r}; it must be 1, 2 or 3.")
    if len(ids) != len(images):
        raise ValueError(f"ids has {len(ids)} entries; it must have one for each of the {len(images)} images.")
    return KINDS[kind](images, STRENGTHS.index(strength), ids)


def _noise(images: Tensor, index: int, ids: Tensor) -> Tensor:
    """Normal noise, one draw for each pixel of each channel, rounded and clipped."""
    shape, streams = images.shape[1:], (generator(0, "corruption: noise", i) for i in ids.tolist())
    drawn = torch.stack([torch.randn(shape, generator=stream) for stream in streams]) if len(ids) else torch.empty(0)
    noisy = images.float() + NOISE[index] * drawn.view(images.shape).to(images.device)
    return noisy.round_().clamp_(0, 255).to(torch.uint8)


def _blur(images: Tensor, index: int, ids: Tensor) -> Tensor:
    for _ in range(BLUR[index]):
        images = apply_op("sharpness", images, 9, -1)
    return images


def _contrast(images: Tensor, index: int, ids: Tensor) -> Tensor:
    return apply_op("contrast", images, CONTRAST[index], -1)


#: Corruption -> what makes it of images, at the index of a strength, with the images' ids.
KINDS: Mapping[str, Callable[[Tensor, int, Tensor], Tensor]] = {"noise": _noise, "blur": _blur, "contrast": _contrast}
