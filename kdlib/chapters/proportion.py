"""Claim (c): the share of augmented samples has a suitable range. Read as p; the share of augmented views apart."""

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import GAIN, OURS, our_teacher, with_floor

SEEDS = {0.0: "many", 0.3: "many", 1.0: "usual"}  # of the values of p that decide the claim
FIRST = (0.1, 0.5, 0.6, 1.0)  # of the others, and of the shares: on both sides of what decides


def create(setting: Setting, probabilities: list[float] | None = None, shares: list[float] | None = None) -> Study:
    """The study of chapter 05_proportion.

    probabilities: values of p; shares: shares of augmented views at p = 0.3. 0, 0.3 and 1 are always among the former.
    """
    few = setting.profile.trains
    ps = sorted({0.0, 0.3, 1.0, *map(float, probabilities or (() if few else (0.1, 0.2, 0.4, 0.6, 0.8)))})
    rs = sorted({0.0, 1.0, *map(float, shares or ((0.5,) if few else (0.25, 0.5, 0.75)))})
    by_p, by_share = {f"p = {p:g}": p for p in ps}, {f"share {r:g}" if r else "p = 0": r for r in rs}
    swept = [
        *(Arm(label, _jda(p), seeds=SEEDS.get(p, "few"), tier=_tier(p)) for label, p in by_p.items()),
        *(
            Arm(label, Policy(name="share", options={"share": r}), seeds="few", tier=_tier(r))
            for label, r in by_share.items()
            if r
        ),
    ]
    zero, default, full = "p = 0", "p = 0.3", "p = 1"
    others = [arm.label for arm in swept if arm.label not in (zero, default, full)]
    ours = our_teacher(setting)
    control = [Arm(f"{OURS}: p = {p:g}", _jda(p), teacher=ours) for p in (0.0, 0.3) if ours]
    arms = by_label(*with_floor([*swept, *control]))
    contrasts = (
        Contrast.of("c1", default, zero, primary=True, control=GAIN if control else None),
        Contrast.of("c2", default, full, primary=True),
        *(Contrast.of(f"{label} - {zero}", label, zero) for label in others),
        *([Contrast.of(GAIN, *(arm.label for arm in reversed(control)))] if control else ()),
    )
    return Study("05_proportion", setting, arms, contrasts, series={"p": by_p, "share": by_share})


def _jda(p: float) -> Policy:
    """JDA with p; p = 0 is two plain crops, bit for bit, and shares their runs."""
    return Policy(name="jda", options={"p": p}) if p else Policy(name="weak2")


def _tier(value: float) -> int:
    return 2 if value in FIRST else 4
