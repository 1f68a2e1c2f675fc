"""Which images should be augmented: those of which the teacher is least certain, as HE-DA has it, or any others?

And its sister: should the temperature of an image follow its energy, as Energy KD has it?
"""

from collections.abc import Mapping
from typing import Any

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import with_floor

PICKS: Mapping[str, str] = {"highest": "energy is high", "random": "at random", "lowest": "energy is low"}
VIEWS: Mapping[str, str] = {"jda": "JDA", "cutmix": "CutMix"}
# Of the images; the released program's, for most of its pairs.
SHARE = 0.5
# The temperatures of Energy KD by the rule that assigns them. One temperature for all is KD with its weights.
RULES: Mapping[str, str] = {
    "rising": "T rises with energy",
    "falling": "T falls with energy",
    "shuffled": "T shuffled",
    "constant": "one T",
}
WEIGHTS: Mapping[str, float] = {"ce_weight": 0.1, "kd_weight": 0.9}
PRIMARY = 1  # contrasts of this chapter that share an error rate


def picked(view: str, by: str) -> str:
    """What an arm is called that augments the images that are chosen by energy, or at random."""
    return f"{VIEWS[view]} {'' if by == 'random' else 'where '}{PICKS[by]}"


HIGH, RANDOM, LOW = (picked("jda", by) for by in PICKS)


def create(setting: Setting) -> Study:
    """The study of chapter 20_which_images.

    One contrast is primary here, and decides none of the book's claims: JDA on the half of the images with the highest
    energy minus JDA on a random half. Demonstrations have its arms, and Energy KD as it was released.
    """
    plain = Policy(name="weak2")
    few = {"seeds": "few", "tier": 3}
    arms = [
        Arm("weak2", plain, seeds="many"),
        Arm("JDA", Policy(name="jda"), seeds="many"),
        *(_some("jda", by) for by in ("highest", "random")),
        Arm(RULES["rising"], plain, "energy_kd", **few),
        Arm(RULES["constant"], plain, "kd", WEIGHTS, **few),
        *([] if setting.profile.trains else _explored(plain, few)),
    ]
    arms = by_label(*with_floor(arms))
    return Study("20_which_images", setting, arms, _contrasts(arms))


def _some(view: str, by: str, **fields: Any) -> Arm:
    """A half of the images is augmented."""
    return Arm(picked(view, by), Policy(name="he_da", options={"view": view, "share": SHARE, "by": by}), **fields)


def _explored(plain: Policy, few: dict[str, Any]) -> list[Arm]:
    """The other half, the augmentation of HE-DA itself, and the other rules for the temperature."""
    return [
        _some("jda", "lowest", **few),
        Arm("CutMix", Policy(name="cutmix"), seeds="few", tier=4),
        *(_some("cutmix", by, **few) for by in PICKS),
        *(Arm(RULES[rule], plain, "energy_kd", {"rule": rule}, **few) for rule in ("falling", "shuffled")),
    ]


def _contrasts(arms: Mapping[str, Arm]) -> tuple[Contrast, ...]:
    """Those whose arms are there: the primary one first."""
    mixed = {by: picked("cutmix", by) for by in PICKS}
    rising, falling, shuffled, one = RULES.values()
    found = [
        Contrast.of("W1", HIGH, RANDOM, primary=True, among=PRIMARY),
        *(Contrast.of(f"{name} - {than}", name, than) for name, than in (
            (LOW, RANDOM), (HIGH, LOW), (HIGH, "weak2"), (RANDOM, "weak2"), (HIGH, "JDA"), (RANDOM, "JDA"),
            (mixed["highest"], mixed["random"]), (mixed["highest"], mixed["lowest"]), (mixed["random"], "CutMix"),
            (rising, one), (falling, one), (shuffled, one), (rising, falling), (rising, shuffled),
        )),
        Contrast.interaction(
            "choice under JDA - choice under CutMix", (HIGH, RANDOM), (mixed["highest"], mixed["random"]),
            "high energy - random: JDA - CutMix",
        ),
    ]  # fmt: skip
    return tuple(contrast for contrast in found if set(contrast.weights) <= set(arms))
