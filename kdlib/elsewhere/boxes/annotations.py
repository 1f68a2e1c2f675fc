"""Boxes of your own: a folder of Pascal VOC's XML files, or one file of COCO's JSON. Errors are one sentence each."""

import hashlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlib.data.pictures import read_rgb
from kdlib.elsewhere.boxes.pictures import Picture, no_boxes

TESTED = 5  # one picture of so many is tested on

Named = tuple[str, tuple[float, float, float, float]]  # class and corners of a box


def read_voc(folder: Path) -> dict[str, list[tuple[Path, list[Named]]]]:
    """Split -> (picture, boxes) of a folder in the layout of Pascal VOC: Annotations/NAME.xml and JPEGImages.

    Without these two folders the XML files and the pictures lie in the folder itself. Which are tested on is said by
    ImageSets/Main/test.txt or val.txt, and without one by `held_out`. Raises FileNotFoundError or ValueError.
    """
    notes = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    found = sorted(notes.glob("*.xml"))
    if not found:
        raise FileNotFoundError(f"{notes} holds no XML files; allowed are a folder of them, or of Pascal VOC's layout")
    lists = (folder / "ImageSets" / "Main" / f"{name}.txt" for name in ("test", "val"))
    listed = [set(path.read_text().split()) for path in lists if path.exists()]
    tested = listed[0] if listed else held_out([path.stem for path in found])
    splits: dict[str, list[tuple[Path, list[Named]]]] = {"train": [], "test": []}
    for path in found:
        splits["test" if path.stem in tested else "train"].append(read_xml(path, folder))
    return splits


def read_xml(path: Path, folder: Path) -> tuple[Path, list[Named]]:
    """(picture, boxes) of one XML file; the picture lies beside it, in `folder` or in its JPEGImages.

    It has the file name that the XML gives or, as that is often out of date, its own name with another ending.
    """
    try:
        root = ET.parse(path).getroot()
        objects = [(one.findtext("name"), one.find("bndbox")) for one in root.iter("object")]
        sides = ("xmin", "ymin", "xmax", "ymax")
        boxes = [(str(name), tuple(float(box.findtext(side)) for side in sides)) for name, box in objects]
    except (ET.ParseError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not readable as an annotation of Pascal VOC ({error})") from error
    places = (folder / "JPEGImages", path.parent, folder)
    names = [root.findtext("filename") or "", *(path.stem + ending for ending in (".png", ".jpg", ".jpeg"))]
    for picture in (place / name for place in places for name in names if name):
        if picture.is_file():
            return picture, boxes
    raise FileNotFoundError(f"the picture of {path} is missing: looked for {' and '.join(dict.fromkeys(names))}")


def read_coco(path: Path) -> dict[str, list[tuple[Path, list[Named]]]]:
    """Split -> (picture, boxes) of a JSON file of COCO; pictures are named from its folder on.

    Boxes of crowds are left out. Which pictures are tested on is said by `held_out`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        classes = {one["id"]: str(one["name"]) for one in content["categories"]}
        pictures = {one["id"]: str(one["file_name"]) for one in content["images"]}
        notes = [(one["image_id"], one["category_id"], one["bbox"]) for one in _without_crowds(content)]
        measured = [(image, kind, map(float, box)) for image, kind, box in notes]
        notes = [(image, kind, (x, y, x + w, y + h)) for image, kind, (x, y, w, h) in measured]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; allowed is a JSON file of COCO") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not readable as a file of COCO ({type(error).__name__}: {error})") from error
    boxes: dict[Any, list[Named]] = {image: [] for image in pictures}
    for image, kind, corners in notes:
        for what, value, known in (("image_id", image, pictures), ("category_id", kind, classes)):
            if value not in known:
                raise ValueError(
                    f"{path}: {what} = {value!r} of a box is unknown; allowed are those that the file names"
                )
        boxes[image].append((classes[kind], corners))
    splits: dict[str, list[tuple[Path, list[Named]]]] = {"train": [], "test": []}
    tested = held_out([_called(name) for name in pictures.values()])
    for image, name in sorted(pictures.items(), key=lambda item: item[1]):
        if not (path.parent / name).is_file():
            raise FileNotFoundError(f"the picture {name} of {path} is missing: looked for {path.parent / name}")
        splits["test" if _called(name) in tested else "train"].append((path.parent / name, boxes[image]))
    return splits


def _called(name: str) -> str:
    """A picture's name without its ending, as Pascal VOC has it."""
    return str(Path(name).with_suffix(""))


def _without_crowds(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in content["annotations"] if not one.get("iscrowd")]


def held_out(names: Collection[str]) -> set[str]:
    """The fifth of some pictures that is tested on, at least one: those whose names have the smallest hashes."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(ranked[: max(1, round(len(ranked) / TESTED))])


def classes_of(splits: dict[str, list[tuple[Path, list[Named]]]], where: Path) -> tuple[str, ...]:
    """The classes of the training boxes, in order. Raises ValueError where there is nothing to learn, or to test."""
    for split, some in splits.items():
        if not any(boxes for _, boxes in some):
            raise ValueError(f"the {len(some)} {split} pictures of {where} have no boxes at all; one is needed")
    return tuple(sorted({name for _, boxes in splits["train"] for name, _ in boxes}))


def read_pictures(some: Sequence[tuple[Path, list[Named]]], classes: Sequence[str]) -> list[Picture]:
    """The pictures themselves, with checked boxes.

    Raises ValueError for a picture that cannot be read, a class that no training box has, a box without area, or one
    that is not inside its picture.
    """
    return [_picture(path, boxes, classes) for path, boxes in some]


def _picture(path: Path, boxes: Sequence[Named], classes: Sequence[str]) -> Picture:
    pixels = torch.from_numpy(np.array(read_rgb(str(path)))).permute(2, 0, 1).contiguous()
    height, width = pixels.shape[1:]
    for number, (name, (x1, y1, x2, y2)) in enumerate(boxes, 1):
        box = f"box {number} of {path}, ({x1:g}, {y1:g}, {x2:g}, {y2:g}),"
        if name not in classes:
            raise ValueError(f"{box} has the unknown class {name!r}; training boxes have {', '.join(classes)}")
        if not (x2 > x1 and y2 > y1):
            raise ValueError(f"{box} has no area; allowed are x1 < x2 and y1 < y2")
        if min(x1, y1) < 0 or x2 > width or y2 > height:
            raise ValueError(f"{box} lies outside of its picture of {width} x {height} pixels")
    return Picture(path.name, pixels, *_tensors(boxes, classes))


def _tensors(boxes: Sequence[Named], classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    if not boxes:
        return no_boxes()
    return torch.tensor([corners for _, corners in boxes]), torch.tensor([classes.index(name) for name, _ in boxes])
