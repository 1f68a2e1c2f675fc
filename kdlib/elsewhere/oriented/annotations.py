"""Turned boxes of your own: a folder of DOTA's text files. Errors are one sentence each.

labelTxt/NAME.txt has a line for each object of images/NAME.png: the x and y of its four corners, one after the other,
its class, and 1 if it is difficult, else 0. Lines of the form `imagesource:...` and `gsd:...` are left out.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from kdlib.data.pictures import read_rgb
from kdlib.elsewhere.boxes.annotations import Named, held_out
from kdlib.elsewhere.oriented.boxes import TurnedPicture
from kdlib.elsewhere.oriented.geometry import around, upright

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".bmp")
ABOUT = ("imagesource:", "gsd:")  # what lines about the picture begin with


class Corners(NamedTuple):
    """An object of a file."""

    #: of its class
    name: str
    #: x and y of four corners, one after the other
    points: tuple[float, ...]
    #: whether it is difficult
    hard: bool


Splits = dict[str, list[tuple[Path, list[Corners]]]]


def read_dota(folder: Path) -> Splits:
    """Split -> (picture, objects) of a folder with labelTxt and images; without them both lie in the folder itself.

    Which pictures are tested on is said by `kdlib.elsewhere.boxes.annotations.held_out`. Raises FileNotFoundError or
    ValueError.
    """
    notes, pictures = (folder / name if (folder / name).is_dir() else folder for name in ("labelTxt", "images"))
    found = sorted(notes.glob("*.txt"))
    if not found:
        raise FileNotFoundError(f"{notes} holds no text files; allowed is a folder of DOTA: labelTxt and images")
    tested = held_out([path.stem for path in found])
    splits: Splits = {"train": [], "test": []}
    for path in found:
        places = [pictures / (path.stem + ending) for ending in ENDINGS]
        picture = next((place for place in places if place.is_file()), None)
        if picture is None:
            looked = " and ".join(place.name for place in places)
            raise FileNotFoundError(f"the picture of {path} is missing: looked for {looked}")
        splits["test" if path.stem in tested else "train"].append((picture, read_lines(path)))
    return splits


def read_lines(path: Path) -> list[Corners]:
    """The objects of one text file. Raises ValueError that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable as text ({error})") from error
    kept = [(k, line.split()) for k, line in enumerate(lines, 1) if line.strip() and not line.startswith(ABOUT)]
    return [_object(path, number, words) for number, words in kept]


def _object(path: Path, number: int, words: Sequence[str]) -> Corners:
    where = f"line {number} of {path}"
    if len(words) not in (9, 10):
        raise ValueError(f"{where} has {len(words)} words; allowed are 8 numbers, a class, and 0 or 1 for difficult")
    try:
        points = tuple(float(word) for word in words[:8])
    except ValueError:
        points = (math.nan,)
    if not all(map(math.isfinite, points)):
        raise ValueError(f"{where} begins with {' '.join(words[:8])}; allowed are 8 numbers, x and y of four corners")
    if (hard := words[9] if len(words) == 10 else "0") not in ("0", "1"):
        raise ValueError(f"{where} has the difficulty {hard!r}; allowed are 0 and 1")
    return Corners(words[8], points, hard == "1")


def named(splits: Splits) -> dict[str, list[tuple[Path, list[Named]]]]:
    """The same as `kdlib.elsewhere.boxes.annotations` has it: upright boxes around what is not difficult."""
    return {
        split: [(path, [(one.name, _extent(one)) for one in some if not one.hard]) for path, some in pictures]
        for split, pictures in splits.items()
    }


def _extent(one: Corners) -> tuple[float, float, float, float]:
    x, y = one.points[::2], one.points[1::2]
    return min(x), min(y), max(x), max(y)


def read_turned(some: Sequence[tuple[Path, list[Corners]]], classes: Sequence[str]) -> list[TurnedPicture]:
    """The pictures themselves, with checked boxes: the smallest ones along the first sides of the four corners.

    Raises ValueError for a picture that cannot be read, a class that no training box has, a box without area, or one
    whose centre lies outside of its picture. Difficult objects of other classes are left out.
    """
    return [_picture(path, objects, classes) for path, objects in some]


def _picture(path: Path, objects: Sequence[Corners], classes: Sequence[str]) -> TurnedPicture:
    pixels = torch.from_numpy(np.array(read_rgb(str(path)))).permute(2, 0, 1).contiguous()
    height, width = pixels.shape[1:]
    known = [one for one in objects if one.name in classes or not one.hard]
    boxes = around(torch.tensor([one.points for one in known]).reshape(-1, 4, 2))
    for one, (x, y, _, short, _) in zip(known, boxes.tolist(), strict=True):
        box = f"box ({', '.join(f'{number:g}' for number in one.points)}) of {path}"
        if one.name not in classes:
            raise ValueError(f"{box} has the unknown class {one.name!r}; training boxes have {', '.join(classes)}")
        if short <= 0:
            raise ValueError(f"{box} has no area; allowed are four corners of a rectangle")
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(f"{box} has its centre outside of its picture of {width} x {height} pixels")
    labels = torch.tensor([classes.index(one.name) for one in known], dtype=torch.int64)
    hard = torch.tensor([one.hard for one in known], dtype=torch.bool)
    return TurnedPicture(path.name, pixels, upright(boxes), labels, boxes[:, 4], hard)
