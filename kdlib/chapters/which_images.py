"""Which images should be augmented: those of which the teacher is least certain, as HE-DA has it, or any others?

And its sister: should the temperature of an image follow its energy, as Energy KD has it?
"""

from collections.abc import Mapping
from typing import Any

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import dkd_options, with_floor

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
# The same question of DKD, whose own arm is that of chapter 07_compatibility.
DKD_RISING, DKD_ONE = "DKD, T rises with energy", "DKD, one T"
# The loss of HE-DA, as a mean over each view: labels of the original view at 0.1, and none of the second; the teacher's
# answer to both at 0.9.
UNLABELLED: Mapping[str, Any] = {"weights": (0.2, 0.0, 1.8, 1.8)}
UNMIXED = "weak2, no second label"
PRIMARY = 1  # contrasts of this chapter that share an error rate


def picked(view: str, by: str, labelled: bool = True) -> str:
    """What an arm is called that augments the images that are chosen by energy, or at random."""
    return f"{VIEWS[view]} {'' if by == 'random' else 'where '}{PICKS[by]}" + ("" if labelled else ", no second label")


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
        *([] if setting.profile.trains else _explored(plain, few, dkd_options(setting))),
    ]
    arms = by_label(*with_floor(arms))
    return Study("20_which_images", setting, arms, _contrasts(arms))


def _some(view: str, by: str, **fields: Any) -> Arm:
    """A half of the images is augmented."""
    return Arm(picked(view, by), Policy(name="he_da", options={"view": view, "share": SHARE, "by": by}), **fields)


def _unlabelled(by: str, **fields: Any) -> Arm:
    """CutMix on a half of the images under the loss of HE-DA, whose second views have no label."""
    policy = _some("cutmix", by).policy
    return Arm(picked("cutmix", by, labelled=False), policy, "four_term", UNLABELLED, **fields)


def _explored(plain: Policy, few: dict[str, Any], dkd: Mapping[str, Any]) -> list[Arm]:
    """The other half, the augmentation and the loss of HE-DA itself, and the other rules for the temperature."""
    return [
        _some("jda", "lowest", **few),
        Arm("CutMix", Policy(name="cutmix"), seeds="few", tier=4),
        *(_some("cutmix", by, **few) for by in PICKS),
        *(Arm(RULES[rule], plain, "energy_kd", {"rule": rule}, **few) for rule in ("falling", "shuffled")),
        Arm(DKD_RISING, plain, "energy_dkd", dkd, **few),
        Arm(DKD_ONE, plain, "dkd", dkd, **few),
        *(_unlabelled(by, **few) for by in ("highest", "random")),
        Arm(UNMIXED, plain, "four_term", UNLABELLED, **few),
    ]


def _contrasts(arms: Mapping[str, Arm]) -> tuple[Contrast, ...]:
    """Those whose arms are there: the primary one first."""
    mixed = {by: picked("cutmix", by) for by in PICKS}
    bare = {by: picked("cutmix", by, labelled=False) for by in ("highest", "random")}
    rising, falling, shuffled, one = RULES.values()
    found = [
        Contrast.of("W1", HIGH, RANDOM, primary=True, among=PRIMARY),
        *(Contrast.of(f"{name} - {than}", name, than) for name, than in (
            (LOW, RANDOM), (HIGH, LOW), (HIGH, "weak2"), (RANDOM, "weak2"), (HIGH, "JDA"), (RANDOM, "JDA"),
            (mixed["highest"], mixed["random"]), (mixed["highest"], mixed["lowest"]), (mixed["random"], "CutMix"),
            (rising, one), (falling, one), (shuffled, one), (rising, falling), (rising, shuffled),
            (DKD_RISING, DKD_ONE), (bare["highest"], bare["random"]), (bare["highest"], UNMIXED),
        )),
        Contrast.interaction(
            "choice under JDA - choice under CutMix", (HIGH, RANDOM), (mixed["highest"], mixed["random"]),
            "high energy - random: JDA - CutMix",
        ),
    ]  # fmt: skip
    return tuple(contrast for contrast in found if set(contrast.weights) <= set(arms))
