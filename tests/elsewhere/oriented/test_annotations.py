"""Files of DOTA's layout: what they say is what is learnt from, and what is wrong with them is one sentence."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.elsewhere.boxes.annotations import held_out
from kdlib.elsewhere.boxes.windows import Windows
from kdlib.elsewhere.oriented.annotations import read_dota, read_lines, read_turned
from kdlib.elsewhere.oriented.boxes import HARD
from kdlib.elsewhere.oriented.geometry import outline, turned_iou, usual
from kdlib.elsewhere.oriented.load import check_turned_name, check_turned_there, count_classes, load_turned

pytestmark = pytest.mark.usefixtures("isolated")
BOX = usual(torch.tensor([150.0, 120, 60, 24, 35]))


def line(box: torch.Tensor, name: str = "ship", hard: int = 0) -> str:
    return " ".join(f"{value:.4f}" for value in outline(box).flatten().tolist()) + f" {name} {hard}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures of 300 x 260 pixels, each with a ship, and a harbour that is difficult."""
    for part in ("images", "labelTxt"):
        (tmp_path / part).mkdir()
    for k in range(5):
        random = np.random.default_rng(k)
        Image.fromarray(random.integers(0, 256, (260, 300, 3), dtype=np.uint8)).save(tmp_path / "images" / f"P{k}.png")
        other = BOX + torch.tensor([60.0, 60, 0, 0, 50])
        text = ["imagesource:GoogleEarth", "gsd:0.15", line(BOX), line(other, "harbour", 0), line(other, "ship", 1)]
        (tmp_path / "labelTxt" / f"P{k}.txt").write_text("\n".join(text) + "\n")
    return tmp_path


def test_boxes_are_those_of_the_corners(folder: Path) -> None:
    splits = read_dota(folder)
    assert [len(some) for some in splits.values()] == [4, 1]
    assert splits["test"][0][0].stem in held_out([f"P{k}" for k in range(5)])
    (one, *_) = read_turned(splits["test"], ("harbour", "ship"))
    assert one.labels.tolist() == [1, 0, 1] and one.hard.tolist() == [False, False, True]
    found = torch.cat([(one.corners[:, :2] + one.corners[:, 2:]) / 2, one.corners[:, 2:] - one.corners[:, :2]], 1)
    assert torch.allclose(torch.cat([found, one.angles[:, None]], 1)[0], BOX, atol=1e-2)


def test_corners_may_begin_anywhere_and_go_either_way(tmp_path: Path) -> None:
    """Whichever corner is first, the box is the same; a slightly crooked one is held by its box."""
    points = outline(BOX)
    for k in range(4):
        for order in (points.roll(k, 0), points.roll(k, 0).flip(0)):
            text = " ".join(f"{value:.5f}" for value in order.flatten().tolist())
            (tmp_path / "a.txt").write_text(f"{text} ship 0\n")
            (one,) = read_lines(tmp_path / "a.txt")
            Image.new("RGB", (300, 260)).save(tmp_path / "a.png")
            (picture,) = read_turned([(tmp_path / "a.png", [one])], ("ship",))
            boxes = picture.boxes_in(0, 0, 300, 300).turned[0]
            assert turned_iou(boxes[0], BOX).item() == pytest.approx(1, abs=1e-3)


def test_a_data_set_is_learnt_from_in_windows_and_tested_in_tiles(folder: Path) -> None:
    name = f"dota:{folder}"
    check_turned_there(name)
    data = load_turned(name, 128, (1, 1))
    assert data.classes == ("harbour", "ship") and count_classes(name) == 2 and isinstance(data.frames, Windows)
    test = data.tests["test"]
    assert test.images.shape[1:] == (3, 128, 128) and test.boxes.kept.any()
    draws = {"window": torch.rand(data.frames.count, 5, generator=torch.Generator().manual_seed(0))}
    pixels, boxes = data.frames(torch.arange(data.frames.count), draws)
    assert pixels.shape[1:] == (3, 144, 144) and boxes.kept.any() and boxes.angles.any()
    whole = boxes.shares > 0.999
    assert torch.allclose(boxes.turned[whole][:, 2:4], BOX[2:4].expand(int(whole.sum()), 2), atol=0.02)
    hidden = (boxes.shares - HARD).abs() < 1e-6
    assert hidden.any() and boxes.ignored[hidden].all()


def test_objects_move_with_their_window(folder: Path) -> None:
    (one, *_) = read_turned(read_dota(folder)["test"], ("harbour", "ship"))
    boxes = one.boxes_in(row=40, column=90, length=128, size=64)
    x, y, w, h, angle = boxes.turned[0, 0].tolist()
    expected = (150 - 90) / 2, (120 - 40) / 2, 30, 12, 35
    assert (x, y, w, h, angle) == pytest.approx(expected, abs=0.01)
    none = one.boxes_in(row=0, column=0, length=20, size=20)
    assert none.labels.shape == (1, 0) and none.turned.shape == (1, 0, 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2 3 4 5 6 7 ship 0", r"begins with 1 2 3 4 5 6 7 ship; allowed are 8 numbers"),
        ("1 2 3 ship", r"line 1 of .* has 4 words; allowed are 8 numbers, a class, and 0 or 1"),
        ("1 2 3 4 5 6 7 inf ship 0", r"begins with .*; allowed are 8 numbers"),
        ("1 2 3 4 5 6 7 8 ship 2", r"line 1 of .* has the difficulty '2'; allowed are 0 and 1"),
    ],
)
def test_a_bad_line_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read_lines(tmp_path / "a.txt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("box", "name", "said"),
    [
        (BOX, "plane", "has the unknown class 'plane'; training boxes have harbour, ship"),
        (torch.tensor([50.0, 50, 20, 0, 0]), "ship", "has no area; allowed are four corners of a rectangle"),
        (torch.tensor([350.0, 50, 20, 10, 0]), "ship", "has its centre outside of its picture of 300 x 260 pixels"),
    ],
)
def test_a_bad_box_is_one_sentence(folder: Path, box, name: str, said: str) -> None:
    (tested,) = held_out([f"P{k}" for k in range(5)])
    (folder / "labelTxt" / f"{tested}.txt").write_text(line(box, name))
    with pytest.raises(ValueError, match=rf"^box \(.*\) of .*{tested}.png {said}"):
        load_turned(f"dota:{folder}", 100, (1, 1))


def test_missing_files_and_names_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    (folder / "images" / "P1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"^the picture of .*P1.txt is missing: looked for P1.png and P1.jpg"):
        read_dota(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="holds no text files; allowed is a folder of DOTA"):
        check_turned_there(f"dota:{empty}")
    with pytest.raises(ValueError, match="^turned = 'scenes' is unknown; allowed are turned-scenes and dota:FOLDER$"):
        check_turned_name("scenes")
    (folder / "labelTxt" / "P0.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not readable as text"):
        read_lines(folder / "labelTxt" / "P0.txt")
    assert math.isclose(BOX[4].item(), 35)
