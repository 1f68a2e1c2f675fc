"""A backbone that takes images as they are stored: uint8 in, logits in float32 out."""

import copy
import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from kdlib.models import Backbone, Output
from kdlib.models.folding import folded
from kdlib.models.resolution import WHOLE, Resolution

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Network(nn.Module):
    """Normalises uint8 RGB images with its own mean and std, then runs the backbone, and the head if there is one.

    Each network normalises its own input, so a teacher trained with other statistics cannot be misused. The head maps
    the backbone's Output to a tensor; it exists in training only. What it is given of an image is its `resolution`, by
    default all of it. forward: uint8 [B, 3, H, W] -> Output, whose logits
    and `extra` are float32. Precisions other than float32 run under autocast.
    """

    scale: Tensor
    shift: Tensor
    resolution: Resolution

    def __init__(
        self, backbone: Backbone, mean: tuple, std: tuple, precision: str = "float32", head: nn.Module | None = None
    ):
        super().__init__()
        check_statistics(mean, std)
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.attach(head)
        self.precision = PRECISIONS[precision]
        self.resolution = WHOLE
        self.register_buffer("scale", (1 / (255 * torch.tensor(std))).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", (-torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1), persistent=False)

    def attach(self, head: nn.Module | None) -> None:
        """Gives the network this head, or none."""
        self.head = head.to(memory_format=torch.channels_last) if head is not None else None

    def frozen(self) -> "Network":
        """A copy for inference alone: in eval mode, without gradients, and with a folded backbone where it can be."""
        network = copy.deepcopy(self).eval().requires_grad_(False)
        network.backbone = folded(network.backbone, self.precision)
        return network

    def forward(self, images: Tensor) -> Output:
        with self.autocast(images):
            output = self.backbone(self.normalised(images))
            extra = self.head(output).float() if self.head is not None else None
        return output._replace(logits=output.logits.float(), extra=extra)

    def logits(self, images: Tensor) -> Tensor:
        """float32 [B, N] without running the head: what the deployed network says."""
        with self.autocast(images):
            return self.backbone(self.normalised(images)).logits.float()

    def normalised(self, images: Tensor) -> Tensor:
        """What the backbone reads: float32 [B, 3, H, W] from uint8, of the network's resolution."""
        seen = self.resolution(images).float()
        return torch.addcmul(self.shift, seen, self.scale).contiguous(memory_format=torch.channels_last)

    def autocast(self, images: Tensor):
        """Inside, layers compute in the precision of the network, on the device of the images."""
        mixed = self.precision != torch.float32
        return torch.autocast(images.device.type, self.precision) if mixed else nullcontext()

    @property
    def num_classes(self) -> int:
        return self.backbone.num_classes


def check_statistics(mean: Sequence[float], std: Sequence[float], whose: str = "") -> None:
    """Raises ValueError if images cannot be normalised with these statistics of RGB, naming the one at fault."""
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or not all(math.isfinite(value) for value in values):
            raise ValueError(f"{whose}{name} = {(*values,)} must be three finite numbers, of red, green and blue")
    if min(std) <= 0:
        raise ValueError(f"{whose}std = {(*std,)} must be above 0 in each channel: images are divided by it")
