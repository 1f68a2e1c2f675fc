"""Does it hold for another student? The headline arms with a second network in place of the first."""

from kdlib.lab.recipe import Policy
from kdlib.models import MODELS
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import NO_TEACHER, with_floor

WAYS = {"weak2": (Policy(name="weak2"), "kd"), "JDA": (Policy(name="jda"), "kd"), "CCD": (Policy(name="jda"), "ccd")}


def create(setting: Setting, student: str = "auto") -> Study:
    """The study of chapter 17_another_student: KD with two plain crops, with JDA, and CCD, for two students.

    student: the second network; "auto" takes the profile's, or the student of its first pair where the pair's own is
    the profile's second. ValueError for an unknown one, or for the first.
    """
    first, scale = setting.networks[1], setting.profile
    own = (scale.second_student, next(iter(scale.pairs.values()))[1])
    second = next(name for name in own if name != first) if student == "auto" else student
    if second not in MODELS or second == first:
        others = ", ".join(name for name in MODELS if name != first)
        raise ValueError(f"student = {second!r} is no second student beside {first}; allowed are auto, {others}")
    arms = by_label(*(arm for network in (first, second) for arm in _arms(network)))
    pairs = {"JDA - weak2": ("JDA", "weak2"), "CCD - JDA": ("CCD", "JDA")}
    sides = {
        (text, network): tuple(f"{network}: {name}" for name in pair)
        for text, pair in pairs.items()
        for network in (first, second)
    }
    contrasts = (
        *(Contrast.of(f"{text}, {network}", *side) for (text, network), side in sides.items()),
        *(
            Contrast.interaction(
                f"interaction of {text}", sides[text, second], sides[text, first], f"{text}: {second} - {first}"
            )
            for text in pairs
        ),
    )
    return Study("17_another_student", setting, arms, contrasts)


def _arms(network: str) -> list[Arm]:
    """The ways of one student, above its floor."""
    ways = [
        Arm(f"{network}: {name}", policy, method, student=network, seeds="few", tier=3)
        for name, (policy, method) in WAYS.items()
    ]
    return with_floor(ways, f"{network}: {NO_TEACHER}")
