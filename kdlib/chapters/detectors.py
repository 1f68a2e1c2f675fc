"""What the chapters on upright and on turned boxes have in common: what a second view learns from, and how much is
trained."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from kdlib.elsewhere.detecting import DetectorSpec
from kdlib.methods.taxonomy import Taxonomy
from kdlib.study.setting import Setting

BOTH, LABELS, KD = "labels + KD", "labels", "KD"
#: What the second view learns from -> whether from its boxes, whether from the teacher.
TERMS: Mapping[str, tuple[bool, bool]] = {BOTH: (True, True), LABELS: (True, False), KD: (False, True)}
ALONE = "no teacher"
MARGIN = 1.0  # points of average precision
LATER = 3  # the tier of all arms
TAXONOMY = Taxonomy(
    knowledge=("answer", "position"), sees="both the same", chosen_by="none", labels="switched on or off",
    status="inspired by", task="detection",
)  # fmt: skip


class Size(NamedTuple):
    """How much is trained, see `DetectorSpec`. The teacher has twice the steps."""

    #: of training and of each test, where the data are scenes
    scenes: tuple[int, int]
    #: of the student, and of the teacher
    widths: tuple[int, int]
    #: of the student
    steps: int
    #: each in two views
    images_per_step: int
    #: of every run
    evaluations: int


def student(
    kind: type[DetectorSpec],
    setting: Setting,
    size: Size,
    data: str,
    terms: str,
    seed: int,
    taught: Mapping[str, Any],
    **fields: Any,
) -> Any:
    """The student of an arm: terms, of TERMS or ALONE; taught: fields of its teacher alone, fields: of its own.

    Its teacher has the same seed, but at demonstrations, where one serves all. In float32 where only float16, which is
    too coarse, would be left.
    """
    shared = {
        "data": data, "scenes": size.scenes, "images_per_step": size.images_per_step, "evaluations": size.evaluations,
        "machine": setting.machine.without_float16(),
    }  # fmt: skip
    teacher = kind(width=size.widths[1], steps=2 * size.steps, seed=setting.shared_seed(seed), **taught, **shared)
    labels, kd = TERMS.get(terms, (True, True))
    return kind(
        width=size.widths[0], steps=size.steps, seed=seed, labels=labels, kd=kd,
        teacher=None if terms == ALONE else teacher, **fields, **shared,
    )  # fmt: skip
