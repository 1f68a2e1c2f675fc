"""Rivals of CCD that need as little storage: CRLD, TeKAP, logit standardisation and DIST, each against its own zero.

A rival brings weight as well as an idea. So each stands beside an arm that has the weight alone. DIST is the exception:
no weight of KD equals that of its terms, so it stands beside itself with half of it.
"""

from collections.abc import Mapping
from typing import Any

from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import CRLD_WEIGHTS, with_floor

CCD, CRLD, TEKAP = "CCD", "CRLD", "TeKAP"
WEIGHED = f"CCD, {CRLD}'s weight"  # in all
QUIET = f"{TEKAP}, no noise"
TRIPLE = "KD, 3.4 times"
SOFTER = f"{TRIPLE}, T 4.44"  # of both networks; TeKAP softens its copies alone
LIGHTER = "DIST, weights 1"

# What gives CCD the same weight for the teacher in all. Its own is (1 + w) / 2, with a mean w of 1.471 in its published
# runs of profile reference; CRLD's is 2 (1.0 * 0.951 + 0.25 * 0.983), with the mean gates of the public ResNet-56 on
# 1,280 of the training images under JDA. Fixed before any run of CRLD.
CCD_WEIGHT = 1.94
# The controls of CRLD's gate.
GATES = {
    "none": "no gate",
    "constant": "mean gate",
    "shuffled": "gate shuffled",
    "cosine": "cosine",
    "both": "gate x cosine",
}
HALVED = {"inter_weight": 1.0, "intra_weight": 1.0}  # DIST's weights: 2 in the paper, 1 in ports
# TeKAP's weights; three copies at 0.8 make 3.4 times the term of plain KD.
LABELS, SOFT = 0.1, 0.9
NOISES = (1.0, 3.0)
TEMPERATURE = 4 / 0.9  # at which a teacher's softmax is that of 0.9 times its logits at 4
PRIMARY = 2  # contrasts of this chapter that share an error rate


def create(setting: Setting) -> Study:
    """The study of chapter 19_rivals.

    Two contrasts are primary here, and decide none of the book's claims: CRLD minus CCD at equal weight for the teacher
    in all, and TeKAP minus TeKAP without its noise. Demonstrations have one arm of each rival.
    """
    jda, plain = Policy(name="jda"), Policy(name="weak2")
    few = {"seeds": "few", "tier": 3}
    arms = [
        Arm("weak2", plain, seeds="many"),
        Arm("JDA", jda, seeds="many"),
        Arm(CCD, jda, "ccd", seeds="many"),
        Arm(CRLD, jda, "crld", CRLD_WEIGHTS),
        Arm(TEKAP, plain, "tekap"),
        Arm(QUIET, plain, "tekap", {"noise": 0.0}),
        Arm(WEIGHED, jda, "ccd", {"kd_weight": CCD_WEIGHT}),
        *(Arm(f"{name} + {views}", policy, method, **few)
          for name, method in (("standardised", "ls"), ("DIST", "dist"))
          for views, policy in (("weak2", plain), ("JDA", jda))),
        *([] if setting.profile.trains else _controls(jda, plain, few)),
    ]  # fmt: skip
    arms = by_label(*with_floor(arms))
    return Study("19_rivals", setting, arms, _contrasts(arms))


def _controls(jda: Policy, plain: Policy, few: dict[str, Any]) -> list[Arm]:
    """What a rival's weight, gate, view or noise does alone."""
    alone, own = {"ce_weight": LABELS, "kd_weight": SOFT}, Policy(name="crld")
    apart = {**CRLD_WEIGHTS, "cross_weight": 0.0}
    return [
        *(Arm(f"{CRLD}, {words}", jda, "crld", {**CRLD_WEIGHTS, "gate": gate}, **few) for gate, words in GATES.items()),
        Arm(f"{CRLD}, own view alone", jda, "crld", apart, **few),
        Arm(f"{CRLD} + weak2", plain, "crld", CRLD_WEIGHTS, **few),
        Arm(f"{CRLD} + its view", own, "crld", CRLD_WEIGHTS, **few),
        Arm(f"{CRLD} + its view, no gate", own, "crld", {**CRLD_WEIGHTS, "gate": "none"}, **few),
        Arm(f"{CRLD} + its view, own view alone", own, "crld", apart, **few),
        Arm("KD + CRLD's view", own, **few),
        Arm(TRIPLE, plain, "kd", alone | {"kd_weight": 3.4 * SOFT}, **few),
        Arm(SOFTER, plain, "kd", alone | {"kd_weight": 3.4 * SOFT, "temperature": TEMPERATURE}, **few),
        Arm("KD, TeKAP's weights", plain, "kd", alone, **few),
        *(Arm(f"{TEKAP}, noise {noise:g}", plain, "tekap", {"noise": noise}, **few) for noise in NOISES),
        Arm(f"{TEKAP} + JDA", jda, "tekap", **few),
        *(Arm(f"{name} + {views}", policy, method, options, **few)
          for name, method, options in (("one scale", "ls", {"scale": "batch"}), (LIGHTER, "dist", HALVED))
          for views, policy in (("weak2", plain), ("JDA", jda))),
    ]  # fmt: skip


def _contrasts(arms: Mapping[str, Arm]) -> tuple[Contrast, ...]:
    """Those whose arms are there: the two primary ones first."""
    gain = ("JDA", "weak2")
    pairs = {name: (f"{name} + JDA", f"{name} + weak2") for name in ("standardised", "one scale", "DIST")}
    found = [
        Contrast.of("R1", CRLD, WEIGHED, primary=True, among=PRIMARY),
        Contrast.of("R2", TEKAP, QUIET, primary=True, among=PRIMARY),
        *(Contrast.of(f"{name} - {than}", name, than) for name, than in (
            (CRLD, CCD), (CRLD, "JDA"), (CRLD, f"{CRLD}, no gate"), (CRLD, f"{CRLD}, mean gate"),
            (CRLD, f"{CRLD}, own view alone"), (CRLD, f"{CRLD} + weak2"), (f"{CRLD} + its view", "KD + CRLD's view"),
            (f"{CRLD} + its view", f"{CRLD} + its view, no gate"),
            (f"{CRLD} + its view", f"{CRLD} + its view, own view alone"),
            (TEKAP, TRIPLE), (QUIET, SOFTER), (TEKAP, "KD, TeKAP's weights"), ("JDA", TEKAP), (f"{TEKAP} + JDA", TEKAP),
            ("standardised + JDA", CCD), ("DIST + JDA", CCD),
            *((f"DIST + {views}", f"{LIGHTER} + {views}") for views in ("weak2", "JDA")),
        )),
        *(Contrast.of(f"gain of {name}", *pair) for name, pair in pairs.items()),
        *(Contrast.interaction(f"gain of {name} - gain of KD", pair, gain, f"gain from JDA: {name} - KD")
          for name, pair in pairs.items()),
    ]  # fmt: skip
    return tuple(contrast for contrast in found if set(contrast.weights) <= set(arms))
