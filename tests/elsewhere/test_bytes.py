"""Bytes of training: what specs say is what their learners hold."""

from typing import Any

import pytest
import torch

from kdlib.elsewhere import translation
from kdlib.elsewhere.detection import Detection, DetectionSpec
from kdlib.elsewhere.masked.spec import MaskedSpec, TeacherSpec
from kdlib.elsewhere.masked.teaching import Teaching
from kdlib.elsewhere.masked.training import Masked
from kdlib.elsewhere.oriented.training import Oriented, OrientedSpec
from kdlib.elsewhere.translation.parallel import GRAMMAR
from kdlib.elsewhere.translation.spec import Terms

from ..conftest import MACHINE

pytestmark = pytest.mark.usefixtures("isolated")
BOXES = {"width": 4, "steps": 3, "images_per_step": 2, "evaluations": 1, "seed": 0, "machine": MACHINE}
SCENES = {"data": "scenes", "scenes": (4, 2)} | BOXES
TURNED = {"data": "turned-scenes", "scenes": (4, 2)} | BOXES
IMAGES = {"data": "fashion-mnist-8k", "images": 60, "images_per_step": 20, "seed": 0, "machine": MACHINE}
TEXT = {
    "data": GRAMMAR, "pieces": 400, "pairs": 20, "tested": 4, "width": 16, "layers": 1, "heads": 2, "epochs": 2,
    "pairs_per_step": 6, "warm_up": 4, "seed": 0, "machine": MACHINE,
}  # fmt: skip
VIT = {"width": 16, "depth": 1, "heads": 2, "pretraining": 1, "epochs": 1} | IMAGES
MASKED = {"width": 2, "ratio": 0.5, "tokens": "masked", "epochs": 1, "labelled": 0.5, "tuning": 2} | IMAGES


def of(kind: type, made: type, fields: dict[str, Any], taught: dict[str, Any] | None) -> Any:
    """The learner of a student, with a fresh teacher, if it has one."""
    if taught is None:
        return made(kind(**fields), None)
    teacher = made(kind(**fields | taught), None)
    return made(kind(**fields, teacher=teacher.spec), teacher.network.state_dict())


def held(learner: Any) -> int:
    """Bytes of weights, gradients and the two averages of all that is trained, and of the weights of the teacher."""
    groups = learner.optimiser.param_groups
    trained = sum(weights.numel() * weights.element_size() for group in groups for weights in group["params"])
    teacher = learner.teacher.parameters() if isinstance(learner.teacher, torch.nn.Module) else ()
    return 4 * trained + sum(weights.numel() * weights.element_size() for weights in teacher)


@pytest.mark.parametrize("taught", [None, {"width": 6}])
@pytest.mark.parametrize("more", [{}, {"last": "strided"}])
def test_detectors(taught, more):
    learner = of(DetectionSpec, Detection, SCENES | more, taught)
    assert learner.spec.training_bytes == held(learner)


@pytest.mark.parametrize("taught", [None, {"width": 6}])
def test_detectors_of_turned_boxes(taught):
    learner = of(OrientedSpec, Oriented, TURNED, taught)
    assert learner.spec.training_bytes == held(learner)


def test_a_gate_keeps_its_averages():
    learner = of(DetectionSpec, Detection, SCENES | {"gate": "mean"}, {"gate": "none"})
    assert learner.spec.training_bytes == held(learner) + learner.module.averages.nbytes


def test_translators():
    """Neighbours are those of each piece of the targets, whose number is reckoned with usual lengths."""
    teacher = translation.learner(translation.SPEC(**TEXT | {"width": 24}), None)
    assert teacher.spec.training_bytes == held(teacher) and len(teacher.speller) == 400
    terms = Terms(words=1.0, neighbours=1.0, k=8)
    student = translation.learner(
        translation.SPEC(**TEXT, terms=terms, teacher=teacher.spec), teacher.network.state_dict()
    )
    kept = student.near.pieces.nbytes + student.near.distances.nbytes
    assert student.spec.training_bytes - student.spec.kept_bytes == held(student)
    assert student.spec.kept_bytes / student.spec.states == kept / len(student.near.pieces) == 12 * 8
    spec = translation.SPEC(**TEXT, untranslated=20, terms=Terms(encoder=1.0), teacher=teacher.spec)
    learner = translation.learner(spec, teacher.network.state_dict())
    assert spec.kept_bytes == sum(weights.nbytes for weights in learner.average.parameters())


def test_masked_views():
    """The teacher's decoder is trained with it, and does not teach."""
    teaching = Teaching(TeacherSpec(**VIT), None)
    teacher = teaching.spec
    assert teacher.training_bytes == 4 * sum(weights.nbytes for weights in teaching.module.parameters())
    assert teacher.parameters < teacher.trained
    weights = {name: value.contiguous() for name, value in teaching.network.state_dict().items()}
    learner = Masked(MaskedSpec(**MASKED, teacher=teacher), weights)
    assert learner.spec.training_bytes == held(learner)
    assert learner.spec.parameters == sum(weights.numel() for weights in learner.network.backbone.parameters())
