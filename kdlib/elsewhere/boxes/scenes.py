"""Scenes that are composed of what the project has: tinted clothes on photographs, with boxes that are exact.

A scene is a function of (seed, split, index, side) alone. Clothes are the bundled Fashion-MNIST images of the same
split; backgrounds are crops of the two photographs that scikit-learn brings, of their left part for training and of
their right part for tests, so that no test scene stands on pixels that were trained on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.data.cache import cached_tensors
from kdlib.data.images import BUNDLED, BUNDLED_MARKS, FASHION_CLASSES, ImageSet, load_data
from kdlib.elsewhere.boxes.pictures import FRAME, SIDE, BoxData, Fixed, fingerprint, parts_of
from kdlib.elsewhere.boxes.tensors import Boxes, paired_iou
from kdlib.lab.machine import threads
from kdlib.randomness import generator

Split = Literal["train", "test"]

NAME = "scenes"
MAKING = 1  # raised when a change alters the scenes
TRAIN, TEST = 2000, 500  # scenes of each split
SEED = 0  # of the data set: its scenes are the same for all runs
MOST = 6  # objects of a scene
SIZES = (20, 48)  # of the long side of an object, in pixels
INK = 32  # grey levels from here on are the object
SOLID = 64  # and from here on nothing shines through
OVERLAP = 0.1  # of a new box and an earlier one, as intersection over union, at most
TRIES = 20  # for a place; then the object is left out
LEFT = 0.6  # of a photograph's columns, for training
PHOTOGRAPHS = ("china.jpg", "flower.jpg")


@dataclass(frozen=True, eq=False)
class Pasted:
    """An object of a scene."""

    #: float32 [h, w] in [0, 255], its grey levels; each side touches INK
    grey: Tensor
    #: float32 [3] in [0.4, 1], by which they are multiplied
    tint: Tensor
    #: of its top-left corner in the scene
    row: int
    #: of its top-left corner in the scene
    column: int
    #: its class
    label: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 of its box."""
        height, width = self.grey.shape
        return self.column, self.row, self.column + width, self.row + height


def scene(seed: int, split: Split, index: int, side: int = SIDE) -> tuple[Tensor, Tensor, Tensor]:
    """(uint8 [3, side, side], corners float32 [n, 4], labels int64 [n]) of one scene, n from 1 to 6.

    Raises ValueError for an unknown split, a negative index, or a side that no object or no photograph fits.
    """
    check_scene(split, index, side)
    draws = generator(seed, f"scene of {split}", index)
    image = background(split, side, draws)
    objects = layout(split, side, draws)
    for one in objects:
        paste(image, one)
    return image.round().to(torch.uint8), corners_of(objects), torch.tensor([one.label for one in objects])


def check_scene(split: Split, index: int, side: int) -> None:
    """Raises ValueError for an unknown split, a negative index, or a side that no object or no photograph fits."""
    if split not in ("train", "test"):
        raise ValueError(f"split = {split!r} is unknown; allowed are train and test")
    if index < 0:
        raise ValueError(f"index = {index} is not a scene; allowed are whole numbers from 0 up")
    if not SIZES[1] <= side <= 256:
        raise ValueError(f"side = {side} is not possible; allowed are {SIZES[1]} to 256 pixels")


def background(split: Split, side: int, draws: torch.Generator) -> Tensor:
    """float32 [3, side, side] in [0, 255]: a crop of the split's part of a photograph, times U(0.5, 1)."""
    photographs = _photographs()
    photograph = photographs[below(len(photographs), draws)]
    cut = int(LEFT * photograph.shape[2])
    part = photograph[..., :cut] if split == "train" else photograph[..., cut:]
    row, column = (below(length - side + 1, draws) for length in part.shape[1:])
    return part[:, row : row + side, column : column + side].float() * between(0.5, 1, draws)


def layout(split: Split, side: int, draws: torch.Generator) -> list[Pasted]:
    """The objects of a scene, from back to front. The first one always has a place."""
    clothes = clothes_of(split)
    objects: list[Pasted] = []
    for _ in range(1 + below(MOST, draws)):
        chosen = below(len(clothes), draws)
        grey = scaled(tight(clothes.images[chosen, 0].float()), SIZES[0] + below(SIZES[1] - SIZES[0] + 1, draws))
        tint = 0.4 + 0.6 * torch.rand(3, generator=draws)
        for _ in range(TRIES):
            row, column = (below(side - length + 1, draws) for length in grey.shape)
            one = Pasted(grey, tint, row, column, int(clothes.labels[chosen]))
            if not objects or (paired_iou(corners_of([one]), corners_of(objects)) <= OVERLAP).all():
                objects.append(one)
                break
    return objects


def corners_of(objects: Sequence[Pasted]) -> Tensor:
    """float32 [n, 4]: their boxes; there must be one at least."""
    return torch.tensor([one.corners for one in objects], dtype=torch.float32)


def tight(grey: Tensor) -> Tensor:
    """The part of grey levels [h, w] that holds all that are above INK."""
    rows, columns = ((grey > INK).any(axis).nonzero().squeeze(1) for axis in (1, 0))
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def scaled(grey: Tensor, long: int) -> Tensor:
    """Grey levels whose long side has `long` pixels at most: what interpolation blurs at the rim is cut off again."""
    factor = long / max(grey.shape)
    size = [max(2, round(factor * length)) for length in grey.shape]
    return tight(F.interpolate(grey[None, None], size, mode="bilinear", antialias=True)[0, 0])


def paste(image: Tensor, one: Pasted) -> None:
    """Puts an object into float32 [3, S, S]; levels below SOLID let the background through."""
    height, width = one.grey.shape
    alpha = (one.grey / SOLID).clamp_max(1)
    place = image[:, one.row : one.row + height, one.column : one.column + width]
    place.lerp_(one.tint[:, None, None] * one.grey, alpha.expand_as(place))


@lru_cache(maxsize=2)
def load_scenes(train: int = TRAIN, test: int = TEST) -> BoxData:
    """The data set of so many scenes; smaller ones are parts of larger ones."""
    frames, asked = made("train", train, FRAME), made("test", test, SIDE)
    parts = [part for some in (frames, asked) for part in (some.images, *parts_of(some.boxes))]
    return BoxData(NAME, FASHION_CLASSES, frames, {"test": asked}, fingerprint(parts))


def made(split: Split, count: int, side: int) -> Fixed:
    """The first scenes of a split; made once, and then kept in the cache folder."""
    stand = hashlib.sha256(f"{MAKING} {SEED} {BUNDLED_MARKS} {version('scikit-learn')} {torch.__version__}".encode())
    found = cached_tensors(f"scenes-{split}-{count}-{side}-{stand.hexdigest()[:16]}", lambda: _make(split, count, side))
    return Fixed(found["images"], Boxes(found["corners"], found["labels"], found["shares"]))


def _make(split: Split, count: int, side: int) -> dict[str, Tensor]:
    with threads(1):  # for so little work several would wait for one another
        found = [scene(SEED, split, index, side) for index in range(count)]
    boxes = Boxes.stack([(corners, labels) for _, corners, labels in found])
    return {"images": torch.stack([image for image, _, _ in found]), **vars(boxes)}


def clothes_of(split: Split) -> ImageSet:
    """The images that objects of a split are made of."""
    data = load_data(BUNDLED)
    return data.train if split == "train" else data.test


@lru_cache(maxsize=1)
def _photographs() -> list[Tensor]:
    """uint8 [3, H, W] of each."""
    from sklearn.datasets import load_sample_image  # takes a second to import

    return [torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1) for name in PHOTOGRAPHS]


def below(count: int, draws: torch.Generator) -> int:
    """A whole number from 0 to count - 1."""
    return int(torch.randint(count, (1,), generator=draws))


def between(low: float, high: float, draws: torch.Generator) -> float:
    """A number in [low, high)."""
    return low + (high - low) * float(torch.rand(1, generator=draws))
