"""A teacher's answers to fresh views, kept for other runs: the arms of one seed see the same views.

KD, CCD and its controls differ only in what they make of the logits, so at one seed and policy they would all ask the
teacher the same questions. Where $KDLIB_ANSWERS names a folder, the first run keeps the answers, in float32 and step
by step, and the others read them. Nothing else changes: the bits of a run are those it has without.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlib.data.images import fingerprint
from kdlib.files import check_room, made_once
from kdlib.lab import distributed
from kdlib.lab.bank import mapped
from kdlib.lab.evaluate import finite_answers, logits_on
from kdlib.lab.specs import RunSpec, digest
from kdlib.lab.task import Task
from kdlib.methods import find_method

VERSION = 1  # raised when a change alters what is kept
FIELDS = {"version", "pool", "validation", "part", "fraction", "teacher", "policy", "seed", "machine"}


def remembering(task: Task, root: Path | None) -> Task:
    """The task with the answers to all of its views, kept in `root`; as it is where nothing can be kept: without a
    root, for a method that reads more than logits, from a view bank, and where a step is shared or cut in parts."""
    if root is None or question(task.spec) is None or distributed.world() > 1:
        return task
    folder = root / answers_key(task)
    made_once(folder, lambda temporary: _make(temporary, task))
    return replace(task, answers=mapped(folder / "answers.npy"))


def question(spec: RunSpec) -> str | None:
    """What a run asks its teacher, so far as its spec tells: equal for runs whose answers are the same, 16 hex digits.
    None where nothing is kept."""
    recipe = spec.recipe
    if spec.teacher is None or spec.bank is not None or recipe.micro_batches > 1:
        return None
    if not find_method(spec.method).logits_only:
        return None
    amount = [recipe.views_per_step, recipe.views_per_image, spec.view_policy().spread, *spec.asked]
    return digest([*amount, spec.data, spec.model_dump(mode="json", include=FIELDS)])


def answers_key(task: Task) -> str:
    """16 hex digits of SHA-256 over all that decides the answers: images, order, views, what of
    them the teacher is given, teacher, machine."""
    fields = task.spec.model_dump(mode="json", include=FIELDS)
    return _key(task, task.order.batch, task.steps, task.policy.spread, fields)


def _key(task: Task, *parts: object) -> str:
    return digest([VERSION, task.train.fingerprint, *parts, *task.spec.asked])


def evaluated_answers(task: Task, root: Path | None) -> Tensor:
    """float32 [N, classes]: the teacher's logits on the images that the run is measured on, kept in `root` if given."""
    ask = partial(logits_on, task.method.teacher, task.images)
    if root is None:
        return ask()
    names = {"version", "validation", "teacher", "machine"}
    measured = fingerprint(task.images, task.labels)
    folder = root / _key(task, "evaluated", measured, task.spec.model_dump(mode="json", include=names))
    made_once(folder, lambda temporary: np.save(temporary / "answers.npy", ask().numpy()))
    return mapped(folder / "answers.npy")


@torch.no_grad()
def _make(folder: Path, task: Task) -> None:
    teacher = task.method.teacher
    shape = (task.steps, task.order.batch, task.policy.views, teacher.num_classes)
    check_room(folder, 4 * int(np.prod(shape)), "keeping answers")
    kept = np.lib.format.open_memmap(folder / "answers.npy", mode="w+", dtype=np.float32, shape=shape)
    for step in range(task.steps):
        views = task.batch(step).views
        logits = finite_answers(teacher(views.flatten(0, 1)).logits)
        kept[step] = logits.view(shape[1:]).cpu().numpy()
    kept.flush()
