"""Masked views: is masking an augmentation that helps the distillation of features?

Inspired by Big2Small (Wang et al., 2024), with the sparse convolutions of SparK (Tian et al., 2023).
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kdlib.elsewhere.masked.material import largest
from kdlib.elsewhere.masked.spec import MaskedSpec, TeacherSpec
from kdlib.lab.recipe import Policy
from kdlib.methods.taxonomy import Taxonomy
from kdlib.study.arms import Arm, Contrast, MeasuredArm, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.stats import MARGIN

RATIOS = (0.25, 0.5, 0.6, 0.75)
RATIO = 0.5  # that of the primary contrast, and of all arms that change something else
PLAIN, ALONE, JDA = "no mask", "no distillation", "JDA"


def masked(ratio: float = RATIO, *changes: str) -> str:
    """What an arm of a ratio is called."""
    return ", ".join((f"mask {ratio:g}", *changes))


HALF, ALL, GREY, BLIND, BOTH = (
    masked(), masked(RATIO, "all tokens"), masked(RATIO, "grey"), masked(RATIO, "teacher too"), f"{JDA}, {masked()}",
)  # fmt: skip
_HALF: Mapping[str, Any] = {"ratio": RATIO, "tokens": "masked"}
#: Arm -> its fields of `MaskedSpec`; one without a teacher has none.
ARMS: Mapping[str, Mapping[str, Any] | None] = {
    PLAIN: {},
    **{masked(ratio): {"ratio": ratio, "tokens": "masked"} for ratio in RATIOS},
    ALL: {**_HALF, "tokens": "all"},
    JDA: {"view": "jda"},
    BOTH: {**_HALF, "view": "jda"},
    GREY: {**_HALF, "fill": "grey"},
    BLIND: {**_HALF, "teacher_sees": "kept cells"},
    ALONE: None,
}
FIRST = (PLAIN, HALF, ALL, ALONE)  # those of demonstrations
USUAL = (*FIRST, *map(masked, RATIOS))  # those of all planned seeds
PRIMARY = 1  # contrasts of this chapter that share an error rate
LATER = 3  # the tier of all arms
INTERACTION = "mask x JDA"
#: Metric of a run -> what it is called.
METRICS: Mapping[str, str] = {
    "top1": "top-1 accuracy, %", "nll": "negative log-likelihood, nats", "ece": "calibration error (ECE)",
}  # fmt: skip


class Size(NamedTuple):
    """How much is trained: fields that both specs have, and those of the teacher and of its students."""

    both: Mapping[str, Any]
    teacher: Mapping[str, Any]
    student: Mapping[str, Any]


SIZES: Mapping[str, Size] = {
    "smoke": Size(
        {"images": 40, "images_per_step": 10},
        {"width": 16, "depth": 1, "heads": 2, "pretraining": 1, "epochs": 1},
        {"width": 2, "epochs": 1, "tuning": 2},
    ),
    "quick": Size(
        {"images": 2000, "images_per_step": 32},
        {"width": 64, "depth": 3, "pretraining": 2, "epochs": 3, "learning_rate": 2e-3},
        {"width": 8, "epochs": 2, "tuning": 15, "learning_rate": 2e-3, "tuning_rate": 2e-3},
    ),
    "reference": Size(
        {"images": 10_000},
        {"pretraining": 60, "epochs": 30},
        {"width": 16, "epochs": 40, "tuning": 100},
    ),
    "paper": Size(
        {"images": 45_000, "images_per_step": 128},
        {"width": 192, "depth": 9, "heads": 6, "pretraining": 400, "epochs": 100},
        {"width": 16, "epochs": 200, "tuning": 200},
    ),
}


def create(setting: Setting) -> Study:
    """The study of chapter 27_masked: how much of a student's view is masked, and what else is done to it.

    One contrast is primary, and decides none of the book's claims: half of the cells masked minus none, in top-1 after
    fine-tuning on 10 % of the labels. Demonstrations have four arms, at one seed.
    """
    arms = by_label(*(_arm(setting, name) for name in (FIRST if setting.profile.trains else ARMS)))
    measured = {
        arm.measurement(seed): _student(setting, name, seed)
        for name, arm in arms.items()
        for seed in setting.seeds_of(arm)
    }
    later = dict.fromkeys(measured, LATER)
    return Study("27_masked", setting, arms, tuple(_contrasts(arms)), measured, later=later)


def _arm(setting: Setting, name: str) -> MeasuredArm:
    """Its policy is what is masked; the taxonomy says the rest."""
    fields = ARMS[name]
    seeds = "one" if setting.profile.trains else "usual" if name in USUAL else "few"
    less = fields is not None and fields.get("ratio", 0) > 0 and name != BLIND
    facts = Taxonomy(
        knowledge=() if fields is None else ("feature",),
        sees="student alone" if fields is None else "both, the student less of them" if less else "both the same",
        chosen_by="none", labels="the same" if fields is None else "none", status="inspired by",
    )  # fmt: skip
    view = f"a crop, {100 * fields['ratio']:g} % of its cells masked" if fields and "ratio" in fields else ""
    return MeasuredArm(
        name, Policy(name="weak1"), "masked", taxonomy=facts, seeds=seeds, tier=LATER, view=view,
        floor=None if name == ALONE else ALONE,
    )  # fmt: skip


def _shared(setting: Setting) -> dict[str, Any]:
    """What teachers and students have in common. In full precision where only float16 would be left."""
    both = dict(SIZES[setting.profile.name].both)
    both["images"] = min(both["images"], largest(setting.data))
    return {"data": setting.data, "machine": setting.machine.without_float16(), **both}


def _student(setting: Setting, name: str, seed: int) -> MaskedSpec:
    """The student of an arm. Its teacher has the same seed, but at demonstrations, where one serves all."""
    size, fields = SIZES[setting.profile.name], ARMS[name]
    own = {**_shared(setting), **size.student, "seed": seed}
    if fields is None:
        return MaskedSpec(**own | {"epochs": 0})
    teacher = TeacherSpec(**_shared(setting), **size.teacher, seed=setting.shared_seed(seed))
    return MaskedSpec(**own, **fields, teacher=teacher)


def _contrasts(arms: Mapping[str, Arm]) -> Iterable[Contrast]:
    """Those whose arms are there, the primary one first."""
    yield Contrast.of("V1", HALF, PLAIN, primary=True, among=PRIMARY, tier=LATER, margin=MARGIN)
    pairs = [
        (ALL, PLAIN), (HALF, ALL), *((masked(ratio), PLAIN) for ratio in RATIOS if ratio != RATIO),
        (JDA, PLAIN), (BOTH, JDA), (BOTH, PLAIN), (HALF, GREY), (GREY, PLAIN), (BLIND, HALF),
        *((name, ALONE) for name in (PLAIN, HALF)),
    ]  # fmt: skip
    for arm, than in pairs:
        if {arm, than} <= set(arms):
            yield Contrast.of(f"{arm} - {than}", arm, than, margin=MARGIN)
    if {BOTH, JDA} <= set(arms):
        text = "half masked - not, of JDA views - of plain crops"
        yield Contrast.interaction(INTERACTION, (BOTH, JDA), (HALF, PLAIN), text, margin=MARGIN)
