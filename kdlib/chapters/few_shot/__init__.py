"""Claim (d): augmentation helps distillation from few images.

And, where they are fewest: is it better to augment an image where the teacher looks, as Tian and Chen have it?
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import GAIN, NO_TEACHER, OURS, our_teacher, with_floor

WAYS = {
    "weak2": (Policy(name="weak2"), "kd"),
    "JDA": (Policy(name="jda"), "kd"),
    "CCD": (Policy(name="jda"), "ccd"),
    "RandAugment": (Policy(name="randaugment"), "kd"),
}
EQUAL_EPOCHS = ", equal epochs"
DROP, RANDOM_DROP, CROP, RANDOM_CROP = "attention drop", "random drop", "attention crop", "random crop"
#: Views that are made where the teacher looks, and their controls.
ATTENDED: Mapping[str, Policy] = {
    DROP: Policy(name="attention_drop"),
    RANDOM_DROP: Policy(name="attention_drop", options={"by": "random"}),
    "random drop, anew": Policy(name="attention_drop", options={"by": "fresh"}),
    "untrained drop": Policy(name="attention_drop", options={"by": "untrained"}),
    "central drop": Policy(name="attention_drop", options={"by": "centre"}),
    CROP: Policy(name="attention_crop"),
    RANDOM_CROP: Policy(name="attention_crop", options={"by": "random"}),
    "central crop": Policy(name="attention_crop", options={"by": "centre"}),
}
DECIDING = (DROP, RANDOM_DROP)  # of these views
LATER = 3  # the tier of these arms
PRIMARY = 1  # contrasts of these views that share an error rate


def create(setting: Setting, fractions: list[float] | None = None) -> Study:
    """The study of chapter 06_few_shot: nested subsets, equal steps at every fraction, in every arm.

    fractions: shares of the training images, above 0 and up to 1; ValueError for others. Two of them are also trained
    for equal epochs, where a smaller subset makes fewer steps. Where the teacher is a public checkpoint, the claim is
    asked of one of ours too. Views that are made where the teacher looks are asked about at the smallest of the
    profile's own fractions, with a primary contrast that decides none of the book's claims.
    """
    scale = setting.profile
    if not all(0 < fraction <= 1 for fraction in fractions or ()):
        raise ValueError(f"fractions = {fractions!r} must be shares of the training images, above 0 and up to 1")
    chosen = sorted({scale.few_shot_fraction, *(fractions or scale.few_shot)})
    ways = [name for name in WAYS if not scale.trains or name != "RandAugment"]
    groups = [_arms(setting, ways, fraction, _equal_steps(setting, fraction)) for fraction in chosen]
    groups += [_arms(setting, ways, fraction, {}, EQUAL_EPOCHS) for fraction in _equal_epochs(setting, chosen)]
    arms = by_label(*(arm for group in groups for arm in group))
    series = {name: {f"{percent(f)}: {name}": f for f in chosen} for name in ways}
    contrasts = (*_contrasts(setting, arms), *_of_attention(setting, arms))
    return Study("06_few_shot", setting, arms, contrasts, series=series)


def percent(fraction: float) -> str:
    """A fraction as a label."""
    return f"{100 * fraction:.3g} %"


def _equal_epochs(setting: Setting, chosen: list[float]) -> list[float]:
    """The fractions that are trained for equal epochs too: the smallest, and the one that decides."""
    two = sorted({chosen[0], setting.profile.few_shot_fraction})
    return [] if setting.profile.trains else two if len(two) > 1 else chosen[:2]


def _contrasts(setting: Setting, labels: dict[str, Arm]) -> list[Contrast]:
    """Each arm but floors minus two plain crops of the same group; that of JDA at the named fraction decides."""
    decides = f"{percent(setting.profile.few_shot_fraction)}: JDA"
    control = f"{decides.removesuffix('JDA')}{OURS}, JDA"
    found = []
    for label in labels:
        group, way = label.rsplit(": ", 1)
        if label == decides:
            known = {"control": GAIN} if control in labels else {}
            found.append(Contrast.of("d", label, f"{group}: weak2", primary=True, **known))
        elif label == control:
            found.append(Contrast.of(GAIN, label, f"{group}: {OURS}, weak2"))
        elif way in WAYS and way != "weak2":
            found.append(Contrast.of(f"{label} - weak2", label, f"{group}: weak2"))
    return found


def smallest(setting: Setting) -> str:
    """What arms at the smallest fraction of a profile begin with."""
    return f"{percent(min(setting.profile.few_shot))}: "


def _of_attention(setting: Setting, labels: Mapping[str, Arm]) -> Iterator[Contrast]:
    """Of views that are made where the teacher looks: the primary one first, then each control, and the zero point."""
    group = smallest(setting)
    drops, crops = ([name for name in ATTENDED if name.endswith(kind)] for kind in ("drop", "crop"))
    pairs = [(DROP, than) for than in ("random drop, anew", *drops[2:])] + [(CROP, than) for than in crops[1:]]
    pairs += [(name, than) for name in ATTENDED for than in ("weak2", "JDA") if than == "weak2" or name in (DROP, CROP)]
    primary = Contrast.of("P1", group + DROP, group + RANDOM_DROP, primary=True, among=PRIMARY, tier=LATER)
    others = (Contrast.of(f"{group}{name} - {than}", group + name, group + than) for name, than in pairs)
    yield from (contrast for contrast in (primary, *others) if set(contrast.weights) <= set(labels))


def _arms(setting: Setting, ways: list[str], fraction: float, recipe: dict, note: str = "") -> list[Arm]:
    """The ways at one fraction, above their floor, and at the one that decides the claim those of a teacher of ours."""
    group, decides = f"{percent(fraction)}{note}: ", fraction == setting.profile.few_shot_fraction and not note
    arms = [
        Arm(
            f"{group}{name}", policy, method, fraction=fraction, recipe=recipe,
            seeds="usual" if decides and name in ("weak2", "JDA") else "few",
            tier=4 if name == "RandAugment" else 3 if note else 2,
        )
        for name, (policy, method) in WAYS.items()
        if name in ways
    ]  # fmt: skip
    if decides and (ours := our_teacher(setting)):
        arms += [
            Arm(f"{group}{OURS}, {name}", WAYS[name][0], teacher=ours, fraction=fraction, recipe=recipe)
            for name in ("weak2", "JDA")
        ]
    if group == smallest(setting):
        arms += _attended(setting, group, {"fraction": fraction, "recipe": recipe})
    return with_floor(arms, f"{group}{NO_TEACHER}")


def _attended(setting: Setting, group: str, fields: Mapping[str, Any]) -> list[Arm]:
    """Views that are made where the teacher looks, and their controls; demonstrations have those that decide, once."""
    once = setting.profile.trains
    return [
        Arm(group + name, policy, tier=LATER, seeds="one" if once else "usual" if name in DECIDING else "few", **fields)
        for name, policy in ATTENDED.items()
        if name in DECIDING or not once
    ]


def _equal_steps(setting: Setting, fraction: float) -> dict:
    """The views per image that make as many steps as the profile's own fraction."""
    scale = setting.profile
    return {"views_per_image": max(1, round(scale.recipe.views_per_image * scale.fraction / fraction))}
