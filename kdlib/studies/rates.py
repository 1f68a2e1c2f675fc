"""The control for the learning rate: an arm once more, at a smaller one."""

from dataclasses import replace

from kdlib.studies.base import Arm, Setting

SLOWER, SLOWLY = 4, "a quarter of the rate"


def slowed(arm: Arm, label: str, setting: Setting) -> Arm:
    """The arm under another label, at a quarter of the profile's learning rate. It is explored, with few seeds."""
    rate = setting.profile.recipe.learning_rate / SLOWER
    return replace(arm, label=label, recipe={**arm.recipe, "learning_rate": rate}, seeds="few", tier=3)
