"""Data sets for detection by name: `scenes`, `trees`, `voc:FOLDER` or `coco:FILE`."""

from functools import lru_cache
from pathlib import Path

from kdlib.data import paths
from kdlib.elsewhere.boxes import scenes, trees
from kdlib.elsewhere.boxes.annotations import Named, classes_of, read_coco, read_pictures, read_voc
from kdlib.elsewhere.boxes.pictures import BoxData, fingerprint
from kdlib.elsewhere.boxes.windows import Windows, tiles

WHOLE = (scenes.TRAIN, scenes.TEST)


def check_boxes_name(name: str) -> None:
    """Raises ValueError for a name that no such data set can have."""
    kind, colon, _ = name.partition(":")
    own = bool(colon) and kind in ("voc", "coco")
    if not own and name not in (scenes.NAME, trees.NAME):
        raise ValueError(f"boxes = {name!r} is unknown; allowed are scenes, trees, voc:FOLDER and coco:FILE")
    if own:
        paths.check_from_root("boxes", name, "place")


def check_boxes_there(name: str) -> None:
    """Raises ValueError or FileNotFoundError if a data set is not on this machine, or its boxes cannot be read."""
    check_boxes_name(name)
    if name == trees.NAME:
        trees.check_there()
    elif name != scenes.NAME:
        _own_splits(name)


@lru_cache(maxsize=2)
def load_boxes(name: str, window: int = trees.WINDOW, counts: tuple[int, int] = WHOLE) -> BoxData:
    """The data set of a name. Raises ValueError or FileNotFoundError.

    window: pixels of a picture of your own that a view shows; counts: scenes for training and for the test.
    """
    check_boxes_name(name)
    if name == scenes.NAME:
        return scenes.load_scenes(*counts)
    if name == trees.NAME:
        return trees.load_trees()
    splits, where = _own_splits(name)
    classes = classes_of(splits, where)
    read = {split: read_pictures(some, classes) for split, some in splits.items()}
    parts = [part for some in read.values() for one in some for part in (one.pixels, one.corners, one.labels)]
    tests = {"test": tiles(read["test"], window)}
    return BoxData(name, classes, Windows(read["train"], window), tests, fingerprint(parts))


def count_classes(name: str) -> int:
    """How many classes a data set has; of your own the annotations are read for this, and no picture."""
    known = {scenes.NAME: len(scenes.FASHION_CLASSES), trees.NAME: len(trees.CLASSES)}
    return known[name] if name in known else len(classes_of(*_own_splits(name)))


@lru_cache(maxsize=2)  # of what was read and is sound; an error is looked for anew
def _own_splits(name: str) -> tuple[dict[str, list[tuple[Path, list[Named]]]], Path]:
    kind, _, path = name.partition(":")
    where = paths.expanded(path, kind)
    splits = read_voc(where) if kind == "voc" else read_coco(where)
    classes_of(splits, where)
    return splits, where
