"""Claim (b): training the teacher with augmentation improves the teacher, but not the student.

And beside it: does a teacher that is trained for its student, as SoTeacher's are, teach better?
"""

from collections.abc import Iterable, Mapping
from typing import Any

from kdlib.lab.recipe import Policy, Public
from kdlib.study.arms import Arm, Contrast, OwnTeacher, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import with_floor

PLAIN, AUGMENTED, PUBLIC = "plain teacher", "JDA teacher", "public teacher"
# The teachers of SoTeacher's terms, one by one and together.
CONSISTENT, SMOOTH, BOTH = "JDA + consistency teacher", "Lipschitz teacher", "SoTeacher with JDA"
LATER = 3  # the tier of these, their students, and what they say on views
PRIMARY = 1  # contrasts about them that share an error rate
OF_B2 = f"students of the {AUGMENTED} - students of the {PLAIN}"
SEEN = {"weak2": Policy(name="weak2"), "JDA": Policy(name="jda")}


def create(setting: Setting) -> Study:
    """The study of chapter 04_augmented_teacher. Both teachers have one recipe and equal views; only JDA differs.

    What they say on JDA views is measured with those of the first seed. Where other chapters learn from a public
    teacher, it stands beside the two: what it says, and its students, whose runs are those of 03_blind_teacher.

    Teachers with the terms of SoTeacher come later, and not at demonstrations. One contrast about them is primary and
    decides none of the book's claims: students of the JDA teacher with the consistency term minus those of the JDA
    teacher.
    """
    teachers = {PLAIN: OwnTeacher(SEEN["weak2"]), AUGMENTED: OwnTeacher(SEEN["JDA"])}
    later = {} if setting.profile.trains else _later()
    ways = [f"KD + {views}" for views in SEEN if views == "JDA" or not setting.profile.trains]
    public = isinstance(setting.teacher(), Public)
    taught = teachers | ({PUBLIC: None} if public and len(ways) > 1 else {})
    arms = by_label(
        *(_teacher(name, own) for name, own in teachers.items()),
        *with_floor([
            *(_student(way, name, own) for way in ways for name, own in taught.items()),
            *(_teacher(name, own, later=True) for name, own in later.items()),
            *(_student(way, name, own, later=True) for way in ways for name, own in later.items()),
        ]),
    )  # fmt: skip
    contrasts = (
        Contrast.of("b1", AUGMENTED, PLAIN, primary=True),
        _of_students("b2", AUGMENTED, PLAIN, ways, OF_B2, says="no better", primary=True),
        *(Contrast.of(f"{w}: difference of students", f"{w}, {AUGMENTED}", f"{w}, {PLAIN}") for w in ways),
        *(Contrast.of(f"gain with a {name}", *_gain(name)) for name in taught if len(ways) > 1),
        *(_against_public(ways) if PUBLIC in taught else ()),
        *(_of_soteacher(ways) if later else ()),
    )
    shown = teachers | later
    measured = {
        name: setting.views(SEEN["JDA"], setting.own_teacher(setting.seeds[0], own)) for name, own in shown.items()
    }
    if public:
        measured[PUBLIC] = setting.views(SEEN["JDA"], setting.teacher())
    return Study("04_augmented_teacher", setting, arms, contrasts, measured, later={name: LATER for name in later})


def _later() -> dict[str, OwnTeacher]:
    """The teachers with terms of SoTeacher, at its own weights; a term that is left out weighs nothing."""
    terms = {
        CONSISTENT: ("JDA", {"lipschitz_weight": 0.0}),
        SMOOTH: ("weak2", {"consistency_weight": 0.0}),
        BOTH: ("JDA", {}),
    }
    return {name: OwnTeacher(SEEN[v], method="soteacher", options=options) for name, (v, options) in terms.items()}


def _teacher(name: str, own: OwnTeacher, later: bool = False) -> Arm:
    return Arm(name, own.policy, own.method, own.options, teacher=own, is_teacher=True, **_when(name, later))


def _student(way: str, name: str, own: OwnTeacher | None, later: bool = False) -> Arm:
    return Arm(f"{way}, {name}", SEEN[way.removeprefix("KD + ")], teacher=own, **_when(name, later))


def _when(teacher: str, later: bool) -> dict[str, Any]:
    """Seeds and tier of an arm of a teacher; those that decide have as many seeds as usual."""
    return {"tier": LATER, "seeds": "usual" if teacher == CONSISTENT else "few"} if later else {}


def _of_students(name: str, teacher: str, than: str, ways: Iterable[str], text: str = "", **fields: Any) -> Contrast:
    """The mean over ways of the students of one teacher minus those of another."""
    pairs = [(f"{way}, {teacher}", f"{way}, {than}") for way in ways]
    return Contrast.mean_of(name, pairs, text or f"students: {teacher} - {than}", **fields)


def _of_soteacher(ways: Iterable[str]) -> list[Contrast]:
    """What the terms of SoTeacher change in a teacher, and in its students: the primary one first."""
    pairs: Mapping[str, str] = {CONSISTENT: AUGMENTED, SMOOTH: PLAIN, BOTH: AUGMENTED}
    return [
        _of_students("S1", CONSISTENT, AUGMENTED, ways, primary=True, among=PRIMARY, tier=LATER),
        *(Contrast.of(f"{name} - {than}", name, than) for name, than in pairs.items()),
        *(_of_students(f"students: {name}", name, pairs[name], ways) for name in (SMOOTH, BOTH)),
        _of_students("students: all - plain", BOTH, PLAIN, ways),
    ]


def _gain(teacher: str) -> tuple[str, str]:
    """The two arms whose difference is what JDA brings to students of a teacher."""
    return f"KD + JDA, {teacher}", f"KD + weak2, {teacher}"


def _against_public(ways: Iterable[str]) -> list[Contrast]:
    """Students of the plain teacher against those of the public one, and what JDA brings to the one more."""
    text = f"gain with the {PUBLIC} - gain with the {PLAIN}"
    return [
        *(Contrast.of(f"{way}: {PLAIN} - {PUBLIC}", f"{way}, {PLAIN}", f"{way}, {PUBLIC}") for way in ways),
        Contrast.interaction("gain: public - plain", _gain(PUBLIC), _gain(PLAIN), text),
    ]
