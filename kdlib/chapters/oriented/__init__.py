"""Turned boxes: does a teacher that never saw a turned object help or harm a student that does?

A turn of the picture is an exact augmentation here: the box turns with it, and its label changes. The teacher learns
from objects that are turned by 30 degrees at most; so do students, but for what their second view adds. Tests have all
angles.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kdlib.chapters.detectors import ALONE, BOTH, KD, LABELS, LATER, MARGIN, TAXONOMY, TERMS, Size, student
from kdlib.elsewhere.oriented.scenes import NAME, SEEN, UNSEEN
from kdlib.elsewhere.oriented.training import OrientedSpec
from kdlib.elsewhere.oriented.views import Turning
from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, MeasuredArm, by_label
from kdlib.study.setting import Setting, Study

#: What is done to the second view -> what arms call it.
VIEWS: Mapping[Turning, str] = {"weak2": "weak2", "rot90": "rot90", "any-angle": "any angle", "jda": "JDA"}
#: The same -> what a picture becomes, for the taxonomy.
BECOMES: Mapping[Turning, str] = {
    "weak2": "two crops",
    "rot90": "a crop and one after quarter turns",
    "any-angle": "a crop and one after a turn by any angle",
    "jda": "a crop and a JDA crop",
}
SIGHTED = ", sighted teacher"  # behind the label of an arm whose teacher saw all angles
BETA = 4.0  # of the decoupled divergence of angles
BETAS = (1.0, 8.0)  # of its controls
#: Metric of a run -> what it is called.
METRICS: Mapping[str, str] = {
    "ap50": "AP50",
    f"{SEEN}: ap50": "AP50, turned to 30°",
    f"{UNSEEN}: ap50": "AP50, turned further",
    "ap75": "AP75",
    "ap": "AP50-95",
    "clear_angle_error": "angle error, degrees",
}
PRIMARY = 1  # contrasts of this chapter that share an error rate
HELPS, INTERACTION = "KD on any angle", "any angle x teacher"


class Kind(NamedTuple):
    """What an arm is."""

    #: what is done to the second view
    second: Turning
    #: of TERMS, or ALONE
    terms: str
    #: what is done to the teacher's second view
    teacher: Turning = "weak2"
    #: of the decoupled divergence of angles
    beta: float = BETA

    @property
    def label(self) -> str:
        """What the arm is called."""
        control = f", beta {self.beta:g}" if self.beta != BETA else ""
        return label(self.second, self.terms) + (SIGHTED if self.teacher != "weak2" else "") + control


SIZES: Mapping[str, Size] = {
    "smoke": Size((12, 4), (4, 6), 2, 4, 1),
    "quick": Size((200, 40), (8, 16), 60, 4, 1),
    "reference": Size((2000, 500), (16, 32), 940, 16, 4),
    "paper": Size((2000, 500), (32, 48), 3000, 16, 4),
}


def create(setting: Setting, turned: str = "auto") -> Study:
    """The study of chapter 26_oriented: what is done to the second view by what it learns from, with a blind teacher.

    turned: the pictures, see `kdlib.elsewhere.oriented.load`; auto takes composed scenes. One contrast is primary, and
    decides none of the book's claims. Demonstrations have the four arms of its interaction with the teacher, at one
    seed.
    """
    kinds = {kind.label: kind for kind in _asked(setting)}
    arms = by_label(*(_arm(setting, kind) for kind in kinds.values()))
    data = NAME if turned == "auto" else turned
    measured = {
        arm.measurement(seed): _spec(setting, data, kinds[arm.label], seed)
        for arm in arms.values()
        for seed in setting.seeds_of(arm)
    }
    contrasts = tuple(_contrasts(arms, data == NAME))
    return Study("26_oriented", setting, arms, contrasts, measured, later=dict.fromkeys(measured, LATER))


def label(second: Turning, terms: str) -> str:
    """What an arm is called, of names of VIEWS and TERMS."""
    return f"{VIEWS[second]}, {terms}"


def _asked(setting: Setting) -> list[Kind]:
    first = [Kind(second, terms) for second in ("weak2", "any-angle") for terms in (BOTH, LABELS)]
    if setting.profile.trains:
        return first
    grid = [Kind(second, terms) for second in VIEWS for terms in TERMS]
    betas = [Kind("any-angle", BOTH, beta=beta) for beta in BETAS]
    sighted = [Kind(second, BOTH, teacher="any-angle") for second in ("weak2", "any-angle")]
    return [*first, *(kind for kind in grid if kind not in first), Kind("weak2", ALONE), *sighted, *betas]


def _arm(setting: Setting, kind: Kind) -> MeasuredArm:
    """The floor of students of a teacher is the one without."""
    floor = None if setting.profile.trains or kind.terms == ALONE else label("weak2", ALONE)
    seeds = "one" if setting.profile.trains else "few" if kind.beta != BETA else "usual"
    policy = Policy(name="jda" if kind.second == "jda" else "weak2")
    return MeasuredArm(
        kind.label, policy, "oriented", taxonomy=TAXONOMY, view=BECOMES[kind.second], seeds=seeds, tier=LATER,
        floor=floor, metric="ap50",
    )  # fmt: skip


def _spec(setting: Setting, data: str, kind: Kind, seed: int) -> OrientedSpec:
    """The student of an arm."""
    size, taught = SIZES[setting.profile.name], {"second": kind.teacher}
    return student(
        OrientedSpec, setting, size, data, kind.terms, seed, taught, second=kind.second, beta=kind.beta
    )  # fmt: skip


def _contrasts(arms: Mapping[str, Arm], ranges: bool) -> Iterable[Contrast]:
    """Those whose arms are there, the primary one first. ranges: whether the tests tell seen and unseen turns apart."""
    turned, plain = label("any-angle", BOTH), label("weak2", BOTH)
    gain = {second: (label(second, BOTH), label(second, LABELS)) for second in VIEWS}
    yield Contrast.of("O1", turned, plain, primary=True, among=PRIMARY, tier=LATER, metric="ap50", margin=MARGIN)
    yield _of("ap50", *gain["any-angle"], name=HELPS)
    text = "what KD adds on any angle - on plain views"
    yield Contrast.interaction(INTERACTION, gain["any-angle"], gain["weak2"], text, metric="ap50", margin=MARGIN)
    if ranges:
        for metric in (f"{SEEN}: ap50", f"{UNSEEN}: ap50"):
            yield _of(metric, turned, plain)
            yield _of(metric, *gain["any-angle"])
    for arm, than in (
        (label("any-angle", LABELS), label("weak2", LABELS)),
        (label("any-angle", KD), label("weak2", KD)),
        (label("any-angle", KD), label("any-angle", LABELS)),
        (label("rot90", BOTH), plain),
        (label("jda", BOTH), plain),
        (turned, label("rot90", BOTH)),
        (turned + SIGHTED, turned),
        (turned + SIGHTED, plain + SIGHTED),
        *((f"{turned}, beta {beta:g}", turned) for beta in BETAS),
        (plain, label("weak2", ALONE)),
    ):
        if {arm, than} <= set(arms):
            yield _of("ap50", arm, than)
    yield _of("ap75", turned, plain)  # the error of angles, in degrees, stands in the table of arms


def _of(metric: str, arm: str, than: str, name: str = "") -> Contrast:
    text = f"{METRICS[metric]}: {arm} - {than}"
    return Contrast(name or text, {arm: 1.0, than: -1.0}, text, metric=metric, margin=MARGIN)
