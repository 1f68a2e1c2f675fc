"""How the reference profile was sized, on the validation split of the training images: never on a test image."""

from kdlib.specs import Policy
from kdlib.studies.base import Arm, Setting, Study, by_label

VIEWS = {"weak2": Policy(name="weak2"), "JDA": Policy(name="jda")}
IMAGES = 10_000  # of the pool
# Candidates: (images, views of each, learning rate, student). The first is the centre; the others change one thing,
# the second to fourth with the same number of views in all.
CENTRE = (5_000, 30, 0.2, "resnet8")
CANDIDATES = {
    "centre": CENTRE,
    "fewer images": (2_500, 60, 0.2, "resnet8"),
    "more images": (10_000, 15, 0.2, "resnet8"),
    "lower rate": (5_000, 30, 0.1, "resnet8"),
    "higher rate": (5_000, 30, 0.4, "resnet8"),
    "larger student": (5_000, 30, 0.2, "resnet20"),
    "twice the views": (5_000, 60, 0.2, "resnet8"),
}


def create(setting: Setting) -> Study:
    """The study of chapter 16_sizing: KD with two plain crops and with JDA, both under each candidate.

    It is about profile reference, and shown at every other profile too; smoke and quick train its centre alone, on
    their own scale.
    """
    small = setting.profile.trains
    if not small and setting.profile.name != "reference":
        setting = Setting.of("reference", seeds=list(setting.seeds) if setting.chosen else None)
    arms = [
        Arm(f"{name}: {label}", policy, validation=True, seeds="few", tier=3, **({} if small else _fields(*candidate)))
        for name, candidate in list(CANDIDATES.items())[: 1 if small else None]
        for label, policy in VIEWS.items()
    ]
    return Study("16_sizing", setting, by_label(*arms))


def _fields(images: int, views: int, rate: float, student: str) -> dict:
    recipe = {"views_per_image": views, "learning_rate": rate}
    return {"fraction": images / IMAGES, "recipe": recipe, "student": student}
