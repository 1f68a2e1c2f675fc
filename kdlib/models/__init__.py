"""The networks by name: `create_model("resnet20", 100)`."""

import re
from collections.abc import Callable

from kdlib.models import mobilenet, resnet, resnet_four, shufflenetv1, shufflenetv2, vgg, wrn
from kdlib.models.base import Backbone, Output

__all__ = ["MODELS", "Backbone", "Output", "create_model", "model_names"]

#: Model name -> the function that builds it from a number of classes. One of your own: `MODELS["mine"] = build`.
MODELS: dict[str, Callable[..., Backbone]] = {
    name: build
    for family in (resnet, wrn, vgg, mobilenet, shufflenetv1, shufflenetv2, resnet_four)
    for name, build in family.MODELS.items()
}

_WRN = re.compile(r"wrn_([1-9][0-9]{0,3})_([1-9][0-9]{0,2})")


def model_names() -> tuple[str, ...]:
    """The listed names, in order; `create_model` also takes any other wrn_D_k with D = 6n+4."""
    return tuple(MODELS)


def create_model(name: str, num_classes: int) -> Backbone:
    """A new network with freshly drawn weights (from PyTorch's global generator), in training mode, float32.

    Args:
        name: one of `model_names()`, or wrn_D_k with D = 6n+4 layers, k times as wide.
        num_classes: N, at least 1.

    Raises:
        ValueError: the name is unknown, or num_classes is below 1.
        TypeError: num_classes is not an integer.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int):
        raise TypeError(f"num_classes is {num_classes!r}, but it must be an integer of at least 1.")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}, but it must be at least 1.")
    if name in MODELS:
        return MODELS[name](num_classes=num_classes)
    if match := _WRN.fullmatch(name):
        return wrn.WideResNet(int(match[1]), int(match[2]), num_classes)
    raise ValueError(
        f"model name {name!r} is unknown: allowed are {', '.join(model_names())}, and wrn_D_k with D = 6n+4 layers."
    )
