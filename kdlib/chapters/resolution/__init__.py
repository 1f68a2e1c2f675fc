"""Is resolution an augmentation: should the teacher see more of an image than its student, or the same?

The student sees means over squares of 2 x 2 pixels: as an image of half the side, or repeated to the full one. The
teacher sees the image as it is (asymmetric), or those means (consistent).

And the other way round: may a view of fewer details be one more augmentation, for a student of whole images?

Squares of 4 x 4 pixels are the option `scale=4` of the method. The same question of a detector, trees at 96 pixels
under a teacher that sees 192, is not built.
"""

from collections.abc import Mapping
from typing import Any

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import NO_TEACHER, with_floor

SCALE = 2
VIEWS: Mapping[str, Policy] = {"weak2": Policy(name="weak2"), "JDA": Policy(name="jda")}
STUDENTS: Mapping[str, str] = {"small": "small", "up-sampled": "upsampled"}  # words -> student_input
TEACHERS: Mapping[str, str] = {"asymmetric": "high", "consistent": "low"}  # words -> teacher_input
# Labels and the teacher's answer alone; and the further terms, one at a time.
ALONE: Mapping[str, float] = {"gram_weight": 0.0, "mmd_weight": 0.0, "attention_weight": 0.0}
TERMS: Mapping[str, Mapping[str, float]] = {
    "pairwise term": {"gram_weight": 1.0},
    "MMD": {"mmd_weight": 1.0},
    "attention": {"attention_weight": 1.0},
    "discriminator": {"discriminator_weight": 0.1},
}
# Views of fewer details for students of whole images, alone and after JDA: means over squares of 1, 2 or 4 pixels a
# side, drawn for each view.
COARSE, JDA_COARSE = "coarse views", "JDA, then coarse"
PRIMARY = 1  # contrasts of this chapter that share an error rate


def label(views: str, student: str, teacher: str) -> str:
    """What an arm is called."""
    return f"{views}, {student}, {teacher}"


def floor(student: str) -> str:
    """What the students of one resolution without a teacher are called."""
    return f"{NO_TEACHER}, {student}"


def create(setting: Setting) -> Study:
    """The study of chapter 21_resolution.

    One contrast is primary here, and decides none of the book's claims: a teacher that sees the image as it is minus
    one that sees what its small student sees, on two plain crops. Demonstrations have its arms, and JDA.
    """
    whole = [Arm(views, policy, seeds="many") for views, policy in VIEWS.items()]
    arms = [*with_floor(whole), _floor("small"), *(_arm("weak2", "small", teacher) for teacher in TEACHERS)]
    arms += [_arm("JDA", "small", "asymmetric")] if setting.profile.trains else _others()
    arms = by_label(*arms)
    return Study("21_resolution", setting, arms, _contrasts(arms))


def _arm(views: str, student: str, teacher: str, term: str = "", **fields: Any) -> Arm:
    """Students of one resolution under a teacher of another, or of the same; term: one of TERMS that is added."""
    seen = {"scale": SCALE, "student_input": STUDENTS[student], "teacher_input": TEACHERS[teacher]}
    added = TERMS.get(term, {})
    name = label(views, student, teacher) + (f" + {term}" if term else "")
    return Arm(name, VIEWS[views], "resolution", {**seen, **ALONE, **added}, floor=floor(student), **fields)


def _floor(student: str, **fields: Any) -> Arm:
    """The same students without a teacher."""
    options = {"scale": SCALE, "student_input": STUDENTS[student]}
    return Arm(floor(student), VIEWS["weak2"], "resolution_ce", options, **fields)


def _others() -> list[Arm]:
    """JDA for the small students, all of it for the up-sampled ones, and the further terms."""
    few: dict[str, Any] = {"seeds": "few", "tier": 3}
    return [
        *(_arm("JDA", "small", teacher) for teacher in TEACHERS),
        _floor("up-sampled", **few),
        *(_arm(views, "up-sampled", teacher, **few) for views in VIEWS for teacher in TEACHERS),
        *(_arm("weak2", "small", "asymmetric", term, **few) for term in TERMS),
        *(Arm(name, Policy(name="coarse", options=options), floor=NO_TEACHER, **few)
          for name, options in ((COARSE, {}), (JDA_COARSE, {"ops": "cifar100"}))),
    ]  # fmt: skip


def _contrasts(arms: Mapping[str, Arm]) -> tuple[Contrast, ...]:
    """Those whose arms are there: the primary one first."""
    sides = {(v, s): (label(v, s, "asymmetric"), label(v, s, "consistent")) for v in VIEWS for s in STUDENTS}
    gains = {(s, t): (label("JDA", s, t), label("weak2", s, t)) for s in STUDENTS for t in TEACHERS}
    small, _ = sides["weak2", "small"]
    up, _ = sides["weak2", "up-sampled"]
    found = [
        Contrast.of("L1", *sides["weak2", "small"], primary=True, among=PRIMARY),
        *(Contrast.of(f"asymmetric - consistent, {v}, {s}", *pair) for (v, s), pair in sides.items()
          if (v, s) != ("weak2", "small")),
        *(Contrast.of(f"gain of JDA, {s}, {t}", *pair) for (s, t), pair in gains.items()),
        *(Contrast.interaction(
            f"JDA x resolution, {s}, {t}", pair, ("JDA", "weak2"), f"gain from JDA: {s}, {t} - whole images"
        ) for (s, t), pair in gains.items()),
        *(Contrast.of(f"{name} - {than}", name, than) for name, than in (
            (small, up), (up, "weak2"), (small, floor("small")), (floor("small"), NO_TEACHER),
        )),
        *(Contrast.of(f"with {term}", f"{small} + {term}", small) for term in TERMS),
        *(Contrast.of(f"{name} - {than}", name, than) for name, than in (
            (COARSE, "weak2"), (COARSE, "JDA"), (JDA_COARSE, "JDA"),
        )),
    ]  # fmt: skip
    return tuple(contrast for contrast in found if set(contrast.weights) <= set(arms))
