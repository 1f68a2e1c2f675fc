"""Folders of classes: what is counted, what is left out, what is refused."""

import os
import shutil
from pathlib import Path

import pytest
from torchvision import datasets

from kdlib.data.listing import list_images, list_splits, shown


def put(*files: Path) -> None:
    """Empty files: nothing is opened by a listing."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of three pictures each, one of them in a folder of its own."""
    for split in ("train", "test"):
        put(*(tmp_path / "set" / split / c / f for c in "ab" for f in ("1.png", "2.JPEG", "below/0.bmp")))
    return tmp_path / "set"


def test_what_torchvision_lists_is_listed_in_its_order(root: Path):
    put(root / "train" / "a" / "10.png", root / "train" / "a" / "notes.txt", root / "train" / "loose.png")
    expected = datasets.ImageFolder(root / "train")
    found = list_images(root / "train")
    assert list(found.samples) == expected.samples and len(found.samples) == 7
    assert list(found.classes) == expected.classes
    assert found.real == tuple(os.path.realpath(path) for path, _ in found.samples)


@pytest.mark.parametrize("name", [".ipynb_checkpoints/1-checkpoint.png", "a/._1.png", "a/.thumbs/1.png", ".DS_Store"])
def test_names_with_a_dot_are_left_out(root: Path, name: str):
    before = list_images(root / "train")
    put(root / "train" / name)
    assert list_images(root / "train") == before


def test_links_that_loop_or_lead_to_the_same_picture_count_once(root: Path):
    before, folder = list_images(root / "train"), root / "train" / "a"
    (folder / "loop").symlink_to(folder)
    (folder / "below" / "up").symlink_to(folder)
    (folder / "0.png").symlink_to(folder / "1.png")
    assert list_images(root / "train") == before


def test_links_to_elsewhere_are_followed(root: Path, tmp_path: Path):
    put(tmp_path / "store" / "x.png", tmp_path / "store" / "y.png")
    shutil.rmtree(root / "train" / "b")
    (root / "train" / "b").symlink_to(tmp_path / "store")
    (root / "train" / "a" / "z.png").symlink_to(tmp_path / "store" / "deep.png")
    put(tmp_path / "store" / "deep.png")
    (tmp_path / "store" / "deep.png").rename(tmp_path / "deep.png")
    (root / "train" / "a" / "z.png").unlink()
    (root / "train" / "a" / "z.png").symlink_to(tmp_path / "deep.png")
    labels = {Path(path).name: label for path, label in list_images(root / "train").samples}
    assert labels == {"1.png": 0, "2.JPEG": 0, "0.bmp": 0, "z.png": 0, "x.png": 1, "y.png": 1}


def test_one_level_too_deep_is_said(root: Path):
    (root / "train").rename(root / "images")
    (root / "train").mkdir()
    (root / "images").rename(root / "train" / "images")
    with pytest.raises(ValueError, match=r"two or more classes, and holds 'images' alone: it has 2 folders, move them"):
        list_images(root / "train")


def test_fewer_than_two_classes_are_refused(root: Path):
    shutil.rmtree(root / "train" / "b")
    with pytest.raises(ValueError, match="two or more classes, and holds 'a' alone$"):
        list_images(root / "train")
    shutil.rmtree(root / "train" / "a")
    with pytest.raises(ValueError, match="two or more classes, and holds none$"):
        list_images(root / "train")


def test_a_class_without_images_is_named(root: Path):
    put(root / "train" / "c" / "1.gif")
    with pytest.raises(ValueError, match=r"train/c holds no image \(\.jpg, .*\.webp\)$"):
        list_images(root / "train")


def test_a_picture_of_two_classes_is_refused(root: Path):
    (root / "train" / "b" / "9.png").symlink_to(root / "train" / "a" / "1.png")
    with pytest.raises(ValueError, match=r"b/9.png is also in class 'a'"):
        list_images(root / "train")


def test_a_picture_of_both_splits_is_refused(root: Path):
    (root / "test" / "a" / "9.png").symlink_to(root / "train" / "a" / "1.png")
    with pytest.raises(ValueError, match=r"train/a/1.png is a training and a test image"):
        list_splits("folder:/x", root)
    shutil.rmtree(root / "test")
    (root / "test").symlink_to(root / "train")
    with pytest.raises(ValueError, match="is a training and a test image"):
        list_splits("folder:/x", root)


@pytest.mark.parametrize("kind", ["a link to nothing", "no file"])
def test_what_is_no_file_is_named(root: Path, kind: str):
    odd = root / "train" / "a" / "odd.png"
    if kind == "no file":
        os.mkfifo(odd)
    else:
        odd.symlink_to("gone.png")
    with pytest.raises(ValueError, match=rf"odd.png is {kind}.*: remove it"):
        list_images(root / "train")


def test_a_folder_that_cannot_be_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch):
    scan = os.scandir

    def denied(path: Path):
        if Path(path).name == "below":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(ValueError, match=r"folder .*/below cannot be read \(Permission denied\)"):
        list_images(root / "train")


def test_names_that_cannot_be_printed_are_escaped_or_refused(root: Path):
    put(root / "train" / os.fsdecode(b"c\xff") / "1.png")
    with pytest.raises(ValueError, match=r"class folder 'c\\udcff' .* must have a name that can be printed"):
        list_images(root / "train")
    assert shown("a b/ü.png") == "a b/ü.png" and shown("a\nb") == "'a\\nb'"


def test_classes_of_a_known_name_are_compared(root: Path):
    with pytest.raises(ValueError, match="^data = 'cifar10' in .*set has 2 classes that are not the 10 of cifar10"):
        list_splits("cifar10", root)
    assert [split.classes for split in list_splits("folder:/x", root)] == [("a", "b")] * 2
