"""Claim (b): training the teacher with augmentation improves the teacher, but not the student."""

from kdlib.specs import Policy, Public
from kdlib.studies.base import Arm, Contrast, OwnTeacher, Setting, Study, by_label

PLAIN, AUGMENTED = "plain teacher", "JDA teacher"


def create(setting: Setting) -> Study:
    """The study of chapter 04_augmented_teacher. Both teachers have one recipe and equal views; only JDA differs.

    What they say on JDA views is measured with those of the first seed, and with the public teacher of the other
    chapters where there is one.
    """
    weak2, jda = Policy(name="weak2"), Policy(name="jda")
    teachers = {PLAIN: OwnTeacher(weak2), AUGMENTED: OwnTeacher(jda)}
    ways = {"KD + JDA": jda} if setting.profile.trains else {"KD + weak2": weak2, "KD + JDA": jda}
    arms = by_label(
        *(Arm(name, own.policy, "ce", teacher=own, is_teacher=True) for name, own in teachers.items()),
        *(Arm(f"{way}, {name}", ways[way], teacher=teachers[name]) for way in ways for name in teachers),
    )
    students = [(f"{way}, {AUGMENTED}", f"{way}, {PLAIN}") for way in ways]
    contrasts = (
        Contrast.of("b1", AUGMENTED, PLAIN, primary=True),
        Contrast.mean_of(
            "b2", students, f"students of the {AUGMENTED} - students of the {PLAIN}", says="no better", primary=True
        ),
        *(Contrast.of(f"{way}: difference of students", *pair) for way, pair in zip(ways, students, strict=True)),
        *(
            Contrast.of(f"gain with a {teacher}", f"KD + JDA, {teacher}", f"KD + weak2, {teacher}")
            for teacher in teachers
            if "KD + weak2" in ways
        ),
    )
    measured = {name: setting.views(jda, setting.own_teacher(setting.seeds[0], own)) for name, own in teachers.items()}
    if isinstance(public := setting.teacher(), Public):
        measured["public teacher"] = setting.views(jda, public)
    return Study("04_augmented_teacher", setting, arms, contrasts, measured)
