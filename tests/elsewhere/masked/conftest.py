"""Small runs of masked views on the bundled images."""

from collections.abc import Callable, Mapping

import pytest
import torch

from kdlib.elsewhere.masked.spec import MaskedSpec, TeacherSpec
from kdlib.elsewhere.masked.teaching import Teaching

from ...conftest import MACHINE

SMALL = {"data": "fashion-mnist-8k", "images": 60, "images_per_step": 20, "machine": MACHINE}


def teacher_of(**fields) -> TeacherSpec:
    """Three steps of each stage."""
    given = {"width": 16, "depth": 1, "heads": 2, "pretraining": 1, "epochs": 1, "seed": 7}
    return TeacherSpec(**SMALL | given | fields)


@pytest.fixture
def student_of() -> Callable[..., MaskedSpec]:
    """student_of(**fields): three steps of distillation at ratio 0.5, and two of the labels of half of the images."""

    def make(**fields) -> MaskedSpec:
        given = {
            "width": 2, "ratio": 0.5, "tokens": "masked", "epochs": 1, "labelled": 0.5, "tuning": 2, "seed": 3,
            "teacher": teacher_of(),
        }  # fmt: skip
        return MaskedSpec(**SMALL | given | fields)

    return make


@pytest.fixture
def plain() -> Mapping[str, object]:
    """The fields of a student at ratio 0."""
    return {"ratio": 0.0, "tokens": "all"}


@pytest.fixture
def floor(plain) -> Mapping[str, object]:
    """The fields of a student that is not distilled."""
    return {**plain, "teacher": None, "epochs": 0}


@pytest.fixture(scope="session")
def taught() -> dict[str, torch.Tensor]:
    """The weights of a teacher, as it begins."""
    state = Teaching(teacher_of(), None).network.state_dict()
    return {name: value.contiguous() for name, value in state.items()}
