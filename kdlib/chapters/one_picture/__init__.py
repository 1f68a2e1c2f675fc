"""CCD in one picture: what it reaches and what it costs, beside what it is made of and its rivals."""

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import dkd_options, with_floor

PLAIN, JDA, CCD, MEAN, DKD, HSAKD = "KD + weak2", "KD + JDA", "CCD", "mean weight", "DKD + JDA", "HSAKD"
#: Arm -> what its student learns, in words.
SAID = {
    PLAIN: "KD on two plain crops",
    JDA: "KD on a plain crop and a JDA view",
    CCD: "the same, the teacher's answer to the augmented view weighted by the cosine of its two answers, plus 1",
    MEAN: "the same, with the batch's mean of these weights for every augmented view",
    DKD: "the views of JDA, and the divergence in two parts, of the target class and of the others",
    HSAKD: "four turns of an image, at every branch of a frozen teacher that was trained on them first",
}


def create(setting: Setting) -> Study:
    """The study of chapter 28_one_picture: runs of other chapters, above the floor that they share."""
    jda = Policy(name="jda")
    arms = [
        Arm(PLAIN, Policy(name="weak2"), seeds="many"),
        Arm(JDA, jda, seeds="many"),
        Arm(CCD, jda, "ccd", seeds="many"),
        Arm(MEAN, jda, "ccd", {"weight": "mean"}, seeds="many"),
        Arm(DKD, jda, "dkd", dkd_options(setting)),
        Arm(HSAKD, Policy(name="weak1"), "hsakd"),
    ]
    contrasts = tuple(Contrast.of(f"{CCD} - {arm.label}", CCD, arm.label) for arm in arms if arm.label != CCD)
    return Study("28_one_picture", setting, by_label(*with_floor(arms)), contrasts)
