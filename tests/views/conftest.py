"""Images that the tests of views share."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor


@pytest.fixture(scope="session")
def tiles() -> Tensor:
    """uint8 [40, 3, 32, 32], cut from two photographs."""
    rng, cut = np.random.default_rng(0), []
    for photo in load_sample_images().images:
        for y, x in zip(
            *(rng.integers(0, room, 20) for room in (photo.shape[0] - 32, photo.shape[1] - 32)), strict=True
        ):
            cut.append(photo[y : y + 32, x : x + 32])
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="session")
def ramps() -> Tensor:
    """uint8 [12000, 3, 32, 32] that carry their coordinates: red = row + 1, green = column + 1; black is outside."""
    grid = torch.arange(1, 33, dtype=torch.uint8)
    image = torch.stack([grid[:, None].expand(32, 32), grid[None].expand(32, 32), torch.full((32, 32), 255)])
    return image.to(torch.uint8).expand(12_000, -1, -1, -1)
