"""How the reference profile was sized, on the validation split of the training images: never on a test image."""

from kdlib.specs import Policy
from kdlib.studies.base import Arm, Setting, Study, by_label

VIEWS = {"weak2": Policy(name="weak2"), "JDA": Policy(name="jda")}
STEPS = {
    "2,500 images, 120 views": (0.25, 120),
    "5,000 images, 60 views": (0.5, 60),
    "10,000 images, 30 views": (1.0, 30),
}
RATES = (0.05, 0.1, 0.2, 0.4)
STUDENTS = ("resnet8", "resnet20")
USUAL, RATE = "5,000 images, 60 views", 0.2


def create(setting: Setting) -> Study:
    """The study of chapter 16_sizing: KD with two plain crops and with JDA, both under each candidate.

    Candidates change one thing at a time: how the same number of views is shared between images and epochs, the
    learning rate, the student.
    """
    amounts = {name: {"fraction": f, "recipe": {"views_per_image": v}} for name, (f, v) in STEPS.items()}
    usual = amounts[USUAL]
    candidates = {
        f"{name}": fields | {"recipe": fields["recipe"] | {"learning_rate": RATE}} for name, fields in amounts.items()
    }
    candidates |= {
        f"learning rate {rate:g}": usual | {"recipe": usual["recipe"] | {"learning_rate": rate}} for rate in RATES
    }
    candidates |= {f"student {name}": usual | {"student": name} for name in STUDENTS}
    arms = [
        Arm(f"{name}: {label}", policy, validation=True, seeds="few", **fields)
        for name, fields in candidates.items()
        for label, policy in VIEWS.items()
    ]
    return Study("16_sizing", setting, by_label(*arms))
