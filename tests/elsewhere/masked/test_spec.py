"""What a run of masked views costs, what is part of its key, and what is refused."""

import pytest

from kdlib.elsewhere.masked.material import check, count_of
from kdlib.elsewhere.masked.spec import MaskedSpec, TeacherSpec, student_sizes, teacher_sizes
from kdlib.lab.forecasts import work

from .conftest import MACHINE, teacher_of


def block(tokens: int, width: int) -> int:
    """Queries, keys, values and output; two products of attention; two layers, the inner one of 4 x width."""
    return 4 * tokens * width**2 + 2 * tokens**2 * width + 8 * tokens * width**2


def test_macs_of_the_transformer_are_the_closed_form():
    embedding = 64 * 48 * 96
    vit, _ = teacher_sizes(96, 4, 4, 32, 100, 0.6)
    assert vit.macs == embedding + 4 * block(64, 96) + 96 * 100 == pytest.approx(31.5e6, rel=0.01)


def test_macs_of_the_autoencoder_are_the_closed_form():
    decoder = 26 * 96 * 48 + block(64, 48) + 64 * 48 * 48
    _, pretraining = teacher_sizes(96, 4, 4, 32, 100, 0.6)
    assert pretraining.macs == 64 * 48 * 96 + 4 * block(26, 96) + decoder
    assert 4 * block(26, 96) == pytest.approx(12e6, rel=0.01)


def test_macs_of_the_student_are_the_closed_form():
    w = 16

    def conv(inputs, outputs, side, size=3):
        return inputs * outputs * side**2 * size**2

    encoder = conv(3, w, 32) + 2 * conv(w, w, 32)
    for k, side in ((1, 16), (2, 8), (3, 4)):
        narrow, wide = w * 2 ** (k - 1), w * 2**k
        encoder += conv(narrow, wide, side) + conv(wide, wide, side) + conv(narrow, wide, side, 1)
    decoder = conv(128, 64, 4, 1) + 4 * 4 * 64 * 64 * 16 + 2 * conv(64, 64, 8) + conv(64, 96, 8, 1)
    sizes = student_sizes(16, 96, 32, 100)
    assert [size.macs for size in sizes] == [encoder + 128 * 100, encoder + decoder]


def test_macs_of_runs_are_those_of_their_stages(student_of, plain, floor):
    teacher = teacher_of()
    whole, drawing = (size.macs for size in teacher_sizes(16, 1, 2, 32, 10, 0.6))
    assert teacher.stages == (3, 3) and teacher.macs == 3 * 60 * (drawing + whole) and teacher.views == 120
    tuned, taught = (size.macs for size in student_sizes(2, 16, 32, 10))
    masked = student_of(ratio=0.75)
    assert masked.stages == (3, 3)
    assert masked.macs == 60 * (3 * taught + whole) + 3 * 60 * tuned == student_of(**plain).macs  # a mask saves nothing
    assert student_of(**floor).macs == 3 * 60 * tuned and student_of(**floor).views == 60
    assert work(masked) > masked.macs
    assert (teacher.network, masked.network) == ("ViT of width 16", "ResNet-8 with one stage more, width 2")


def test_arms_have_equal_views(student_of, plain):
    arms = ({}, {"ratio": 0.25}, plain, {"view": "jda"}, {"fill": "grey"}, {"tokens": "all"})
    assert {(spec.views, spec.stages, spec.macs) for spec in (student_of(**fields) for fields in arms)} == {
        (120, (3, 3), student_of().macs)
    }


def test_all_that_decides_is_part_of_the_key(student_of):
    changes = [
        {"images": 80}, {"width": 4}, {"view": "jda"}, {"ratio": 0.75}, {"fill": "grey"}, {"tokens": "all"},
        {"teacher_sees": "kept cells"}, {"epochs": 2}, {"labelled": 0.2}, {"tuning": 3}, {"learning_rate": 2e-3},
        {"tuning_rate": 2e-3}, {"seed": 4}, {"images_per_step": 10}, {"weight_decay": 0.0},
        {"teacher": teacher_of(seed=8)}, {"teacher": teacher_of(depth=2)}, {"teacher": teacher_of(ratio=0.5)},
        {"teacher": teacher_of(pretraining=2)}, {"teacher": teacher_of(epochs=2)}, {"teacher": teacher_of(heads=4)},
    ]  # fmt: skip
    assert len({student_of(**change).key for change in ({}, *changes)}) == len(changes) + 1
    read = MaskedSpec.model_validate_json(student_of().model_dump_json())
    assert read == student_of() and isinstance(read.teacher, TeacherSpec)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ratio": 0.02}, "ratio = 0.02 keeps 16 of 16 cells; allowed are ratios that mask some"),
        ({"ratio": 0.99}, "ratio = 0.99 keeps 0 of 16 cells"),
        ({"ratio": 0.0}, "ratio = 0 masks nothing: allowed are fill = 'sparse', tokens = 'all'"),
        ({"ratio": 1.0}, "ratio = 1.0 is not allowed"),
        ({"fill": "black"}, "fill = 'black' is not allowed"),
        ({"teacher": None}, "epochs = 1 of distillation: allowed is 0 without a teacher"),
        ({"epochs": 0}, "epochs = 0 of distillation: allowed is 0 without a teacher"),
        ({"teacher": None, "epochs": 0}, "view = 'crop' at ratio = 0.5 needs a teacher"),
        ({"teacher": teacher_of(data="cifar10")}, "teacher.data = 'cifar10' must be that of the student"),
        (
            {"machine": MACHINE.model_copy(update={"precision": "float16"})},
            "machine.precision = 'float16' is too coarse",
        ),
        ({"images": 6000}, "pool = 6000 is larger than the 5400 images that may be trained on"),
    ],
)
def test_impossible_students_are_refused_in_one_sentence(student_of, fields, said):
    with pytest.raises(ValueError, match=said) as error:
        student_of(**fields).check()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"width": 18}, "width = 18 must be a multiple of 2 heads = 4: a decoder has half"),
        ({"ratio": 0.001}, "ratio = 0.001 masks none or all of 64 patches"),
        ({"pretraining": 0}, "pretraining = 0 is not allowed"),
        ({"data": "nothing"}, "data = 'nothing' is unknown"),
    ],
)
def test_impossible_teachers_are_refused_in_one_sentence(fields, said):
    with pytest.raises(ValueError, match=said) as error:
        teacher_of(**fields)
    assert "\n" not in str(error.value)


def test_images_that_cannot_be_cut_into_cells_are_refused(tmp_path, isolated):
    from PIL import Image

    for split in ("train", "test"):
        for k, name in enumerate(("a", "b")):
            (tmp_path / split / name).mkdir(parents=True)
            for n in range(4):
                Image.new("RGB", (12, 12), (60 * k + 9 * n, 9 * n, 90 + n)).save(tmp_path / split / name / f"{n}.png")
    with pytest.raises(ValueError, match="has images of 12 x 12 pixels; allowed are square ones"):
        check(f"folder:{tmp_path}", 4)


def test_counts_are_those_of_the_images_that_are_there():
    assert (count_of("fashion-mnist-8k", 60), count_of("fashion-mnist-8k", 60, 0.5)) == (60, 30)


def test_a_stage_without_a_step_is_refused(student_of):
    with pytest.raises(ValueError, match="images_per_step = 20 makes no step in 1 epochs of a stage: it has too few"):
        student_of(labelled=0.1, tuning=1).check()  # six images
