"""Files of one's own: both layouts, windows of them, and one sentence for each thing that is wrong."""

import json
from pathlib import Path

import pytest
import torch

from kdlib.elsewhere.boxes import load
from kdlib.elsewhere.boxes.annotations import held_out
from kdlib.elsewhere.boxes.load import check_boxes_there, count_classes, load_boxes

from .conftest import voc_xml

NAMES = [f"p{i}" for i in range(8)]
GOOD = [("cat", (10, 5, 60, 40)), ("dog", (100, 60, 180, 119))]


def forget() -> None:
    """What was read before."""
    load_boxes.cache_clear()
    load._own_splits.cache_clear()


@pytest.fixture
def voc(tmp_path: Path, draw_picture):
    """voc(boxes of the first training picture, ...): a folder in the layout of Pascal VOC, of 200 x 120 pixels."""

    def make(first: list | None = None, others: list | None = None) -> str:
        training = [name for name in NAMES if name not in held_out(NAMES)]
        for name in NAMES:
            draw_picture(tmp_path / "JPEGImages" / f"{name}.png", 200, 120)
            boxes = first if first is not None and name == training[0] else GOOD if others is None else others
            (tmp_path / "Annotations").mkdir(exist_ok=True)
            (tmp_path / "Annotations" / f"{name}.xml").write_text(voc_xml(f"{name}.png", boxes))
        return f"voc:{tmp_path}"

    forget()
    return make


@pytest.fixture
def coco(tmp_path: Path, draw_picture):
    """coco(**changes of the content): a file of COCO."""

    def make(**changes) -> str:
        images = [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate(NAMES)]
        for name in NAMES:
            draw_picture(tmp_path / f"{name}.png", 200, 120)
        notes = [
            {"image_id": i, "category_id": {"cat": 7, "dog": 9}[kind], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for i in range(len(NAMES))
            for kind, (x1, y1, x2, y2) in GOOD
        ]
        kinds = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
        content = {"images": images, "annotations": notes, "categories": kinds} | changes
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        return f"coco:{tmp_path / 'boxes.json'}"

    forget()
    return make


def test_both_layouts_are_one_data_set(voc, coco) -> None:
    first, second = (load_boxes(name, 64) for name in (voc(), coco()))
    name = voc(GOOD[:1])
    forget()
    assert first.fingerprint == second.fingerprint != load_boxes(name, 64).fingerprint
    for data in (first, second):
        assert data.classes == ("cat", "dog") == ("cat", "dog")[: count_classes(data.name)]
        tests = data.tests["test"]
        assert len(tests.images) % 8 == 0 and tests.images.shape[1:] == (3, 128, 128)
        images, boxes = data.frames(torch.arange(8), {"window": torch.rand(8, 5)})
        assert images.shape == (8, 3, 144, 144) and boxes.labels.max() <= 1


def test_lists_of_pascal_voc_say_what_is_tested_on(voc, tmp_path) -> None:
    name = voc()
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("p0\np1\np2\n")
    assert len(load_boxes(name, 200).tests["test"].images) == 3


def test_a_fifth_is_tested_on_by_name() -> None:
    names = [f"picture {i}" for i in range(100)]
    assert len(held_out(names)) == 20 and held_out(names) == held_out(names[::-1])
    assert len(held_out(["one"])) == 1 and held_out(names[:50]) != set(names[:10])


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (("cat", (10, 5, 201, 40)), r"\(10, 5, 201, 40\), lies outside of its picture of 200 x 120 pixels"),
        (("cat", (-1, 5, 20, 40)), r"\(-1, 5, 20, 40\), lies outside of its picture"),
        (("cat", (10, 5, 10, 40)), r"\(10, 5, 10, 40\), has no area; allowed are x1 < x2 and y1 < y2"),
        (("cat", (10, "x", 20, 40)), "is not readable as an annotation of Pascal VOC"),
    ],
)
def test_bad_boxes_are_one_sentence(voc, box, said) -> None:
    with pytest.raises(ValueError, match=said) as error:
        load_boxes(voc([GOOD[0], box]))
    assert "\n" not in str(error.value)


def test_a_class_that_only_tests_have_is_unknown(voc, tmp_path) -> None:
    name, tested = voc(), min(held_out(NAMES))
    (tmp_path / "Annotations" / f"{tested}.xml").write_text(voc_xml(f"{tested}.png", [("cow", (1, 1, 9, 9))]))
    with pytest.raises(ValueError, match="has the unknown class 'cow'; training boxes have cat, dog"):
        load_boxes(name)


def test_no_boxes_at_all_and_missing_pictures_are_said_before_any_work(voc, tmp_path) -> None:
    name = voc(others=[])
    with pytest.raises(ValueError, match=r"the \d train pictures of .* have no boxes at all; one is needed"):
        check_boxes_there(name)
    name = voc()
    check_boxes_there(name)
    (tmp_path / "JPEGImages" / "p3.png").unlink()
    forget()
    with pytest.raises(FileNotFoundError, match=r"the picture of .*p3.xml is missing: looked for p3.png and p3.jpg"):
        check_boxes_there(name)
    with pytest.raises(FileNotFoundError, match="holds no XML files"):
        check_boxes_there(f"voc:{tmp_path / 'ImageSets'}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"annotations": [{"image_id": 0, "category_id": 5, "bbox": [0, 0, 9, 9]}]}, "category_id = 5 of a box is unk"),
        ({"annotations": [{"image_id": 99, "category_id": 7, "bbox": [0, 0, 9, 9]}]}, "image_id = 99 of a box is unkn"),
        (
            {"annotations": [{"image_id": 0, "category_id": 7, "bbox": ["a", 0, 9, 9]}]},
            "is not readable as a file of C",
        ),
        ({"annotations": [{"image_id": 0, "category_id": 7}]}, "is not readable as a file of COCO .KeyError: 'bbox'"),
        ({"annotations": [{"image_id": 0, "category_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": 1}]}, "no boxes at all"),
    ],
)
def test_bad_files_of_coco_are_one_sentence(coco, changes, said) -> None:
    with pytest.raises(ValueError, match=said) as error:
        check_boxes_there(coco(**changes))
    assert "\n" not in str(error.value)


def test_missing_files_of_coco_are_named(coco, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.json is missing; allowed is a JSON file of COCO"):
        check_boxes_there(f"coco:{tmp_path / 'nothing.json'}")
    name = coco()
    (tmp_path / "p5.png").unlink()
    with pytest.raises(FileNotFoundError, match="the picture p5.png of .*boxes.json is missing"):
        check_boxes_there(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cifar10", "boxes = 'cifar10' is unknown; allowed are scenes, trees, voc:FOLDER and coco:FILE"),
        ("voc:here", "boxes = 'voc:here' must name its place from the root or from ~"),
    ],
)
def test_bad_names_are_one_sentence(name, said) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        load_boxes(name)
