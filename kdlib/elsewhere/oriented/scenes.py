"""Scenes whose clothes are turned: those of `kdlib.elsewhere.boxes.scenes`, with an angle for each object.

How far an object is turned from its upright pose is drawn from a range: what is learnt from has objects that are turned
by 30 degrees at most, and the tests have all turns, those alone, and the others alone.
"""

import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.data.cache import cached_tensors
from kdlib.data.images import BUNDLED_MARKS, FASHION_CLASSES
from kdlib.elsewhere.boxes.pictures import FRAME, SIDE, BoxData, Fixed, fingerprint, parts_of
from kdlib.elsewhere.boxes.scenes import (
    MOST,
    OVERLAP,
    SIZES,
    TEST,
    TRAIN,
    TRIES,
    Pasted,
    Split,
    background,
    below,
    between,
    check_scene,
    clothes_of,
    paste,
    scaled,
    tight,
)
from kdlib.elsewhere.oriented.boxes import TurnedBoxes
from kdlib.elsewhere.oriented.geometry import turned_iou, usual
from kdlib.lab.machine import threads
from kdlib.randomness import generator

NAME = "turned-scenes"
MAKING = 1  # raised when a change alters the scenes
SEED = 0  # of the data set: its scenes are the same for all runs
LIMIT = 30.0  # degrees by which what is learnt from is turned at most
SEEN, ALL, UNSEEN = "turned to 30°", "all angles", "turned further"
#: Test -> least and largest turn in degrees, to either side; the first is the headline.
RANGES: Mapping[str, tuple[float, float]] = {ALL: (0.0, 180.0), SEEN: (0.0, LIMIT), UNSEEN: (LIMIT, 180.0)}


def turned_scene(
    seed: int, split: Split, index: int, side: int = SIDE, turns: tuple[float, float] = RANGES[ALL]
) -> tuple[Tensor, Tensor, Tensor]:
    """(uint8 [3, side, side], boxes float32 [n, 5] in their usual form, labels int64 [n]) of one scene, n from 1 to 6.

    turns: least and largest turn of an object from its upright pose, in degrees to either side. Raises ValueError as
    `kdlib.elsewhere.boxes.scenes.scene` does, and for a range that is none of [0, 180].
    """
    check_scene(split, index, side)
    if not 0 <= turns[0] < turns[1] <= 180:
        raise ValueError(f"turns = {turns} is no range; allowed are two rising numbers from 0 to 180")
    draws = generator(seed, f"turned scene of {split}", index)
    image, clothes = background(split, side, draws), clothes_of(split)
    boxes: list[Tensor] = []
    labels: list[int] = []
    for _ in range(1 + below(MOST, draws)):
        chosen = below(len(clothes), draws)
        grey = scaled(tight(clothes.images[chosen, 0].float()), SIZES[0] + below(SIZES[1] - SIZES[0] + 1, draws))
        tint = 0.4 + 0.6 * torch.rand(3, generator=draws)
        degrees = between(*turns, draws) * (1 if below(2, draws) else -1)
        patch = turned_grey(grey, degrees)
        for _ in range(TRIES):
            row, column = (below(side - length + 1, draws) for length in patch.shape)
            box = box_of(grey, patch, row, column, degrees)
            if not boxes or (turned_iou(box, torch.stack(boxes)) <= OVERLAP).all():
                paste(image, Pasted(patch, tint, row, column, int(clothes.labels[chosen])))
                boxes.append(box)
                labels.append(int(clothes.labels[chosen]))
                break
    return image.round().to(torch.uint8), torch.stack(boxes), torch.tensor(labels)


def turned_grey(grey: Tensor, degrees: float) -> Tensor:
    """Grey levels [h, w] turned anticlockwise about their middle, bilinearly, in a patch that holds all of them.

    Outside of them it is black, and what is pasted there is the background.
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    height, width = grey.shape
    size = [math.ceil(n - 1e-6) for n in (width * abs(sin) + height * abs(cos), width * abs(cos) + height * abs(sin))]
    along = [torch.arange(n) + 0.5 - n / 2 for n in size]
    down, right = torch.meshgrid(*along, indexing="ij")
    x, y = cos * right - sin * down, sin * right + cos * down  # of the source, from its middle
    places = torch.stack([2 * x / width, 2 * y / height], -1)
    return F.grid_sample(grey[None, None], places[None], mode="bilinear", align_corners=False)[0, 0]


def box_of(grey: Tensor, patch: Tensor, row: int, column: int, degrees: float) -> Tensor:
    """float32 [5]: the box of grey levels that lie turned in the middle of a patch, in its usual form."""
    (height, width), (rows, columns) = grey.shape, patch.shape
    return usual(torch.tensor([column + columns / 2, row + rows / 2, width, height, degrees]))


@lru_cache(maxsize=2)
def load_turned_scenes(train: int = TRAIN, test: int = TEST) -> BoxData:
    """The data set of so many scenes, each test having as many; smaller ones are parts of larger ones."""
    frames = made("train", train, FRAME, SEEN)
    tests = {name: made("test", test, SIDE, name) for name in RANGES}
    parts = [part for some in (frames, *tests.values()) for part in (some.images, *parts_of(some.boxes))]
    return BoxData(NAME, FASHION_CLASSES, frames, tests, fingerprint(parts))


def made(split: Split, count: int, side: int, turns: str) -> Fixed:
    """The first scenes of a split, turned within a range of RANGES; made once, and then kept in the cache folder."""
    asked = RANGES[turns]
    stand = f"{MAKING} {SEED} {asked} {BUNDLED_MARKS} {version('scikit-learn')} {torch.__version__}"
    mark = hashlib.sha256(stand.encode()).hexdigest()[:16]

    def make() -> dict[str, Tensor]:
        with threads(1):  # for so little work several would wait for one another
            found = [turned_scene(SEED, split, index, side, asked) for index in range(count)]
        boxes = TurnedBoxes.stack([(own, labels) for _, own, labels in found])
        return {"images": torch.stack([image for image, _, _ in found]), **vars(boxes)}

    found = cached_tensors(f"turned-scenes-{split}-{count}-{side}-{mark}", make)
    return Fixed(found["images"], TurnedBoxes(*(found[name] for name in ("corners", "labels", "shares", "angles"))))
