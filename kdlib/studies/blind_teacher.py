"""Claim (a): augmentation helps although the teacher never saw it, and JDA beats rotation."""

from kdlib.specs import Policy
from kdlib.studies.base import Arm, Contrast, OwnTeacher, Setting, Study, by_label

SEEN, UNSEEN = "seen", "unseen"


def create(setting: Setting, ops: str = "cifar100", p: float | None = None) -> Study:
    """The study of chapter 03_blind_teacher.

    Beside the arms of the claim it has a control for memorisation: a teacher trained on one half of the training
    images, and students of images that it has seen and of images that it has not.
    """
    jda = Policy(name="jda", options={"ops": ops, "p": p})
    weak2 = Policy(name="weak2")
    fixed = jda == Policy(name="jda")  # with another JDA the contrasts are not those that were fixed beforehand
    arms = by_label(
        Arm("one view", Policy(name="weak1"), seeds="few", tier=3),
        Arm("weak2", weak2, seeds="many"),
        Arm("rot2", Policy(name="rot2"), seeds="few", tier=3),
        Arm("rot4", Policy(name="rot4")),
        Arm("RandAugment", Policy(name="randaugment"), seeds="few", tier=3),
        Arm("CutMix", Policy(name="cutmix"), seeds="few", tier=4),
        Arm("JDA", jda, seeds="many"),
        *_control(setting, {"weak2": weak2, "JDA": jda}),
    )
    gains = {part: (f"{part}: JDA", f"{part}: weak2") for part in (SEEN, UNSEEN)}
    contrasts = (
        Contrast.of("a1", "JDA", "weak2", primary=fixed),
        Contrast.of("a2", "JDA", "rot4", primary=fixed),
        Contrast.of("weak2 - one view", "weak2", "one view"),
        *(Contrast.of(f"JDA - {other}", "JDA", other) for other in ("rot2", "RandAugment", "CutMix")),
        *(Contrast.of(f"gain on {part} images", *gains[part]) for part in gains),
        Contrast.interaction("interaction", gains[UNSEEN], gains[SEEN], "gain on unseen - gain on seen images"),
    )
    measured = {
        "JDA": setting.views(jda),
        "rot2": setting.views(Policy(name="rot2")),
        "RandAugment": setting.views(Policy(name="randaugment")),
    }
    return Study("03_blind_teacher", setting, arms, contrasts, measured)


def _control(setting: Setting, policies: dict[str, Policy]) -> list[Arm]:
    """Students of equally many images from the half that their teacher was trained on, and from the other half."""
    scale = setting.profile
    teacher = OwnTeacher(Policy(name="weak1"), part="first half")
    fraction = scale.fraction if scale.pool is not None else min(1.0, 2 * scale.fraction)  # of half as many images
    parts = {SEEN: "first half", UNSEEN: "second half"}
    return [
        Arm(f"{name}: {label}", policy, teacher=teacher, part=part, fraction=fraction, seeds="few")
        for name, part in parts.items()
        for label, policy in policies.items()
    ]
