"""Folders as people have them: whatever lies in one, it is loaded rightly or refused in one sentence."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdlib.data.images import available, facts, load_data
from kdlib.data.listing import SUFFIXES

MODES = ("RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "I;16", "F", "I")
NAMES = st.sampled_from(["a", "b", "c", " ", "ü", "a\nb", ".hidden", "._a", "x.png", "\udcff", "a" * 120, "%s{}", "-"])
KINDS = st.sampled_from(
    ["RGB"] * 12 + [*MODES, "text", "nothing", "cut", "gif", "link", "loop", "gone", "pipe", "locked"]
)


@st.composite
def trees(draw) -> list[tuple[str, str, int, tuple[int, int], int]]:
    """Files as (folder, kind, number, size, EXIF orientation), in two splits of classes that are mostly the same."""
    size, files = draw(st.sampled_from([(8, 8), (5, 9), (1, 1)])), []
    classes = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)) if draw(st.booleans()) else ["a", "b"]
    for split in draw(st.sampled_from([("train", "test")] * 6 + [("train", "val"), ("train",), ("test",)])):
        files += [(f"{split}/{name}", "RGB", number, size, 1) for name in classes for number in range(2)]
    for number in range(2, 2 + draw(st.integers(0, 3))):
        folder = draw(st.sampled_from(["train/a", "train/b/below", "train", "test/a", "test/d", "train/.c", "train/b"]))
        other = draw(st.sampled_from([size] * 8 + [(3, 4), (0, 0)]))
        files.append((folder, draw(KINDS), number, other, draw(st.sampled_from([1] * 8 + [3, 6, 9]))))
    return files


def write(root: Path, tree: list) -> None:
    """Writes what can be written: no file system takes every name."""
    for folder, kind, number, size, orientation in tree:
        place, rng = root / folder, np.random.default_rng(number + 100 * len(folder))
        place.mkdir(parents=True, exist_ok=True)
        suffix = {"F": "tif", "I": "tif", "CMYK": "tif", "gif": "gif"}.get(kind, "png")
        file = place / f"{number}.{suffix}"
        if file.exists():
            continue
        match kind:
            case "text":
                file.write_text("version https://git-lfs.github.com/spec/v1\n")
            case "nothing":
                file.touch()
            case "link":
                file.symlink_to(root / "train" / "a" / "0.png")
            case "loop":
                (place / f"loop{number}").symlink_to(place, target_is_directory=True)
            case "gone":
                file.symlink_to(place / "gone.png")
            case "pipe":
                os.mkfifo(file)
            case _ if 0 not in size:
                exif = Image.Exif()
                exif[0x0112] = orientation
                picture(kind, size, rng).save(file, exif=exif)
                if kind == "cut":
                    file.write_bytes(file.read_bytes()[:-30])
                if kind == "locked":
                    file.chmod(0)


def picture(kind: str, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    width, height = size
    if kind in ("I;16", "F", "I"):
        number = {"I;16": np.uint16, "F": np.float32, "I": np.int32}[kind]
        return Image.fromarray(rng.integers(0, 65_536, (height, width)).astype(number))
    plain = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return plain.convert(kind) if kind in MODES else plain


def reachable(folder: Path, seen: set[str]) -> set[str]:
    """The real paths of the image files below a folder."""
    if (real := os.path.realpath(folder)) in seen:
        return set()
    seen.add(real)
    found = set()
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found |= reachable(path, seen)
        elif path.name.lower().endswith(SUFFIXES):
            found.add(os.path.realpath(path))
    return found


@pytest.mark.parametrize("kind", ["folder", "photos"])
@settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(tree=trees())
def test_a_folder_is_loaded_rightly_or_refused_in_one_sentence(monkeypatch, tried, kind: str, tree: list):
    with tempfile.TemporaryDirectory() as place, monkeypatch.context() as patch:
        root = Path(place, "set")
        root.mkdir()
        patch.setenv("KDLIB_CACHE", str(Path(place, "cache")))
        write(root, tree)
        name = f"{kind}:{root}"
        load_data.cache_clear()
        try:
            data = load_data(name)
        except (ValueError, FileNotFoundError) as error:
            assert str(error).isprintable() and str(root) in str(error)
            assert not list(Path(place).glob("cache/*.part*"))
            tried("inputs", "folders of images", refused=1)
            return
        finally:
            load_data.cache_clear()
        assert available(name) and facts(name).classes == data.train.classes == data.test.classes
        held_out = "test" if (root / "test").is_dir() else "val"
        for split, images in (("train", data.train), (held_out, data.test)):
            check(root / split, images, exact=kind == "folder")
        tried("inputs", "folders of images", accepted_and_right=1)


def check(folder: Path, images, exact: bool) -> None:
    """Every class has its files, as many as there are, and each plain picture is there as it was written."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    assert images.classes == tuple(names) and len(names) > 1
    for label, name in enumerate(names):
        files, mine = reachable(folder / name, set()), images.images[images.labels == label]
        assert len(mine) == len(files) > 0
        if not exact:
            continue
        for file in files:
            with Image.open(file) as plain:
                if plain.mode == "RGB" and plain.getexif().get(0x0112, 1) == 1:
                    pixels = np.asarray(plain).transpose(2, 0, 1)
                    assert any(np.array_equal(pixels, one) for one in mine.numpy())
