"""Invented pictures with boxes in files, boxes, and what a poor detector finds of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.elsewhere.boxes.detector import Found


def voc_xml(name: str, boxes: list[tuple[str, tuple]]) -> str:
    objects = "".join(
        f"<object><name>{kind}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax>"
        f"<ymax>{b[3]}</ymax></bndbox></object>"
        for kind, b in boxes
    )
    return f"<annotation><filename>{name}</filename>{objects}</annotation>"


@pytest.fixture
def draw_picture():
    """draw_picture(path, width, height): a picture of noise, by its name."""

    def make(path: Path, width: int, height: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(list(path.stem.encode()))
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)

    return make


def random_boxes(images: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    random = torch.Generator().manual_seed(seed)
    parts = []
    for _ in range(images):
        count = int(torch.randint(1, 5, (1,), generator=random))
        places = 70 * torch.rand(count, 2, generator=random)
        sizes = 12 + 40 * torch.rand(count, 2, generator=random)
        parts.append((torch.cat([places, places + sizes], 1), torch.randint(0, 2, (count,), generator=random)))
    return parts


def guesses(parts: list[tuple[torch.Tensor, torch.Tensor]], noise: float) -> list[Found]:
    random = torch.Generator().manual_seed(7)
    found = []
    for corners, labels in parts:
        moved = corners + noise * torch.randn(corners.shape, generator=random)
        moved = torch.cat([moved[:, :2], torch.maximum(moved[:, 2:], moved[:, :2] + 1)], 1)  # never inside out
        found.append(Found(moved, torch.rand(len(labels), generator=random), labels))
    return found


@pytest.fixture(name="random_boxes")
def _random_boxes():
    return random_boxes


@pytest.fixture(name="guesses")
def _guesses():
    return guesses
