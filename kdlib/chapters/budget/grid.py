"""The grid of profile full: every method that reads logits alone, on two plain crops and on JDA, at one budget."""

from collections.abc import Mapping
from typing import Any

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast
from kdlib.study.setting import Setting
from kdlib.study.shared_arms import CRLD_WEIGHTS, dkd_options

KD, CCD, PLAIN, JDA = "KD", "CCD", "two plain crops", "JDA"
#: What the second view of an image is -> its policy.
VIEWS: Mapping[str, str] = {PLAIN: "weak2", JDA: "jda"}
#: What the page calls a method -> its name; each has its published weights.
METHODS: Mapping[str, str] = {
    KD: "kd",
    CCD: "ccd",
    "DKD": "dkd",
    "CRLD": "crld",
    "TeKAP": "tekap",
    "Energy KD": "energy_kd",
    "Energy DKD": "energy_dkd",
    "standardised logits": "ls",
    "DIST": "dist",
}


def cell(method: str, view: str, budget: int) -> str:
    """The arm of a method and a view. Those of `kdlib.chapters.budget` have their names there."""
    way = {(KD, PLAIN): PLAIN, (KD, JDA): JDA, (CCD, JDA): CCD}.get((method, view), f"{method} + {view}")
    return f"{way}, {budget} views"


def cells(budget: int) -> dict[tuple[str, str], str]:
    """Method and view -> arm, of all of them."""
    return {(method, view): cell(method, view, budget) for method in METHODS for view in VIEWS}


def grid_arms(setting: Setting, budget: int) -> list[Arm]:
    """The arms of the grid, with few seeds each. They include those that the budget has anyway."""
    return [
        Arm(label, Policy(name=VIEWS[view]), METHODS[method], _options(method, setting),
            recipe={"views_per_image": budget}, seeds="few", tier=3)
        for (method, view), label in cells(budget).items()
    ]  # fmt: skip


def _options(method: str, setting: Setting) -> Mapping[str, Any]:
    dkd = dkd_options(setting)
    return {"DKD": dkd, "Energy DKD": dkd, "CRLD": CRLD_WEIGHTS}.get(method, {})


def grid_contrasts(budget: int) -> list[Contrast]:
    """All exploratory: what JDA adds under each method, and each method minus KD on the same views."""
    arms = cells(budget)
    gains = [Contrast.of(gain(method), arms[method, JDA], arms[method, PLAIN]) for method in METHODS]
    rivals = [
        Contrast.of(ahead(method, view), arms[method, view], arms[KD, view])
        for method in METHODS
        for view in VIEWS
        if method != KD
    ]
    return gains + rivals


def gain(method: str) -> str:
    """The name of a method's gain from JDA."""
    return f"grid: gain of {method}"


def ahead(method: str, view: str) -> str:
    """The name of a method's lead over KD on the same views."""
    return f"grid: {method} - {KD}, {view}"
