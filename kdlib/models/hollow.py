"""Networks without weights, for what shapes alone tell: how many stages and parameters they have."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_FILL = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.fill_, torch.Tensor.zero_, nn.init.kaiming_uniform_}


class _Unfilled(TorchFunctionMode):
    """Leaves out what would fill a tensor: without memory there is nothing to fill, and for some of it torch imports
    its compiler to find that out, which takes seconds."""

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        named = kwargs or {}
        if function in _FILL:
            return args[0] if args else named["tensor"]
        return function(*args, **named)


@contextmanager
def hollow() -> Iterator[None]:
    """Modules that are made within are on PyTorch's `meta` device: their tensors have shapes and no memory."""
    with torch.device("meta"), _Unfilled():
        yield
