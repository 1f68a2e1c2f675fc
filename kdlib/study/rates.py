"""The control for the learning rate: an arm once more, at smaller ones."""

from dataclasses import replace

from kdlib.study.arms import Arm
from kdlib.study.setting import Setting

SLOWER, SLOWLY = 4, "a quarter of the rate"
#: Divisor of the profile's learning rate -> what it is called.
RATES = {SLOWER: SLOWLY, 16: "a sixteenth of the rate"}


def slowed(arm: Arm, label: str, setting: Setting, divisor: int = SLOWER) -> Arm:
    """The arm under another label, at a fraction of the profile's learning rate. It is explored, with few seeds."""
    rate = setting.profile.recipe.learning_rate / divisor
    return replace(arm, label=label, recipe={**arm.recipe, "learning_rate": rate}, seeds="few", tier=3)
