"""How the reference profile was sized, on the validation split of the training images: never on a test image."""

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, by_label
from kdlib.study.profiles import Profile
from kdlib.study.setting import Setting, Study

VIEWS = {"weak2": Policy(name="weak2"), "JDA": Policy(name="jda")}
IMAGES = 10_000  # of the pool
# Candidates: (images, views of each, learning rate, student, views in a step). Those of the first group differ from the
# centre in one thing; fewer and more images have the same number of views in all, smaller steps a learning rate as much
# smaller. Steps of fewer views would leave SSKD under JDA, with eight views of an image, too few images to tell apart.
# Those of the second group see half as many views in all, and cost half as much.
CENTRE = (5_000, 60, 0.2, "resnet8", 128)
CANDIDATES = {
    "centre": CENTRE,
    "lower rate": (5_000, 60, 0.1, "resnet8", 128),
    "higher rate": (5_000, 60, 0.4, "resnet8", 128),
    "highest rate": (5_000, 60, 0.8, "resnet8", 128),
    "smaller steps": (5_000, 60, 0.1, "resnet8", 64),
    "fewer images": (2_500, 120, 0.2, "resnet8", 128),
    "more images": (10_000, 30, 0.2, "resnet8", 128),
    "larger student": (5_000, 60, 0.2, "resnet20", 128),
    "half": (5_000, 30, 0.2, "resnet8", 128),
    "half, fewer images": (2_500, 60, 0.2, "resnet8", 128),
    "half, smaller steps": (5_000, 30, 0.1, "resnet8", 64),
    "half, smaller steps, higher rate": (5_000, 30, 0.2, "resnet8", 64),
}
# The others have one seed: all with three would cost a third of what the claims do.
SEVERAL_SEEDS = ("centre", "higher rate", "half, smaller steps")
#: Question -> the candidates that answer it, in ascending order.
QUESTIONS = {
    "images x views of each": ("fewer images", "centre", "more images"),
    "learning rate": ("lower rate", "centre", "higher rate", "highest rate"),
    "views in a step": ("smaller steps", "centre"),
    "student": ("centre", "larger student"),
    "views of an image": ("half", "centre"),
}


def create(setting: Setting) -> Study:
    """The study of chapter 16_sizing: KD with two plain crops and with JDA, both under each candidate.

    It is about profile reference, and shown at every other profile too; smoke and quick train two learning rates, on
    their own scale.
    """
    scale = setting.profile
    if not scale.trains and scale.name != "reference":
        setting = setting.at("reference")
    small = {"centre": {}, "lower rate": {"recipe": {"learning_rate": scale.recipe.learning_rate / 2}}}
    candidates = small if scale.trains else {name: _fields(*values) for name, values in CANDIDATES.items()}
    arms = [
        Arm(label_of(name, view), policy, validation=True, seeds=_seeds(scale, name), tier=3, **fields)
        for name, fields in candidates.items()
        for view, policy in VIEWS.items()
    ]
    return Study("16_sizing", setting, by_label(*arms))


def _seeds(scale: Profile, candidate: str) -> str:
    return "few" if scale.trains or candidate in SEVERAL_SEEDS else "one"


def label_of(candidate: str, view: str) -> str:
    """The arm of a candidate under a view policy."""
    return f"{candidate}: {view}"


def _fields(images: int, views: int, rate: float, student: str, step: int) -> dict:
    recipe = {"views_per_image": views, "learning_rate": rate, "views_per_step": step}
    return {"fraction": images / IMAGES, "recipe": recipe, "student": student}
