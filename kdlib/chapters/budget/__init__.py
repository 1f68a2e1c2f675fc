"""Profile full: whether verdicts hold at budgets where every rival trains.

A budget is a number of views of each image. Each family of methods has a learning rate of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isclose, log2

from kdlib.chapters.budget.grid import grid_arms, grid_contrasts
from kdlib.lab.recipe import Policy, Public
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.profiles import Profile
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import NO_TEACHER, with_floor

PLAIN, JDA, CCD, HSAKD = "two plain crops", "JDA", "CCD", "HSAKD"
#: Plain KD without any augmented view: at equal views it passes over the images twice as often as two crops do.
ONE = "one plain crop"
MEAN, ALONE, FOUR, TURN = "mean weight", f"{NO_TEACHER} + JDA", "four quarter turns", "a quarter turn"
#: What is compared, but for the floor -> its view policy, method and options.
WAYS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    PLAIN: ("weak2", "kd", {}),
    ONE: ("weak1", "kd", {}),
    JDA: ("jda", "kd", {}),
    CCD: ("jda", "ccd", {}),
    MEAN: ("jda", "ccd", {"weight": "mean"}),
    HSAKD: ("weak1", "hsakd", {}),
    FOUR: ("rot4", "kd", {}),
    TURN: ("rot2", "kd", {}),
    ALONE: ("jda", "ce", {}),
}
#: From the smallest budget to the largest: what is trained there, above the floor, and with how many seeds.
PLANNED: tuple[Mapping[str, str], ...] = (
    {PLAIN: "few", ONE: "few", JDA: "few", CCD: "usual", HSAKD: "usual"},
    dict.fromkeys(WAYS, "usual"),
    dict.fromkeys(WAYS, "usual") | dict.fromkeys((JDA, CCD, MEAN), "many"),
    dict.fromkeys((ONE, JDA, CCD, HSAKD), "few"),
)
DEMONSTRATED = dict.fromkeys((PLAIN, JDA, CCD, HSAKD), "few")

#: Family -> those by which its learning rate is chosen. What is in none of them has the rate of the first family.
FAMILIES: Mapping[str, tuple[str, ...]] = {"logits": (PLAIN, JDA), "one view": (ONE,), "hsakd": (HSAKD,)}
RATES = (0.1, 0.2, 0.4, 0.8)
#: Family -> the learning rate that `kdlib.chapters.budget.budget_table.choose` finds; until it is there, the profile's
#: own.
CHOSEN: Mapping[str, float] = {"logits": 0.8, "one view": 0.8}

#: The control for the teacher: a larger public one, which knows its training images by heart.
OTHER, CHECKPOINT = "public ResNet-56", "cifar100_resnet56"
CARRY = f"gain with the {OTHER}"


def create(setting: Setting, rates_only: bool = False) -> Study:
    """The study of chapter 18_budget.

    The third budget, that of the profile's recipe, decides; smaller and larger ones say where curves cross. At each,
    all arms see equally many views, above a floor of their own. CCD, HSAKD and the floor have as many seeds at the
    smallest budget as where it is decided, because they enter a primary contrast, and fewer than five give no verdict.
    The second budget has the control for the teacher and the grid of methods by views. Learning rates are chosen on the
    validation split.

    It is about profile full, and shown at others that have no budgets. Demonstrations have two of them, fewer arms, and
    one learning rate. rates_only: nothing but the runs by which rates are chosen; ValueError where there are none.
    """
    setting = setting if setting.profile.budgets else setting.at("full")
    scale = setting.profile
    if rates_only and scale.trains:
        raise ValueError(f"rates_only = True is not possible at profile {scale.name!r}, which has one rate for all")
    tried = {} if scale.trains else _tried(scale)
    arms = [] if rates_only else _arms(setting)
    found = by_label(*arms, *(arm for rates in tried.values() for arm in rates.values()))
    series = {name: {arm.label: rate for rate, arm in rates.items()} for name, rates in tried.items()}
    return Study("18_budget", setting, found, _contrasts(scale, found), series=_curves(scale, found) | series)


def label_of(way: str, views: int) -> str:
    """The arm of a budget."""
    return f"{way}, {views} views"


def rates_of(way: str, views: int) -> str:
    """The series of the learning rates that were tried."""
    return f"{label_of(way, views)}, by rate"


def _arms(setting: Setting) -> list[Arm]:
    """Those of each budget above their floor, at the rates of their families. The second budget has the grid."""
    scale = setting.profile
    planned = [DEMONSTRATED] * len(scale.budgets) if scale.trains else PLANNED
    found = []
    for step, (views, ways) in enumerate(zip(scale.budgets, planned, strict=True)):
        tier = 2 if views <= scale.recipe.views_per_image else 3
        here = [_arm(way, views, seeds=seeds, tier=tier) for way, seeds in ways.items()]
        if step == 1 and not scale.trains:
            here += _with_other_teacher(views) + _further(grid_arms(setting, views), here)
        found += with_floor(here, label_of(NO_TEACHER, views))
    return [_at_rate(arm, None if scale.trains else CHOSEN.get(_family(arm))) for arm in found]


def _arm(way: str, views: int, **fields) -> Arm:
    policy, method, options = WAYS[way]
    recipe = {"views_per_image": views}
    return Arm(label_of(way, views), Policy(name=policy), method, options, recipe=recipe, **fields)


def _with_other_teacher(views: int) -> list[Arm]:
    teacher = Public(checkpoint=CHECKPOINT)
    return [
        replace(_arm(way, views), label=label_of(f"{OTHER}: {way}", views), teacher=teacher, seeds="few")
        for way in (PLAIN, JDA)
    ]


def _further(arms: list[Arm], here: list[Arm]) -> list[Arm]:
    """Those whose labels are not there yet."""
    known = {arm.label for arm in here}
    return [arm for arm in arms if arm.label not in known]


def _family(arm: Arm) -> str:
    ways = ((family, WAYS[way]) for family, ways in FAMILIES.items() for way in ways)
    return next((f for f, (policy, method, _) in ways if (arm.policy.name, arm.method) == (policy, method)), "logits")


def _at_rate(arm: Arm, rate: float | None) -> Arm:
    return replace(arm, recipe={**arm.recipe, "learning_rate": rate}) if rate else arm


def _tried(scale: Profile) -> dict[str, dict[float, Arm]]:
    """Series -> learning rate -> an arm of the validation split.

    All at the smallest budget; HSAKD, whose branches take longest to learn, at the smaller rates also where it is
    decided: whether the choice would be another there.
    """
    first, decides = scale.budgets[0], scale.recipe.views_per_image
    asked = [(way, first, RATES) for ways in FAMILIES.values() for way in ways] + [(HSAKD, decides, RATES[:2])]
    return {
        rates_of(way, views): {
            rate: replace(
                _at_rate(_arm(way, views, validation=True, seeds="one"), rate),
                label=f"{label_of(way, views)}, rate {rate:g}",
            )
            for rate in rates
        }
        for way, views, rates in asked
    }


def _curves(scale: Profile, arms: Mapping[str, Arm]) -> dict[str, dict[str, float]]:
    """Way, or floor -> its arms -> views of an image."""
    curves = {
        way: {label_of(way, v): v for v in scale.budgets if label_of(way, v) in arms} for way in (*WAYS, NO_TEACHER)
    }
    return {way: curve for way, curve in curves.items() if curve}


def _contrasts(scale: Profile, arms: Mapping[str, Arm]) -> tuple[Contrast, ...]:
    """The primary ones, fixed before any run of the profile, and then what is explored; of those whose arms are there.

    F4 says that the lead of CCD grows with the budget: that its slope is above zero.
    """
    views = scale.recipe.views_per_image
    at = partial(label_of, views=views)
    gain, alone = (at(JDA), at(PLAIN)), (at(ALONE), at(NO_TEACHER))
    fixed = [
        _difference("A1", JDA, PLAIN, at, control=CARRY),
        _difference("A2", JDA, FOUR, at),
        Contrast.interaction("A3", gain, alone, "gain of JDA with the teacher - gain without"),
        _difference("A4", JDA, ONE, at),
        _difference("F1", CCD, HSAKD, at, cheaper=(at(CCD), at(HSAKD))),
        _difference("F2", CCD, JDA, at),
        _difference("F3", CCD, MEAN, at),
        _trend("F4", CCD, HSAKD, [v for v in scale.budgets if v <= views]),
    ]
    primary = [replace(contrast, primary=True, among=len(fixed)) for contrast in fixed]
    return tuple(c for c in (*primary, *_explored(scale)) if set(c.weights) <= set(arms))


def _explored(scale: Profile) -> list[Contrast]:
    """The control for the teacher, what other budgets say, and whether HSAKD is above its floor."""
    second, decides = scale.budgets[1], scale.recipe.views_per_image
    jda, plain = (label_of(f"{OTHER}: {way}", second) for way in (JDA, PLAIN))
    rivals = ((JDA, PLAIN), (JDA, ONE), (CCD, HSAKD))
    asked = [(way, than, v) for way, than in rivals for v in scale.budgets if v != decides]
    asked += [(CCD, ONE, decides)]
    asked += [(HSAKD, NO_TEACHER, views) for views in scale.budgets]
    pairs = {f"{way} - {label_of(than, v)}": (label_of(way, v), label_of(than, v)) for way, than, v in asked}
    carry = Contrast(CARRY, {jda: 1.0, plain: -1.0})
    return [carry, *(Contrast.of(name, *pair) for name, pair in pairs.items()), *grid_contrasts(second)]


def _difference(name: str, way: str, than: str, at: Callable[[str], str], **fields) -> Contrast:
    return Contrast(name, {at(way): 1.0, at(than): -1.0}, f"{way} - {than}", **fields)


def _trend(name: str, way: str, than: str, budgets: Sequence[int]) -> Contrast:
    """How much a difference grows with each doubling of the budget."""
    weights = {
        label_of(label, views): sign * weight
        for views, weight in slope(budgets).items()
        for label, sign in ((way, 1), (than, -1))
    }
    return Contrast(name, weights, f"slope of {way} - {than}, for each doubling of the views")


def slope(budgets: Sequence[int]) -> dict[int, float]:
    """Budget -> its weight in the least-squares slope of a curve over the binary logarithm of the budget.

    One in the middle, as the second of three at equal ratios, has no weight and is left out.
    """
    x = [log2(budget / budgets[0]) for budget in budgets]
    middle = sum(x) / len(x)
    spread = sum((value - middle) ** 2 for value in x)
    return {b: (v - middle) / spread for b, v in zip(budgets, x, strict=True) if not isclose(v, middle)}
