"""Profiles: named scales of the same studies, from seconds on a laptop to the paper's recipe on GPUs."""

from collections.abc import Mapping
from dataclasses import dataclass

from kdlib.data.images import BUNDLED
from kdlib.lab.recipe import Recipe
from kdlib.models import MODELS
from kdlib.models.checkpoints import PUBLIC


@dataclass(frozen=True)
class Profile:
    """One scale."""

    #: its key in `PROFILES`
    name: str
    #: for the banner of every page
    summary: str
    #: default data set
    data: str
    #: "TEACHER-STUDENT" -> (teacher, student), the first is the default
    pairs: Mapping[str, tuple[str, str]]
    #: how students are trained
    recipe: Recipe
    #: how the teachers that we train are trained
    teacher_recipe: Recipe
    #: how the heads of SSKD and HSAKD are trained on a frozen teacher
    heads_recipe: Recipe
    #: the planned seeds
    seeds: tuple[int, ...]
    #: those of the headline arms, where they differ
    many_seeds: tuple[int, ...] = ()
    #: those of exploratory arms, where they differ
    few_seeds: tuple[int, ...] = ()
    #: a network that learns beside a pair's own student in one study
    second_student: str = "resnet14"
    #: how many of the training images students are given; None: all of them (see kdlib.data.sampling)
    pool: int | None = None
    #: the share of those that a student sees (see kdlib.data.sampling)
    fraction: float = 1.0
    #: the fractions of the few-shot study
    few_shot: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    #: the one of these that decides the claim of the few-shot study
    few_shot_fraction: float = 0.25
    #: `fraction` of the study of view banks, if not that of all students
    bank_fraction: float | None = None
    #: `recipe` of the study of view banks, if not that of all students
    bank_recipe: Recipe | None = None
    #: of the teachers that we train: by default the pair's; a pair whose teacher is a public checkpoint trains others
    #: only for controls, of the network named here
    teacher_network: str | None = None
    #: for a teacher that is trained together with HSAKD's branches, where it differs
    joint_recipe: Recipe | None = None
    #: as `pool`, for the teachers that we train
    teacher_pool: int | None = None
    #: as `fraction`, for the teachers that we train
    teacher_fraction: float = 1.0
    #: how many images of each split teacher-only measurements look at
    measured_images: int = 2000
    #: see `kdlib.lab.measurements.TimingSpec`
    timed_steps: int = 20
    #: of how many training images T.stddev draws; None: of all (see `kdlib.lab.measurements.SpreadSpec`)
    spread_pool: int | None = None
    #: how often T.stddev draws them
    spread_passes: int = 10
    #: views of an image at the points of the budget curve, ascending, the recipe's own among them; a profile without
    #: any shows another's
    budgets: tuple[int, ...] = ()
    #: whether `missing = "auto"` trains what the store lacks
    trains: bool = False
    #: whether the profile is large enough to judge a claim
    verdicts: bool = False
    #: how many of the four tiers of arms are planned, see `kdlib.study.setting.Study.tier`
    tiers: int = 4
    #: of the machine that a plan reckons with; 0: of none
    gpus: int = 0
    #: the only ones that have the profile; empty if all do
    chapters: tuple[str, ...] = ()


PAPER_PAIRS = {
    f"{teacher}-{student}": (teacher, student)
    for teacher, student in (
        ("wrn_40_2", "wrn_16_2"), ("wrn_40_2", "wrn_40_1"), ("resnet56", "resnet20"), ("resnet32x4", "resnet8x4"),
        ("vgg13", "vgg8"), ("vgg13", "mobilenetv2"), ("resnet50", "mobilenetv2"), ("wrn_40_2", "shufflenetv1"),
        ("resnet32x4", "shufflenetv2"),
    )
}  # fmt: skip
PAPER_RECIPE = Recipe(
    views_per_step=256, views_per_image=480, learning_rate=0.1, weight_decay=1e-4, schedule="steps",
    milestones=(150 / 240, 180 / 240, 210 / 240), evaluations=10,
)  # fmt: skip
# HSAKD: 100 epochs of 4 views, 64 images. SSKD's own first stage has 60 epochs: both get the longer one here.
PAPER_HEADS = Recipe(
    views_per_step=256, views_per_image=400, learning_rate=0.05, weight_decay=5e-4, schedule="steps",
    milestones=(0.3, 0.6, 0.9), evaluations=1,
)  # fmt: skip

# 200 epochs of two views; 768 images in two micro-batches are one step.
IMAGENET_RECIPE = Recipe(
    views_per_step=1536, views_per_image=400, learning_rate=0.1, weight_decay=1e-4, nesterov=False, schedule="steps",
    milestones=(0.3, 0.6, 0.9), evaluations=10, clip_norm=20.0, micro_batches=2,
)  # fmt: skip

#: Profile name -> the profile.
PROFILES: Mapping[str, Profile] = {
    "smoke": Profile(
        name="smoke",
        summary="smoke: two or three steps, to see that every cell runs; the numbers mean nothing",
        data=BUNDLED,
        pairs={"resnet8_tiny-resnet8_tiny": ("resnet8_tiny", "resnet8_tiny")},
        second_student="resnet14_tiny",
        recipe=Recipe(views_per_step=32, views_per_image=4, learning_rate=0.05, weight_decay=5e-4, evaluations=1),
        teacher_recipe=Recipe(
            views_per_step=32, views_per_image=4, learning_rate=0.05, weight_decay=5e-4, evaluations=1
        ),
        heads_recipe=Recipe(views_per_step=32, views_per_image=4, learning_rate=0.05, weight_decay=5e-4, evaluations=1),
        seeds=(0,),
        fraction=1 / 300,
        few_shot=(1 / 600, 1 / 300),
        few_shot_fraction=1 / 600,
        teacher_fraction=1 / 300,
        measured_images=50,
        timed_steps=2,
        spread_pool=640,
        spread_passes=1,
        budgets=(2, 4),
        trains=True,
    ),
    "quick": Profile(
        name="quick",
        summary="quick: a demonstration on the bundled images, trained live; too small for a verdict",
        data=BUNDLED,
        pairs={"resnet14_tiny-resnet8_tiny": ("resnet14_tiny", "resnet8_tiny")},
        second_student="resnet14_tiny",
        recipe=Recipe(views_per_step=32, views_per_image=16, learning_rate=0.1, weight_decay=5e-4, evaluations=2),
        # These come with the project, see data/make_teachers.py.
        teacher_recipe=Recipe(
            views_per_step=64, views_per_image=20, learning_rate=0.1, weight_decay=5e-4, evaluations=1
        ),
        heads_recipe=Recipe(
            views_per_step=64, views_per_image=20, learning_rate=0.05, weight_decay=5e-4, evaluations=1
        ),
        seeds=(0, 1),
        few_seeds=(0,),
        fraction=1 / 24,
        few_shot=(1 / 50, 1 / 24),
        few_shot_fraction=1 / 50,
        measured_images=1000,
        spread_pool=3200,
        spread_passes=2,
        budgets=(8, 16),
        trains=True,
    ),
    "reference": Profile(
        name="reference",
        summary="reference: CIFAR-100, a public ResNet-56 teacher, a small student, a subset that two cores can afford",
        data="cifar100",
        pairs={"resnet56-resnet8": ("cifar100_resnet56", "resnet8")},
        second_student="resnet20",
        recipe=Recipe(views_per_step=128, views_per_image=60, learning_rate=0.4, weight_decay=5e-4, evaluations=10),
        teacher_network="resnet20",
        teacher_pool=10_000,
        teacher_recipe=Recipe(
            views_per_step=128, views_per_image=60, learning_rate=0.2, weight_decay=5e-4, evaluations=4
        ),
        heads_recipe=Recipe(views_per_step=128, views_per_image=20, learning_rate=0.1, weight_decay=5e-4),
        seeds=(0, 1, 2, 3, 4),
        many_seeds=tuple(range(10)),
        few_seeds=(0, 1, 2),
        pool=10_000,
        fraction=0.5,
        few_shot=(0.05, 0.1, 0.5),
        few_shot_fraction=0.1,
        bank_fraction=0.25,
        bank_recipe=Recipe(
            views_per_step=128, views_per_image=60, learning_rate=0.2, weight_decay=5e-4, evaluations=10
        ),
        spread_pool=10_000,
        verdicts=True,
        tiers=3,
    ),
    "full": Profile(
        name="full",
        summary="full: all of CIFAR-100, a public ResNet-20 teacher, a small student, budgets where all rivals train",
        data="cifar100",
        pairs={"resnet20-resnet8": ("cifar100_resnet20", "resnet8")},
        second_student="resnet20",
        recipe=Recipe(views_per_step=128, views_per_image=40, learning_rate=0.4, weight_decay=5e-4, evaluations=10),
        teacher_network="resnet20",
        teacher_recipe=Recipe(
            views_per_step=128, views_per_image=60, learning_rate=0.2, weight_decay=5e-4, evaluations=4
        ),
        heads_recipe=Recipe(views_per_step=128, views_per_image=60, learning_rate=0.1, weight_decay=5e-4),
        seeds=(0, 1, 2, 3, 4),
        many_seeds=tuple(range(10)),
        few_seeds=(0, 1, 2),
        budgets=(10, 20, 40, 80),
        verdicts=True,
        chapters=("18_budget",),
    ),
    "paper": Profile(
        name="paper",
        summary="paper: CIFAR-100, the paper's pairs and its 240-epoch recipe, on GPUs",
        data="cifar100",
        pairs=PAPER_PAIRS,
        second_student="wrn_40_1",
        recipe=PAPER_RECIPE,
        teacher_recipe=PAPER_RECIPE.model_copy(update={"views_per_image": 240}),
        joint_recipe=PAPER_RECIPE.model_copy(update={"views_per_image": 960}),  # 240 epochs of four views
        heads_recipe=PAPER_HEADS,
        seeds=(0, 1, 2, 3, 4),
        verdicts=True,
    ),
    "imagenet": Profile(
        name="imagenet",
        summary="imagenet: ImageNet-1k, ResNet-34 to ResNet-18, the paper's 200-epoch recipe, on several GPUs",
        data="imagenet",
        pairs={"resnet34-resnet18": ("imagenet_resnet34", "resnet18_imagenet")},
        recipe=IMAGENET_RECIPE,
        teacher_recipe=IMAGENET_RECIPE.model_copy(update={"views_per_image": 200}),
        heads_recipe=IMAGENET_RECIPE.model_copy(update={"views_per_image": 400}),
        seeds=(0, 1, 2),
        few_shot=(1.0,),
        few_shot_fraction=1.0,
        gpus=8,
        chapters=("10_imagenet",),
    ),
}


def profile(name: str) -> Profile:
    """The profile called `name`. Raises ValueError for another word."""
    if name not in PROFILES:
        raise ValueError(f"profile = {name!r} is unknown; allowed are {', '.join(PROFILES)}")
    return PROFILES[name]


def check_pair(pair: str, scale: Profile) -> None:
    """Raises ValueError for what is neither a pair of the profile nor TEACHER-STUDENT of known names."""
    names = pair.split("-") if isinstance(pair, str) else []
    known = len(names) == 2 and names[1] in MODELS and (names[0] in MODELS or names[0] in PUBLIC)
    if pair not in scale.pairs and not known:
        raise ValueError(
            f"pair = {pair!r} is unknown at profile {scale.name!r}; allowed are auto, {', '.join(scale.pairs)}, or "
            "TEACHER-STUDENT of any two names of kdlib.models.MODELS (the teacher: also of a public checkpoint), "
            "which hold no hyphen"
        )
