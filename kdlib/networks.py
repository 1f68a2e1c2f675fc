"""A backbone that takes images as they are stored: uint8 in, logits in float32 out."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from kdlib.models import Backbone, Output

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Network(nn.Module):
    """Normalises uint8 RGB images with its own mean and std, then runs the backbone in the given precision.

    Each network normalises its own input, so a teacher trained with other statistics cannot be misused. forward: uint8
    [B, 3, H, W] -> Output, whose logits are float32. Precisions other than float32 run under autocast.
    """

    def __init__(self, backbone: Backbone, mean: tuple, std: tuple, precision: str = "float32"):
        super().__init__()
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.precision = PRECISIONS[precision]
        self.register_buffer("scale", (1 / (255 * torch.tensor(std))).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", (-torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Output:
        x = torch.addcmul(self.shift, images.float(), self.scale).contiguous(memory_format=torch.channels_last)
        mixed = self.precision != torch.float32
        with torch.autocast(images.device.type, self.precision) if mixed else nullcontext():
            output = self.backbone(x)
        return output._replace(logits=output.logits.float())

    @property
    def num_classes(self) -> int:
        return self.backbone.num_classes
