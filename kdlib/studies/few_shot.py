"""Claim (d): augmentation helps distillation from few images."""

from kdlib.specs import Policy
from kdlib.studies.base import Arm, Contrast, Setting, Study, by_label

WAYS = {
    "weak2": (Policy(name="weak2"), "kd"),
    "JDA": (Policy(name="jda"), "kd"),
    "CCD": (Policy(name="jda"), "ccd"),
    "RandAugment": (Policy(name="randaugment"), "kd"),
}


def create(setting: Setting, fractions: list[float] | None = None) -> Study:
    """The study of chapter 06_few_shot: nested subsets, equal steps at every fraction, in every arm.

    fractions: shares of the training images, above 0 and up to 1; ValueError for others. Two of them are also trained
    for equal epochs, where a smaller subset makes fewer steps.
    """
    scale = setting.profile
    if not all(0 < fraction <= 1 for fraction in fractions or ()):
        raise ValueError(f"fractions = {fractions!r} must be shares of the training images, above 0 and up to 1")
    chosen = sorted({scale.few_shot_fraction, *(fractions or scale.few_shot)})
    ways = {name: way for name, way in WAYS.items() if not scale.trains or name in ("weak2", "JDA", "CCD")}
    arms = [arm for f in chosen for arm in _arms(ways, f, _equal_steps(setting, f), "", scale.few_shot_fraction)]
    two = {chosen[0], scale.few_shot_fraction}
    epochs = () if scale.trains else sorted(two) if len(two) > 1 else chosen[:2]
    arms += [arm for f in epochs for arm in _arms(ways, f, {}, ", equal epochs")]
    labelled = by_label(*arms)
    contrasts = [
        Contrast.of("d" if main else f"{label} - weak2", label, f"{label.rsplit(': ', 1)[0]}: weak2", primary=main)
        for label in labelled
        if not label.endswith(": weak2")
        for main in (label == f"{percent(scale.few_shot_fraction)}: JDA",)
    ]
    series = {name: {f"{percent(f)}: {name}": f for f in chosen} for name in ways}
    return Study("06_few_shot", setting, labelled, tuple(contrasts), series=series)


def percent(fraction: float) -> str:
    """A fraction as a label."""
    return f"{100 * fraction:.3g} %"


def _arms(ways: dict, fraction: float, recipe: dict, note: str, main: float | None = None) -> list[Arm]:
    """main: the fraction that decides the claim, with two of the ways."""
    return [
        Arm(
            f"{percent(fraction)}{note}: {name}", policy, method, fraction=fraction, recipe=recipe,
            seeds="usual" if fraction == main and name in ("weak2", "JDA") else "few",
            tier=4 if name == "RandAugment" else 3 if note else 2,
        )
        for name, (policy, method) in ways.items()
    ]  # fmt: skip


def _equal_steps(setting: Setting, fraction: float) -> dict:
    """The views per image that make as many steps as the profile's own fraction."""
    scale = setting.profile
    return {"views_per_image": max(1, round(scale.recipe.views_per_image * scale.fraction / fraction))}
