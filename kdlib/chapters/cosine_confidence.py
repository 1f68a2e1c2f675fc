"""CCD, the controls that separate the cosine from the total weight, and the four terms of the loss."""

from kdlib.lab.recipe import Policy
from kdlib.methods.ccd import CCD_WEIGHTS, CLUSTERED
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import dkd_options, with_floor

WEIGHT_NAMES = {
    "cosine": "CCD", "one": "w = 1 (KD + JDA)", "mean": "w = mean(w)", "shuffled": "w shuffled",
    "normalised": "w / mean(w)", "centred": "centred cosine", "softmax": "cosine of softmax",
    "confidence": "confidence of teacher", "cluster": "same cluster", "cluster_shuffled": "same cluster, shuffled",
}  # fmt: skip
HEADLINE = ("cosine", "mean")  # whose difference is what the cosine adds to the total weight
DEMONSTRATED = ("cosine", "one", "mean", "shuffled")
# Which of CE on x, CE on x~, KL on x, KL on x~ are on; all four are KD + JDA.
# Switching terms off makes the whole loss smaller: "x only, twice" has the total weight of all four.
FOUR_TERMS = {
    "x only": (1, 0, 1, 0), "x only, twice": (2, 0, 2, 0), "x, CE on x~": (1, 1, 1, 0), "x, KL on x~": (1, 0, 1, 1),
    "CE only": (1, 1, 0, 0), "KL only": (0, 0, 1, 1),
}  # fmt: skip


def create(setting: Setting, weights: list[str] | None = None) -> Study:
    """The study of chapter 08_cosine_confidence. weights: keys of WEIGHT_NAMES; ValueError for others."""
    weights = list(weights or (DEMONSTRATED if setting.profile.trains else CCD_WEIGHTS))
    unknown = [w for w in weights if w not in CCD_WEIGHTS]
    if unknown or len(set(weights)) < len(weights):
        raise ValueError(
            f"weights = {weights!r} is not possible; allowed are different words among {', '.join(CCD_WEIGHTS)}"
        )
    jda, both = Policy(name="jda"), WEIGHT_NAMES["one"]
    terms = dict(list(FOUR_TERMS.items())[:4] if setting.profile.trains else FOUR_TERMS)
    rival = "DKD + JDA"
    arms = by_label(*with_floor([
        Arm("weak2", Policy(name="weak2"), seeds="many"),
        Arm(both, jda, seeds="many"),
        Arm(rival, jda, "dkd", dkd_options(setting)),
        *(
            Arm(
                WEIGHT_NAMES[w], jda, "ccd", {"weight": w}, seeds="many" if w in HEADLINE else "few",
                tier=3 if w in CLUSTERED else 2,
            )
            for w in weights
            if w != "one"
        ),
        *(
            Arm(name, jda, "four_term", {"weights": tuple(map(float, on))}, seeds="few", tier=3)
            for name, on in terms.items()
        ),
    ]))  # fmt: skip
    ccd = WEIGHT_NAMES["cosine"]
    others = [WEIGHT_NAMES[w] for w in weights if w != "cosine"]
    contrasts = [Contrast.of(f"CCD - {o}", ccd, o) for o in others if ccd in arms]
    contrasts += [Contrast.of(f"CCD - {rival}", ccd, rival)] if ccd in arms else []
    if "mean" in weights:  # what more weight for the augmented views brings, whoever gets it
        contrasts.append(Contrast.of("w = mean(w) - w = 1", WEIGHT_NAMES["mean"], both))
    if "normalised" in weights:  # no more weight in all than w = 1 has: only which view gets it is left
        contrasts.append(Contrast.of("w / mean(w) - w = 1", WEIGHT_NAMES["normalised"], both))
    same, shuffled = (WEIGHT_NAMES[w] for w in CLUSTERED)
    if same in arms:  # of a hard weight: against none, and against one that takes away as much of other views
        contrasts += [Contrast.of(f"{same} - {than}", same, than) for than in (both, shuffled) if than in arms]
    contrasts += [Contrast.of(f"all four terms - {name}", both, name) for name in terms]
    return Study("08_cosine_confidence", setting, arms, tuple(contrasts), {"JDA": setting.views(jda)})
