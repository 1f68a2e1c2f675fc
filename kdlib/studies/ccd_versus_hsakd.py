"""CCD against HSAKD, SSKD and CRD: accuracy beside what training stores and computes."""

from kdlib.specs import Policy
from kdlib.studies.base import Arm, Contrast, Setting, Study, by_label
from kdlib.studies.rates import SLOWLY, slowed


def create(setting: Setting) -> Study:
    """The study of chapter 09_ccd_versus_hsakd.

    HSAKD's and SSKD's own views are four turns of one image. HSAKD's teacher is the frozen one with branches, as in the
    primary contrast, or one whose backbone was trained together with its branches. HSAKD's loss has more terms than the
    one by which the recipe was chosen, so both sides are also trained at a smaller learning rate; not at smoke and
    quick.
    """
    jda, weak1, weak2 = Policy(name="jda"), Policy(name="weak1"), Policy(name="weak2")
    ccd, hsakd = Arm("CCD", jda, "ccd"), Arm("HSAKD, frozen teacher", weak1, "hsakd")
    arms = [
        Arm("KD + weak2", weak2),
        Arm("KD + JDA", jda),
        ccd,
        Arm("CRD", weak2, "crd", seeds="few", tier=3),
        Arm("SSKD", weak1, "sskd", seeds="few", tier=4),
        hsakd,
        Arm("HSAKD, joint teacher", weak1, "hsakd", head="hsakd_joint_teacher", seeds="few", tier=4),
    ]
    contrasts = [
        Contrast.of("f", "CCD", hsakd.label, primary=True, cheaper=("CCD", hsakd.label)),
        *(Contrast.of(f"CCD - {arm.label}", "CCD", arm.label) for arm in arms if arm.label not in ("CCD", hsakd.label)),
        Contrast.of(f"{hsakd.label} - KD + weak2", hsakd.label, "KD + weak2"),
    ]
    timing = setting.timing(arms)
    if not setting.profile.trains:
        control = [slowed(arm, f"{arm.label}, {SLOWLY}", setting) for arm in (ccd, hsakd)]
        arms += control
        contrasts += [Contrast.of("at a smaller rate", *(arm.label for arm in control))]
    return Study("09_ccd_versus_hsakd", setting, by_label(*arms), tuple(contrasts), {"timing": timing})
