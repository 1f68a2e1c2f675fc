"""Claim (b): training the teacher with augmentation improves the teacher, but not the student."""

from collections.abc import Iterable

from kdlib.lab.recipe import Policy, Public
from kdlib.study.arms import Arm, Contrast, OwnTeacher, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import with_floor

PLAIN, AUGMENTED, PUBLIC = "plain teacher", "JDA teacher", "public teacher"


def create(setting: Setting) -> Study:
    """The study of chapter 04_augmented_teacher. Both teachers have one recipe and equal views; only JDA differs.

    What they say on JDA views is measured with those of the first seed. Where other chapters learn from a public
    teacher, it stands beside the two: what it says, and its students, whose runs are those of 03_blind_teacher.
    """
    weak2, jda = Policy(name="weak2"), Policy(name="jda")
    teachers = {PLAIN: OwnTeacher(weak2), AUGMENTED: OwnTeacher(jda)}
    ways = {"KD + JDA": jda} if setting.profile.trains else {"KD + weak2": weak2, "KD + JDA": jda}
    public = isinstance(setting.teacher(), Public)
    taught = teachers | ({PUBLIC: None} if public and len(ways) > 1 else {})
    arms = by_label(
        *(Arm(name, own.policy, "ce", teacher=own, is_teacher=True) for name, own in teachers.items()),
        *with_floor(Arm(f"{way}, {name}", ways[way], teacher=own) for way in ways for name, own in taught.items()),
    )
    students = [(f"{way}, {AUGMENTED}", f"{way}, {PLAIN}") for way in ways]
    contrasts = (
        Contrast.of("b1", AUGMENTED, PLAIN, primary=True),
        Contrast.mean_of(
            "b2", students, f"students of the {AUGMENTED} - students of the {PLAIN}", says="no better", primary=True
        ),
        *(Contrast.of(f"{way}: difference of students", *pair) for way, pair in zip(ways, students, strict=True)),
        *(Contrast.of(f"gain with a {name}", *_gain(name)) for name in taught if len(ways) > 1),
        *(_against_public(ways) if PUBLIC in taught else ()),
    )
    measured = {name: setting.views(jda, setting.own_teacher(setting.seeds[0], own)) for name, own in teachers.items()}
    if public:
        measured[PUBLIC] = setting.views(jda, setting.teacher())
    return Study("04_augmented_teacher", setting, arms, contrasts, measured)


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
