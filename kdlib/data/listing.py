"""The image files of a set in folders of classes: listed and checked before one of them is opened."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdlib.data.classes import check_classes

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # those of torchvision


@dataclass(frozen=True)
class Listing:
    """One split: its classes in the order of their names, and its files, class by class, in the order of theirs."""

    #: the folder that holds a folder for each class
    folder: Path
    #: names of those folders
    classes: tuple[str, ...]
    #: path and label of each file
    samples: tuple[tuple[str, int], ...]
    #: the same files with all links resolved, in the same order
    real: tuple[str, ...]


def list_splits(name: str, root: Path) -> tuple[Listing, Listing]:
    """The training and the test images of the set `name`, in folders below `root`.

    Raises FileNotFoundError if a split is missing. Raises ValueError if a split is no such folder (see `list_images`),
    if the two hold other classes or one file, or if a set that is known by its name has other classes than that one.
    """
    held_out = locate_splits(name, root)
    train, test = (list_images(root / split) for split in ("train", held_out))
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))[0]
        raise ValueError(
            f"folders train and {held_out} in {shown(root)} hold different classes, such as {odd!r}; they must hold "
            "the same"
        )
    if both := set(train.real) & set(test.real):
        raise ValueError(f"data file {shown(min(both))} is a training and a test image: one of the two is a link to it")
    check_classes(name, train.classes, shown(root))
    return train, test


def locate_splits(name: str, root: Path) -> str:
    """The name of the folder with test images ("test" or "val"); FileNotFoundError if a split is missing."""
    held_out = next((s for s in ("test", "val") if (root / s).is_dir()), None)
    if not (root / "train").is_dir() or held_out is None:
        hint = "give another path" if ":" in name else "point KDLIB_DATA at the folder that holds it"
        raise FileNotFoundError(f"data = {name!r} is missing: looked for train and test (or val) in {root}; {hint}")
    return held_out


def list_images(folder: Path) -> Listing:
    """The image files in and below the folders of classes in `folder`, in torchvision's order.

    Names that begin with a dot are left out: editors and file managers make them. Links are followed; a file that is
    reached twice counts once. Raises ValueError if there are fewer than two classes, a class has no image or a name
    that cannot be printed, a file belongs to two classes, or something cannot be read.
    """
    classes = tuple(sorted(entry.name for entry in _entries(folder) if entry.is_dir()))
    if odd := [name for name in classes if not name.isprintable()]:
        raise ValueError(f"class folder {odd[0]!a} in {shown(folder)} must have a name that can be printed")
    if len(classes) < 2:
        instead = _instead(folder)
        raise ValueError(f"folder {shown(folder)} must hold a folder for each of two or more classes, {instead}")
    found = [sorted(_images_below(folder / name), key=lambda pair: os.path.split(pair[0])) for name in classes]
    owner: dict[str, int] = {}
    for label, files in enumerate(found):
        if not files:
            raise ValueError(f"class folder {shown(folder / classes[label])} holds no image ({', '.join(SUFFIXES)})")
        for path, file in files:
            if owner.setdefault(file, label) != label:
                raise ValueError(f"data file {shown(path)} is also in class {classes[owner[file]]!r}: it must have one")
    samples = tuple((path, label) for label, files in enumerate(found) for path, _ in files)
    return Listing(folder, classes, samples, tuple(real for files in found for _, real in files))


def _instead(folder: Path) -> str:
    """What there is where two classes should be."""
    inner = [entry for entry in _entries(folder) if entry.is_dir()]
    if not inner:
        return "and holds none"
    below = sum(entry.is_dir() for entry in _entries(Path(inner[0].path)))
    hint = f": it has {below} folders, move them up if they are the classes" if below > 1 else ""
    return f"and holds {inner[0].name!r} alone{hint}"


def _images_below(folder: Path) -> list[tuple[str, str]]:
    """(path, real path) of each image file below a folder, each real path once; a link only where nothing else is."""
    found: dict[str, str] = {}
    plain, visited = [str(folder)], set()
    links: list[str] = []
    while plain or links:
        path = plain.pop() if plain else links.pop(0)
        real = os.path.realpath(path)
        if real in visited:
            continue
        visited.add(real)
        for entry in _entries(Path(path)):
            if entry.is_dir():
                (links if entry.is_symlink() else plain).append(entry.path)
            elif entry.name.lower().endswith(SUFFIXES):
                if not entry.is_file():
                    kind = "a link to nothing" if entry.is_symlink() else "no file that can be read"
                    raise ValueError(f"data file {shown(entry.path)} is {kind}: remove it")
                target = os.path.realpath(entry.path) if entry.is_symlink() else str(Path(real, entry.name))
                found.setdefault(target, entry.path)
    return [(path, real) for real, path in found.items()]


def _entries(folder: Path) -> Iterator[os.DirEntry]:
    """What a folder holds, without names that begin with a dot; links last, so that what they lead to comes first."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
            return iter(sorted(visible, key=lambda entry: (entry.is_symlink(), entry.name)))
    except OSError as error:
        raise ValueError(f"folder {shown(folder)} cannot be read ({error.strerror})") from error


def shown(path: Path | str) -> str:
    """A path in a sentence: as it is, or escaped where it holds what cannot be printed."""
    return text if (text := str(path)).isprintable() else ascii(text)
