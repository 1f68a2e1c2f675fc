"""Stored views and answers: what a bank of V sets of views costs and saves, and whether its students are as good."""

from typing import Any

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study

FRESH, EXACT = "fresh views", "fresh views, float32"


def create(setting: Setting, sets: list[int] | None = None) -> Study:
    """The study of chapter 14_view_bank: KD + JDA with V sets of views per image, and with fresh ones.

    Images and recipe are the profile's, or its `bank_fraction` and `bank_recipe`. sets: values of V, whole numbers from
    1 up; by default 1, 2, 4, 8 and 16 (1 and 4 at smoke and quick). ValueError for anything else.
    """
    default = (1, 4) if setting.profile.trains else (1, 2, 4, 8, 16)
    chosen = sorted(set(sets or default))
    if chosen[0] < 1:
        raise ValueError(f"sets = {sets!r} must be numbers of sets of views, from 1 up")
    by_v = {f"V = {v}": v for v in chosen}
    arms = by_label(
        _arm(setting, FRESH), *(_arm(setting, label, bank=v) for label, v in by_v.items()),
        _arm(setting, EXACT, exact=True),
    )  # fmt: skip
    contrasts = (
        *(Contrast.of(f"{label} - {FRESH}", label, FRESH) for label in by_v),
        Contrast.of("precision", FRESH, EXACT),
    )
    timed = [arms[FRESH], arms[list(by_v)[-1]]]
    return Study("14_view_bank", setting, arms, contrasts, {"timing": setting.timing(timed)}, {"V": by_v})


def _arm(setting: Setting, label: str, **fields: Any) -> Arm:
    scale = setting.profile
    recipe = scale.bank_recipe.model_dump() if scale.bank_recipe else {}
    return Arm(label, Policy(name="jda"), fraction=scale.bank_fraction, recipe=recipe, seeds="few", tier=3, **fields)
