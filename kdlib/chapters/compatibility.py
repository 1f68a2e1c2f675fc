"""Claim (e): augmentation goes with other methods. Each method with JDA and with two plain crops."""

from collections.abc import Sequence

from kdlib.lab.recipe import Policy
from kdlib.methods import METHODS
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import SLOWER, dkd_options, slowed, with_floor

NAMES = {"kd": "KD", "dkd": "DKD", "spkd": "SPKD", "crd": "CRD", "sskd": "SSKD", "hsakd": "HSAKD", "ccd": "CCD"}
OTHERS = ("dkd", "spkd", "hsakd", "crd", "sskd")
DECIDING = OTHERS[:3]  # one of each kind: a loss on logits, one on features, one on turned views
UNTURNED = DECIDING[:2]
SLOW_HSAKD = f"{NAMES['hsakd']} (rate/{SLOWER})"


def create(setting: Setting, methods: list[str] | None = None) -> Study:
    """The study of chapter 07_compatibility.

    methods: names of methods other than KD, by default all five. The mean gain of the `DECIDING` ones decides the
    claim; where one of them is left out, the mean is that of all. The mean without HSAKD stands beside it: turned views
    leave a step a quarter of the images, and a method that learns little in so few passes may rule the mean. Likewise
    the mean with HSAKD at a smaller learning rate, see chapter 09_ccd_versus_hsakd; not at smoke and quick. ValueError
    for an unknown method.
    """
    others = tuple(methods or OTHERS)
    for method in others:
        if method not in METHODS or not METHODS[method].needs_teacher or not METHODS[method].trains_student:
            known = ", ".join(m for m, d in METHODS.items() if d.needs_teacher and d.trains_student)
            raise ValueError(f"methods: {method!r} trains no student from a teacher; allowed are {known}")
    names = {method: NAMES.get(method, method) for method in ("kd", *others)}
    rows = _rows(setting, names)
    fixed = set(DECIDING) <= set(others)
    meant = [names[m] for m in others if m in DECIDING or not fixed]
    gains = {name: (f"{name} + JDA", f"{name} + weak2") for name in rows}

    def mean_gain(name: str, of: Sequence[str], **fields: bool) -> Contrast:
        return Contrast.mean_of(name, [gains[n] for n in of], f"mean gain from JDA of {', '.join(of)}", **fields)

    unturned = [names[m] for m in UNTURNED if fixed]
    contrasts = (
        mean_gain("e", meant, primary=fixed),
        *([mean_gain("e without turned views", unturned)] if fixed else []),
        *([mean_gain("e at a smaller rate", [*unturned, SLOW_HSAKD])] if fixed and SLOW_HSAKD in rows else []),
        *(Contrast.of(f"gain of {name}", *pair) for name, pair in gains.items()),
    )
    arms = by_label(*with_floor(arm for row in rows.values() for arm in row))
    return Study("07_compatibility", setting, arms, contrasts)


def _rows(setting: Setting, names: dict[str, str]) -> dict[str, list[Arm]]:
    """The two arms of each method by its name, and those of HSAKD once more at a smaller rate."""
    views = {"weak2": Policy(name="weak2"), "JDA": Policy(name="jda")}
    options = {"dkd": dkd_options(setting)}
    rows = {
        name: [_arm(method, f"{name} + {v}", policy, options.get(method, {})) for v, policy in views.items()]
        for method, name in names.items()
    }
    if "hsakd" in names and not setting.profile.trains:
        usual = zip(rows[names["hsakd"]], views, strict=True)
        rows[SLOW_HSAKD] = [slowed(arm, f"{SLOW_HSAKD} + {v}", setting) for arm, v in usual]
    return rows


def _arm(method: str, label: str, policy: Policy, options: dict) -> Arm:
    beyond = {} if method in (*DECIDING, "kd") else {"seeds": "few", "tier": 3}
    return Arm(label, policy, method, options, **beyond)
