"""torchvision's functions of images, by their names there.

torchvision is imported with the first call: it takes as long as torch itself, and a plan of runs makes no view.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    from torchvision.transforms.v2 import functional

    return getattr(functional, name)
