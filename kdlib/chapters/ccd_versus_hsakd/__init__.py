"""CCD against HSAKD, SSKD and CRD: accuracy beside what training stores and computes."""

from collections.abc import Iterable
from dataclasses import replace

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import NO_TEACHER, RATES, dkd_options, slowed, with_floor

LONGER = "four times the views"


def create(setting: Setting) -> Study:
    """The study of chapter 09_ccd_versus_hsakd.

    HSAKD's and SSKD's own views are four turns of one image. HSAKD's teacher is the frozen one with branches, as in the
    primary contrast, or one whose backbone was trained together with its branches. HSAKD's loss has more terms than the
    one by which the recipe was chosen, so both sides are also trained at smaller learning rates, and since it makes
    fewer passes over the images also with four times the views; not at smoke and quick, nor four times at the published
    lengths.
    """
    jda, weak1, weak2 = Policy(name="jda"), Policy(name="weak1"), Policy(name="weak2")
    ccd, hsakd = Arm("CCD", jda, "ccd"), Arm("HSAKD, frozen teacher", weak1, "hsakd")
    arms = [
        Arm("KD + weak2", weak2),
        Arm("KD + JDA", jda),
        ccd,
        Arm("DKD + JDA", jda, "dkd", dkd_options(setting)),
        Arm("CRD", weak2, "crd", seeds="few", tier=3),
        Arm("SSKD", weak1, "sskd", seeds="few", tier=4),
        hsakd,
        Arm("HSAKD, joint teacher", weak1, "hsakd", head="hsakd_joint_teacher", seeds="few", tier=4),
    ]
    contrasts = [
        Contrast.of("f", "CCD", hsakd.label, primary=True, cheaper=("CCD", hsakd.label)),
        *(Contrast.of(f"CCD - {arm.label}", "CCD", arm.label) for arm in arms if arm.label not in ("CCD", hsakd.label)),
        *(Contrast.of(f"{label} - {NO_TEACHER}", label, NO_TEACHER) for label in ("CCD", hsakd.label)),
        Contrast.of(f"{hsakd.label} - KD + weak2", hsakd.label, "KD + weak2"),
    ]
    timing = setting.timing([arm for arm in arms if arm.label != "DKD + JDA"])
    longer: list[Arm] = []
    if not setting.profile.trains:
        for divisor, words in RATES.items():
            control = [slowed(arm, f"{arm.label}, {words}", setting, divisor) for arm in (ccd, hsakd)]
            arms += control
            contrasts += [Contrast.of(f"at {words}", *(arm.label for arm in control))]
    if setting.profile.pool is not None:  # a small scale: the published lengths need no longer one
        longer = with_floor(_longer([arms[0], arms[1], ccd, hsakd], setting), f"{NO_TEACHER}, {LONGER}")
        contrasts += [Contrast.of(f"with {LONGER}", f"CCD, {LONGER}", f"{hsakd.label}, {LONGER}")]
    arms = by_label(*with_floor(arms), *longer)
    return Study("09_ccd_versus_hsakd", setting, arms, tuple(contrasts), {"timing": timing})


def _longer(arms: Iterable[Arm], setting: Setting) -> list[Arm]:
    """The arms once more, with four times the views of each image."""
    views = {"views_per_image": 4 * setting.profile.recipe.views_per_image}
    return [replace(a, label=f"{a.label}, {LONGER}", recipe={**a.recipe, **views}, seeds="few", tier=3) for a in arms]
