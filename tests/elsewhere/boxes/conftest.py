"""Invented pictures with boxes in files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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
