"""Claim (a): augmentation helps although the teacher never saw it, and JDA beats rotation."""

from kdlib.lab.recipe import Policy, Public
from kdlib.models.checkpoints import PUBLIC
from kdlib.study.arms import Arm, Contrast, OwnTeacher, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import GAIN, NO_TEACHER, OURS, our_teacher, with_floor

SEEN, UNSEEN = "seen", "unseen"
LADDER = ("cifar100_resnet20", "cifar100_resnet32", "cifar100_resnet44")  # below the ResNet-56 of profile reference
TEMPERATURES = (1, 2, 8)  # beside the usual 4
GAIN_WITHOUT = (f"{NO_TEACHER}, JDA", NO_TEACHER)


def create(setting: Setting, ops: str = "cifar100", p: float | None = None) -> Study:
    """The study of chapter 03_blind_teacher.

    Beside the arms of the claim it asks what JDA brings without a teacher, and has a control for memorisation: a
    teacher trained on one half of the training images, and students of images that it has seen and of images that it
    has not. Where the teacher is a public checkpoint it is replaced by one of ours (whose students are those of
    04_augmented_teacher) and by smaller public ones, and where claims are judged the temperature is varied.
    """
    jda = Policy(name="jda", options={"ops": ops, "p": p})
    weak2 = Policy(name="weak2")
    fixed = jda == Policy(name="jda")  # with another JDA the contrasts are not those that were fixed beforehand
    views = {"weak2": weak2, "JDA": jda}
    others = [*_other_teachers(setting, views), *_temperatures(setting, views)]
    usual = [
        Arm("one view", Policy(name="weak1")),
        Arm("weak2", weak2, seeds="many"),
        Arm("rot2", Policy(name="rot2"), seeds="few", tier=3),
        Arm("rot4", Policy(name="rot4")),
        Arm("RandAugment", Policy(name="randaugment"), seeds="few", tier=3),
        Arm("CutMix", Policy(name="cutmix"), seeds="few", tier=4),
        Arm("JDA", jda, seeds="many"),
    ]
    arms = by_label(*with_floor([*usual, *others]), Arm(GAIN_WITHOUT[0], jda, "ce"), *_control(setting, views))
    measured = {"JDA": jda, "rot2": Policy(name="rot2"), "RandAugment": Policy(name="randaugment")}
    contrasts = _contrasts(fixed, [arm.label for arm in others])
    return Study("03_blind_teacher", setting, arms, contrasts, {n: setting.views(v) for n, v in measured.items()})


def _contrasts(fixed: bool, others: list[str]) -> tuple[Contrast, ...]:
    """others: the labels of the arms with another teacher or temperature, those with JDA after those without."""
    gains = {part: (f"{part}: JDA", f"{part}: weak2") for part in (SEEN, UNSEEN)}
    pairs = [(label, f"{label.removesuffix('JDA')}weak2") for label in others if label.endswith(": JDA")]
    control = {"control": GAIN} if f"{OURS}: JDA" in others else {}
    return (
        Contrast.of("a1", "JDA", "weak2", primary=fixed, **control),
        Contrast.of("a2", "JDA", "rot4", primary=fixed),
        Contrast.of("weak2 - one view", "weak2", "one view"),
        Contrast.of("JDA - one view", "JDA", "one view"),  # asked once the runs of one view were there
        *(Contrast.of(f"JDA - {other}", "JDA", other) for other in ("rot2", "RandAugment", "CutMix")),
        Contrast.of("gain without a teacher", *GAIN_WITHOUT),
        Contrast.interaction(
            "teaching", ("JDA", "weak2"), GAIN_WITHOUT, "gain with the teacher - gain without a teacher"
        ),
        *(Contrast.of(f"gain: {jda.removesuffix(': JDA')}", jda, plain) for jda, plain in pairs),
        *(Contrast.of(f"gain on {part} images", *gains[part]) for part in gains),
        Contrast.interaction("interaction", gains[UNSEEN], gains[SEEN], "gain on unseen - gain on seen images"),
    )


def _other_teachers(setting: Setting, views: dict[str, Policy]) -> list[Arm]:
    """Students of a teacher of ours, and of smaller public ones, where the setting's own is a public checkpoint."""
    own, ours = setting.teacher(), our_teacher(setting)
    if ours is None:
        return []
    ladder = {f"public {PUBLIC[name].model}": Public(checkpoint=name) for name in LADDER if name != own.checkpoint}
    return [
        *(Arm(f"{OURS}: {n}", policy, teacher=ours) for n, policy in views.items()),
        *(Arm(f"{t}: {n}", policy, teacher=teacher) for t, teacher in ladder.items() for n, policy in views.items()),
    ]


def _temperatures(setting: Setting, views: dict[str, Policy]) -> list[Arm]:
    """The two arms at other temperatures; not at demonstrations."""
    return [
        Arm(f"T = {t}: {n}", policy, options={"temperature": float(t)}, seeds="few", tier=3)
        for t in TEMPERATURES
        for n, policy in views.items()
        if not setting.profile.trains
    ]


def _control(setting: Setting, views: dict[str, Policy]) -> list[Arm]:
    """Students of equally many images from the half that their teacher was trained on, and from the other half."""
    scale = setting.profile
    teacher = OwnTeacher(Policy(name="weak1"), part="first half")
    fraction = scale.fraction if scale.pool is not None else min(1.0, 2 * scale.fraction)  # of half as many images
    parts = {SEEN: "first half", UNSEEN: "second half"}
    return [
        Arm(f"{name}: {label}", policy, teacher=teacher, part=part, fraction=fraction, seeds="few")
        for name, part in parts.items()
        for label, policy in views.items()
    ]
