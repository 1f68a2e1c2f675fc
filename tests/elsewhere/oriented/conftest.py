"""Invented turned boxes."""

import pytest
import torch
from torch import Tensor

from kdlib.elsewhere.oriented.geometry import usual


def random_turned(count: int, seed: int = 0, side: int = 144) -> Tensor:
    """float32 [count, 5] in their usual form, most of them inside of an image."""
    random = torch.Generator().manual_seed(seed)
    draws = torch.rand(count, 5, generator=random)
    low = torch.tensor([side / 4, side / 4, 10, 10, -90])
    return usual(low + draws * torch.tensor([side / 2, side / 2, 40, 40, 180]))


@pytest.fixture(name="random_turned")
def _random_turned():
    return random_turned
