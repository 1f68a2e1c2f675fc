"""What a student is taught: the teacher's last tokens, token by token."""

import torch.nn.functional as F
from torch import Tensor

from kdlib.elsewhere.masked.vit import EPSILON


def targets(tokens: Tensor) -> Tensor:
    """The teacher's tokens [B, n, c], each with mean 0 and variance 1: LayerNorm without scale and shift."""
    return F.layer_norm(tokens, tokens.shape[-1:], eps=EPSILON)


def feature_loss(predicted: Tensor, tokens: Tensor, counted: Tensor) -> Tensor:
    """Smooth L1 between predictions and targets, a mean over channels and over the tokens that count.

    predicted, tokens: float [B, n, c]; counted: bool [B, n], True somewhere.
    """
    errors = F.smooth_l1_loss(predicted, targets(tokens), reduction="none").mean(2)
    return errors[counted].mean()
