"""Claim (e): augmentation goes with other methods. Each method with JDA and with two plain crops."""

from collections.abc import Sequence

from kdlib.methods import METHODS
from kdlib.specs import Policy
from kdlib.studies.base import Arm, Contrast, Setting, Study, by_label

NAMES = {"kd": "KD", "dkd": "DKD", "spkd": "SPKD", "crd": "CRD", "sskd": "SSKD", "hsakd": "HSAKD", "ccd": "CCD"}
# The weight of DKD's non-target part by pair of networks, as published; other pairs take the method's default, as the
# paper's other pairs do. Of the smaller student of profile reference the nearest published pair is ResNet-56 -> 20.
DKD_BETA = {
    ("wrn_40_2", "wrn_16_2"): 6.0, ("wrn_40_2", "wrn_40_1"): 6.0, ("vgg13", "vgg8"): 6.0, ("vgg13", "mobilenetv2"): 6.0,
    ("resnet56", "resnet20"): 2.0, ("cifar100_resnet56", "resnet8"): 2.0,
}  # fmt: skip
OTHERS = ("dkd", "spkd", "hsakd", "crd", "sskd")
DECIDING = OTHERS[:3]  # one of each kind: a loss on logits, one on features, one on turned views
UNTURNED = DECIDING[:2]


def create(setting: Setting, methods: list | None = None) -> Study:
    """The study of chapter 07_compatibility.

    methods: names of methods other than KD, by default all five. The mean gain of the `DECIDING` ones decides the
    claim; where one of them is left out, the mean is that of all. The mean without HSAKD stands beside it: turned views
    leave a step a quarter of the images, and a method that learns little in so few passes may rule the mean.
    ValueError for an unknown method.
    """
    others = tuple(methods or OTHERS)
    for method in others:
        if method not in METHODS or not METHODS[method].needs_teacher or not METHODS[method].trains_student:
            known = ", ".join(m for m, d in METHODS.items() if d.needs_teacher and d.trains_student)
            raise ValueError(f"methods: {method!r} trains no student from a teacher; allowed are {known}")
    views = {"weak2": Policy(name="weak2"), "JDA": Policy(name="jda")}
    names = {method: NAMES.get(method, method) for method in ("kd", *others)}
    beta = DKD_BETA.get(setting.networks)
    options = {"dkd": {"beta": beta}} if beta else {}
    arms = by_label(
        *(_arm(m, f"{n} + {v}", policy, options.get(m, {})) for m, n in names.items() for v, policy in views.items())
    )
    fixed = set(DECIDING) <= set(others)
    meant = [m for m in others if m in DECIDING or not fixed]

    def mean_gain(name: str, methods: Sequence[str], **fields: bool) -> Contrast:
        gains = [(f"{names[m]} + JDA", f"{names[m]} + weak2") for m in methods]
        return Contrast.mean_of(name, gains, f"mean gain from JDA of {', '.join(names[m] for m in methods)}", **fields)

    contrasts = (
        mean_gain("e", meant, primary=fixed),
        *([mean_gain("e without turned views", UNTURNED)] if fixed else []),
        *(Contrast.of(f"gain of {name}", f"{name} + JDA", f"{name} + weak2") for name in names.values()),
    )
    return Study("07_compatibility", setting, arms, contrasts)


def _arm(method: str, label: str, policy: Policy, options: dict) -> Arm:
    beyond = {} if method in (*DECIDING, "kd") else {"seeds": "few", "tier": 3}
    return Arm(label, policy, method, options, **beyond)
