"""How much of an image a network is given: all of its pixels, or their means over squares."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Resolution(NamedTuple):
    """What a network makes of an image before it reads it, in training and after.

    >>> import torch
    >>> images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    >>> [tuple(seen(images).shape[2:]) for seen in (Resolution(2), Resolution(2, enlarged=True), Resolution())]
    [(16, 16), (32, 32), (32, 32)]
    """

    #: the side of the squares whose pixels become one, in pixels; 1 leaves the image as it is
    scale: int = 1
    #: whether each of these pixels is then repeated until the image has its size again
    enlarged: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size of the averaged image in pixels. Raises ValueError if nothing would be left of a side."""
        if min(height, width) < self.scale:
            raise ValueError(
                f"scale = {self.scale} leaves nothing of images of {width}x{height} pixels; allowed is at most "
                f"{min(height, width)}"
            )
        return height // self.scale, width // self.scale

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, h, w] of uint8 [B, 3, H, W]: means over squares, rounded to whole levels as a stored image is.

        Where the scale does not divide a side, the squares overlap by a pixel or less, so that all pixels count. Raises
        ValueError as `size` does.
        """
        if self.scale == 1:
            return images
        full = images.shape[-2:]
        means = F.interpolate(images.float(), self.size(*full), mode="area").round().to(torch.uint8)
        return F.interpolate(means, tuple(full), mode="nearest") if self.enlarged else means

    @property
    def shrinks(self) -> int:
        """By how much the side of what the network reads is smaller than that of the image."""
        return 1 if self.enlarged else self.scale


#: The image as it is.
WHOLE = Resolution()
