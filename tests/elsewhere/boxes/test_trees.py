"""Trees: what is taken out of a wheel, and what is refused, by an invented one."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from kdlib.elsewhere.boxes import trees
from kdlib.elsewhere.boxes.load import check_boxes_there
from kdlib.elsewhere.boxes.trees import INSIDE, Photograph, load_trees, unpack

from .conftest import voc_xml

BOXES = {
    "train": [("Tree", (10, 10, 40, 50)), ("Tree", (200, 200, 240, 230)), ("Tree", (300, 120, 330, 150))],
    "Yellowstone": [("Tree", (20, 30, 60, 70))],
    "Florida": [("Tree", (20, 30, 60, 70)), ("Tree", (220, 230, 260, 270))],
    "California": [("Dead", (20, 30, 60, 70)), ("Alive", (220, 230, 260, 270))],
}


@pytest.fixture
def wheel(tmp_path: Path, draw_picture):
    """(a wheel that holds four invented photographs, what they are)."""
    described = {}
    path = tmp_path / "deepforest-0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("deepforest/__init__.py", "raise RuntimeError('imported')")
        for name, boxes in BOXES.items():
            picture = tmp_path / f"{name}.png"
            draw_picture(picture, 400, 400)
            contents = (picture.read_bytes(), voc_xml(f"{name}.tif", boxes).encode())
            for content, ending in zip(contents, ("png", "xml"), strict=True):
                archive.writestr(f"{INSIDE}{name}.{ending}", content)
            marks = tuple(hashlib.sha256(content).hexdigest()[:16] for content in contents)
            described[name] = Photograph(name, marks, len(boxes))
            picture.unlink()
    return path, described


@pytest.fixture
def fetched(wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What `fetch` does with that wheel, which a stand-in for pip downloads; [] of the commands that it was given."""
    path, described = wheel
    commands = []

    def download(command, **_):
        commands.append(command)
        Path(command[command.index("--dest") + 1], path.name).write_bytes(path.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(trees, "PHOTOGRAPHS", described)
    monkeypatch.setattr(trees.unpack, "__defaults__", (described,))
    monkeypatch.setattr(trees.load_trees, "__defaults__", (described,))
    monkeypatch.setattr(trees.subprocess, "run", download)
    return commands


def test_they_are_fetched_once_and_read(fetched, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data = 'trees' is missing: .*run `python -m kdlib fetch trees`"):
        check_boxes_there("trees")
    assert trees.fetch() == trees.fetch() == tmp_path / "data" / "trees"
    (command,) = fetched
    assert command[:4] == [sys.executable, "-m", "pip", "download"] and command[-1] == "deepforest==2.1.0"
    assert {"--no-deps", "--only-binary"} <= set(command) and "install" not in command
    check_boxes_there("trees")
    data = load_trees()
    assert data.classes == ("tree",) and list(data.tests) == ["Yellowstone", "Florida", "California"]
    assert [len(test.images) for test in data.tests.values()] == [4, 4, 4]
    assert [int(test.boxes.kept.sum()) for test in data.tests.values()] == [1, 2, 2]
    images, boxes = data.frames(torch.arange(4), {"window": torch.rand(4, 5)})
    assert images.shape == (4, 3, 144, 144) and set(boxes.labels.flatten().tolist()) <= {-1, 0}
    assert "deepforest" not in sys.modules


def test_pip_that_fails_is_one_sentence_and_leaves_nothing(fetched, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "a warning\nERROR: no network\n")
    monkeypatch.setattr(trees.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        ValueError, match=r"^download of trees failed: pip download deepforest==2.1.0: ERROR: no network"
    ):
        trees.fetch()
    assert not trees.folder().exists()


def test_other_files_are_refused(wheel, tmp_path: Path) -> None:
    path, described = wheel
    to = tmp_path / "to"
    to.mkdir()
    one = described["Florida"]
    for changed, said in (
        (one._replace(marks=("0" * 16, one.marks[1])), r"^Florida.png in .* has the SHA-256 .*, expected is 0000"),
        (one._replace(boxes=61), r"^Florida.xml in .* has 2 boxes, expected are 61"),
        (one._replace(file="Texas"), r"is not the wheel of deepforest==2.1.0 .*Texas.png"),
    ):
        with pytest.raises(ValueError, match=said):
            unpack(path, to, {"Florida": changed})
    (tmp_path / "broken.whl").write_bytes(b"PK no")
    with pytest.raises(ValueError, match="^broken.whl is not the wheel of deepforest==2.1.0"):
        unpack(tmp_path / "broken.whl", to, described)


@pytest.mark.parametrize("name", BOXES)
def test_fetch_leaves_nothing_where_a_photograph_has_another_number_of_boxes(fetched, name: str, monkeypatch) -> None:
    """Each number is held against the XML: what was drawn into the wheel, and one more that is not there."""
    described = dict(trees.PHOTOGRAPHS)
    more = described[name]._replace(boxes=len(BOXES[name]) + 1)
    monkeypatch.setattr(trees.unpack, "__defaults__", (described | {name: more},))
    with pytest.raises(
        ValueError, match=rf"^{name}.xml in .* has {len(BOXES[name])} boxes, expected are {more.boxes}$"
    ):
        trees.fetch()
    assert not trees.folder().exists()
    monkeypatch.setattr(trees.unpack, "__defaults__", (described,))
    assert {file.stem for file in trees.fetch().glob("*.xml")} == set(BOXES)
