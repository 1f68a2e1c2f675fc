"""Runs of every other task, killed between the gradients and the update of a step: the same bits after they go on."""

import signal
import subprocess
import sys
from typing import Any

import pytest

from kdlib.elsewhere.detection import DetectionSpec
from kdlib.elsewhere.masked.spec import MaskedSpec, TeacherSpec
from kdlib.elsewhere.oriented.training import OrientedSpec
from kdlib.elsewhere.translation import SPEC as TRANSLATION
from kdlib.elsewhere.translation.parallel import GRAMMAR
from kdlib.elsewhere.translation.spec import Terms
from kdlib.lab.runs import execute, needed
from kdlib.lab.store import Store
from kdlib.lab.tasks import TASKS, TaskSpec

from ..conftest import MACHINE

BOXES = {"width": 4, "steps": 4, "images_per_step": 2, "evaluations": 2, "scenes": (8, 2), "machine": MACHINE}
SCENES, TURNED = {"data": "scenes"} | BOXES, {"data": "turned-scenes"} | BOXES
IMAGES = {"data": "fashion-mnist-8k", "images": 60, "images_per_step": 20, "machine": MACHINE}
VIT = TeacherSpec(**IMAGES, width=16, depth=1, heads=2, pretraining=1, epochs=1, seed=7)
TEXT = {
    "data": GRAMMAR, "pieces": 400, "pairs": 20, "tested": 4, "width": 16, "layers": 1, "heads": 2, "epochs": 2,
    "pairs_per_step": 6, "warm_up": 4, "machine": MACHINE,
}  # fmt: skip
TERMS = Terms(words=1.0, neighbours=0.5, consistency=1.0, k=8, tau=10.0)
#: Kind -> a run of it that learns from another one, of six steps or four.
STUDENTS: dict[str, TaskSpec] = {
    "detection": DetectionSpec(
        **SCENES, second="jda", gate="shuffled", seed=0, teacher=DetectionSpec(**SCENES, seed=7)
    ),
    "oriented": OrientedSpec(**TURNED, second="any-angle", seed=0, teacher=OrientedSpec(**TURNED, seed=7)),
    "translation": TRANSLATION(
        **TEXT, view="bpe-dropout", p=0.3, terms=TERMS, seed=0, teacher=TRANSLATION(**TEXT, seed=7)
    ),
    "masked": MaskedSpec(
        **IMAGES, width=2, ratio=0.5, tokens="masked", epochs=1, labelled=0.5, tuning=2, seed=3, teacher=VIT
    ),
    "masked teacher": VIT,
}

KILLED = """
import json, os, signal, sys
from torch.optim.optimizer import register_optimizer_step_pre_hook
from kdlib.lab import loop
from kdlib.lab.runs import execute, needed
from kdlib.lab.tasks import read_task

spec, moment = read_task(json.loads(sys.argv[1])), int(sys.argv[2])
loop.CHECKPOINT_SECONDS = 0.0
*teachers, _ = needed([spec])
for teacher in teachers:
    execute(teacher, "smoke")
steps = []

def before(*_):
    steps.append(1)
    if len(steps) == moment:
        os.kill(os.getpid(), signal.SIGKILL)

register_optimizer_step_pre_hook(before)
execute(spec, "smoke")
"""


def finished(spec: TaskSpec) -> Any:
    """The result, of a run that is made or gone on with, after those that it learns from."""
    for each in needed([spec]):
        if Store("smoke").get(each) is None:
            execute(each, "smoke")
    return Store("smoke").get(spec)


def test_every_task_is_killed():
    assert set(STUDENTS) == set(TASKS)


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_killed_run_goes_on_to_the_same_bits(kind, isolated, elsewhere):
    spec = STUDENTS[kind]
    words = [sys.executable, "-c", KILLED, spec.model_dump_json(), "3"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert Store("smoke").get(spec) is None
    resumed = finished(spec)
    elsewhere("uninterrupted")
    whole = finished(spec)
    assert resumed.bits == whole.bits and resumed.evaluations == whole.evaluations
