"""Frozen thresholds: do augmented views in distillation make the thresholds that were chosen at home hold abroad?

AUC cannot tell, since it sweeps the threshold on each set anew (Kleppe, ESMO Open 2022). Nothing is trained that other
chapters do not train.
"""

from collections.abc import Mapping
from itertools import chain

from kdlib.data.images import available, check_name, load_data
from kdlib.lab.measurements import ThresholdsSpec
from kdlib.lab.measures.frozen_thresholds import external_images
from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, by_label
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import with_floor
from kdlib.views.corruptions import KINDS

WEAK2, JDA, CCD = "weak2", "JDA", "CCD"
#: The arms whose students are asked; the floor only says whether they trained.
MEASURED = (WEAK2, JDA, CCD)
PRIMARY = 1  # contrasts of this chapter that share an error rate
LOSS = "threshold loss under the strongest corruptions"


def create(setting: Setting, external: str = "") -> Study:
    """The study of chapter 23_thresholds. external: a data set whose test images are asked about too, or "".

    One contrast is primary, and decides none of the book's claims: the threshold loss under the strongest corruptions,
    JDA minus weak2. Where students are trained on all training images, these leave the validation split out.
    """
    jda, plain = Policy(name="jda"), Policy(name="weak2")
    whole = setting.profile.pool is None and setting.profile.fraction == 1
    arms = with_floor([
        Arm(WEAK2, plain, validation=whole), Arm(JDA, jda, validation=whole), Arm(CCD, jda, "ccd", validation=whole),
    ])  # fmt: skip
    study = Study("23_thresholds", setting, by_label(*arms), _contrasts(bool(external)))
    asked = {name_of(label, run.seed): run for label in MEASURED for run in study.specs(label)}
    measured = {name: setting.thresholds(run, external or None) for name, run in asked.items()}
    _check_external(external, setting.data, next(iter(measured.values())))
    return Study(study.name, setting, study.arms, study.contrasts, measured)


def name_of(arm: str, seed: int) -> str:
    """What the measurement of a student is called."""
    return f"{arm}, seed {seed}"


def _check_external(external: str, own: str, spec: ThresholdsSpec) -> None:
    """Raises ValueError for a set that no student could be asked about, before any of them is trained."""
    if external:
        check_name(external)
        if available(external) and available(own):
            external_images(spec, load_data(own).test)


def _contrasts(external: bool) -> tuple[Contrast, ...]:
    """The primary one first; what is explored beside it are its parts, and what AUC and F1 say of the same images."""
    explored = {
        "AUC": "auc",
        "F1 at frozen thresholds": "f1",
        **{f"threshold loss under {kind}": f"{kind}_threshold_loss" for kind in KINDS},
        "threshold loss on test images": "test_threshold_loss",
        **({"threshold loss on the external set": "external_threshold_loss"} if external else {}),
    }
    pairs = ((JDA, WEAK2), (CCD, JDA))
    return (
        _contrast("K1", LOSS, "threshold_loss", *pairs[0], says="less", primary=True, among=PRIMARY),
        _contrast(f"{LOSS}: {CCD} - {JDA}", LOSS, "threshold_loss", *pairs[1]),
        *chain.from_iterable(
            (_contrast(f"{text}: {arm} - {than}", text, metric, arm, than) for arm, than in pairs)
            for text, metric in explored.items()
        ),
    )


def _contrast(name: str, what: str, metric: str, arm: str, than: str, **fields) -> Contrast:
    weights: Mapping[str, float] = {arm: 1.0, than: -1.0}
    return Contrast(name, weights, f"{what}: {arm} - {than}", metric=metric, **fields)
