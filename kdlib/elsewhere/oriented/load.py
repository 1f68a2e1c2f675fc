"""Data sets of turned boxes by name: `turned-scenes`, or `dota:FOLDER`."""

from functools import lru_cache
from pathlib import Path

from kdlib.data import paths
from kdlib.elsewhere.boxes.annotations import classes_of
from kdlib.elsewhere.boxes.pictures import BoxData, fingerprint
from kdlib.elsewhere.boxes.trees import WINDOW
from kdlib.elsewhere.boxes.windows import Windows, tiles
from kdlib.elsewhere.oriented import scenes
from kdlib.elsewhere.oriented.annotations import Splits, named, read_dota, read_turned

WHOLE = (scenes.TRAIN, scenes.TEST)
OWN = "dota"


def check_turned_name(name: str) -> None:
    """Raises ValueError for a name that no such data set can have."""
    kind, colon, _ = name.partition(":")
    if name != scenes.NAME and not (colon and kind == OWN):
        raise ValueError(f"turned = {name!r} is unknown; allowed are {scenes.NAME} and {OWN}:FOLDER")
    if name != scenes.NAME:
        paths.check_from_root("turned", name, "place")


def check_turned_there(name: str) -> None:
    """Raises ValueError or FileNotFoundError if a data set is not on this machine, or its boxes cannot be read."""
    check_turned_name(name)
    if name != scenes.NAME:
        _own_splits(name)


@lru_cache(maxsize=2)
def load_turned(name: str, window: int = WINDOW, counts: tuple[int, int] = WHOLE) -> BoxData:
    """The data set of a name. Raises ValueError or FileNotFoundError.

    window: pixels of a picture of your own that a view shows; counts: scenes for training and for each test.
    """
    check_turned_name(name)
    if name == scenes.NAME:
        return scenes.load_turned_scenes(*counts)
    splits, where = _own_splits(name)
    classes = classes_of(named(splits), where)
    read = {split: read_turned(some, classes) for split, some in splits.items()}
    pictures = [one for some in read.values() for one in some]
    parts = [part for one in pictures for part in (one.pixels, one.corners, one.labels, one.angles, one.hard)]
    tests = {"test": tiles(read["test"], window)}
    return BoxData(name, classes, Windows(read["train"], window), tests, fingerprint(parts))


def count_classes(name: str) -> int:
    """How many classes a data set has; of your own the annotations are read for this, and no picture."""
    if name == scenes.NAME:
        return len(scenes.FASHION_CLASSES)
    splits, where = _own_splits(name)
    return len(classes_of(named(splits), where))


@lru_cache(maxsize=2)  # of what was read and is sound; an error is looked for anew
def _own_splits(name: str) -> tuple[Splits, Path]:
    where = paths.expanded(name.partition(":")[2], OWN)
    splits = read_dota(where)
    classes_of(named(splits), where)
    return splits, where
