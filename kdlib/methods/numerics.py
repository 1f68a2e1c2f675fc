"""What losses on features share: numbers wide enough, and norms that cannot overflow."""

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """x in float32 or better: networks under autocast return features of half the width."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def scaled(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x divided by its largest size along dims, so that squares cannot overflow; zeros stay zeros.

    The divisor is a constant to autograd: only for functions that do not depend on the scale. It is at least 1e-30,
    because the inverse of a smaller one, which a gradient is multiplied with, can overflow.
    """
    size = x.detach().abs().amax(dims, keepdim=True)
    return x / size.where(size > 0, 1).clamp_min(1e-30)


def unit_rows(x: Tensor) -> Tensor:
    """The rows of x [M, d] divided by their Euclidean norms; a row of zeros stays zero."""
    x = scaled(x, (1,))
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / norm.where(norm > 0, 1)
