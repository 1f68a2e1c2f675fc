"""ImageNet-1k: the last rows of the claims, ready for several GPUs, and the same program on a few photographs."""

from dataclasses import replace

from kdlib.data.images import BUNDLED
from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study

EXERCISE = "tinyimagenet-mini"  # what the demonstrations train on, unless another set of photographs is named
NETWORKS = ("resnet18_imagenet", "resnet18_imagenet")
SHARES = {"smoke": 0.02, "quick": 0.1}  # of the photographs


def create(setting: Setting) -> Study:
    """The study of chapter 10_imagenet: KD, KD + JDA and CCD with the operations of ImageNet's list.

    At profile imagenet it is the study proper. At smoke and quick the same program runs on a few small photographs,
    with the optimiser of ImageNet's recipe for some steps: the numbers mean nothing. The other profiles have no
    ImageNet part, and show that of profile imagenet.
    """
    if setting.profile.trains:
        setting = exercise(setting)
    elif setting.profile.name != "imagenet":
        setting = setting.at("imagenet")
    jda = Policy(name="jda", options={"ops": "imagenet"})
    arms = by_label(
        Arm("KD + weak2", Policy(name="weak2")), Arm("KD + JDA", jda), Arm("CCD", jda, "ccd"),
    )  # fmt: skip
    contrasts = (Contrast.of("JDA - weak2", "KD + JDA", "KD + weak2"), Contrast.of("CCD - KD + JDA", "CCD", "KD + JDA"))
    return Study("10_imagenet", setting, arms, contrasts)


def exercise(setting: Setting) -> Setting:
    """The setting with small photographs, ImageNet's networks and optimiser, one seed, and few steps."""
    scale, share = setting.profile, SHARES[setting.profile.name]
    recipe = scale.recipe.model_copy(
        update={"views_per_step": 32, "views_per_image": 2, "micro_batches": 2, "clip_norm": 20.0, "nesterov": False}
    )
    scale = replace(
        scale, pairs={"resnet18-resnet18": NETWORKS}, recipe=recipe, fraction=share, teacher_recipe=recipe,
        teacher_fraction=share,
        summary=f"{scale.name}: some steps on small photographs, to exercise the program; the numbers mean nothing",
    )  # fmt: skip
    data = EXERCISE if setting.data == BUNDLED else setting.data
    return replace(setting, profile=scale, pair="resnet18-resnet18", seeds=setting.seeds[:1], data=data)
