"""Networks without weights, for what shapes alone tell: how many stages and parameters they have."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _Unfilled(TorchFunctionMode):
    """Leaves out what would fill a tensor with random numbers: without memory there is nothing to fill, and torch
    imports its compiler to find that out, which takes seconds."""

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        return args[0] if function is torch.Tensor.normal_ else function(*args, **kwargs or {})


@contextmanager
def hollow() -> Iterator[None]:
    """Modules that are made within are on PyTorch's `meta` device: their tensors have shapes and no memory."""
    with torch.device("meta"), _Unfilled():
        yield
