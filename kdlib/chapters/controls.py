"""What a reader of a verdict should know beside it: exploratory comparisons that bear on a claim."""

from collections.abc import Mapping

import pandas as pd

from kdlib.chapters.ccd_versus_hsakd import LONGER
from kdlib.chapters.few_shot import percent
from kdlib.chapters.registry import create_study
from kdlib.lab.store import Store
from kdlib.study.arms import Contrast
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import GAIN, NO_TEACHER, RATES
from kdlib.study.stats import Verdict
from kdlib.study.tables import above_floor, contrast_interval, runs_frame, signed, span, untrained

#: Claim -> (what is asked, the chapter that measures it, the contrast there). {few} is the few-shot fraction.
CONTROLS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "a": (
        ("Does JDA help students of a teacher of our own?", "04_augmented_teacher", "gain with a plain teacher"),
        ("Does it help those of the public one more?", "04_augmented_teacher", "gain: public - plain"),
        ("Does it help students without a teacher?", "03_blind_teacher", "gain without a teacher"),
        ("Does it help distillation more than that?", "03_blind_teacher", "teaching"),
        ("Are two plain crops better than one view?", "03_blind_teacher", "weak2 - one view"),
        ("Is JDA beside a plain crop better than one view?", "03_blind_teacher", "JDA - one view"),
        ("On images that the teacher was trained on?", "03_blind_teacher", "gain on seen images"),
        ("On images that it was not?", "03_blind_teacher", "gain on unseen images"),
        ("Does it beat rotation where both make as many passes?", "03_blind_teacher", "JDA - rot2"),
        ("Is it more than what any augmentation does?", "03_blind_teacher", "JDA - RandAugment"),
    ),
    "b": (
        ("Do students of plain crops gain?", "04_augmented_teacher", "KD + weak2: difference of students"),
        ("Do students of JDA views gain?", "04_augmented_teacher", "KD + JDA: difference of students"),
    ),
    "c": (
        ("Does it help where half of all views, drawn at random, are augmented?", "05_proportion", "share 0.5 - p = 0"),
        ("And where all views are?", "05_proportion", "share 1 - p = 0"),
    ),
    "d": (
        ("Does it help at equally many passes too?", "06_few_shot", "{few}, equal epochs: JDA - weak2"),
        ("Does it help students of a teacher of our own?", "06_few_shot", GAIN),
    ),
    "e": (
        ("Is the mean one of all, or HSAKD's?", "07_compatibility", "e without turned views"),
        ("And with HSAKD at a quarter of the rate?", "07_compatibility", "e at a smaller rate"),
        *(
            (f"Does JDA help {name}?", "07_compatibility", f"gain of {name}")
            for name in ("KD", "DKD", "SPKD", "HSAKD", "CRD", "SSKD")
        ),
    ),
    "CCD": (
        ("Is HSAKD better than no teacher here?", "09_ccd_versus_hsakd", f"HSAKD, frozen teacher - {NO_TEACHER}"),
        ("Is it better than plain KD?", "09_ccd_versus_hsakd", "HSAKD, frozen teacher - KD + weak2"),
        *((f"Does CCD win at {words}?", "09_ccd_versus_hsakd", f"at {words}") for words in RATES.values()),
        (f"Does it win with {LONGER}?", "09_ccd_versus_hsakd", f"with {LONGER}"),
        ("Does it beat DKD on the same views?", "09_ccd_versus_hsakd", "CCD - DKD + JDA"),
        ("Is CCD better than KD on the same views?", "08_cosine_confidence", "CCD - w = 1 (KD + JDA)"),
        ("Does that total weight help, whoever gets it?", "08_cosine_confidence", "w = mean(w) - w = 1"),
        ("Is CCD better than the same total spread evenly?", "08_cosine_confidence", "CCD - w = mean(w)"),
        ("Than the same weights at random samples?", "08_cosine_confidence", "CCD - w shuffled"),
        ("Does the cosine help where it adds no weight in all?", "08_cosine_confidence", "w / mean(w) - w = 1"),
    ),
}


def controls_frame(store: Store, setting: Setting) -> pd.DataFrame:
    """One row per control: claim, question, what is compared, difference in points with its 95 % interval, n.

    A control that the studies of a profile do not have, as those of demonstrations, has no row.
    """
    few = percent(setting.profile.few_shot_fraction)
    chapters = {chapter for controls in CONTROLS.values() for _, chapter, _ in controls}
    studies = {chapter: create_study(chapter, setting) for chapter in sorted(chapters)}
    frames = {chapter: runs_frame(study, store) for chapter, study in studies.items()}
    rows = []
    for claim, controls in CONTROLS.items():
        for asked, chapter, name in controls:
            contrast = studies[chapter].contrast(name.format(few=few))
            if contrast is None:
                continue
            interval = contrast_interval(contrast, frames[chapter])
            rows.append(
                {
                    "claim": claim,
                    "asked": asked,
                    "compared": contrast.title,
                    "difference": signed(interval),
                    "95 % interval": span(interval, "+.2f"),
                    "n": interval.n,
                    "tested": _tested(studies[chapter], contrast, frames[chapter]),
                    "chapter": chapter[:2],
                }
            )
    return pd.DataFrame(rows).set_index("claim").rename_axis(None)


def _tested(study: Study, contrast: Contrast, frame: pd.DataFrame) -> str:
    """Whether a comparison rests on an arm that did not train, see `kdlib.study.judging`."""
    below = untrained(above_floor(study, frame, contrast.weights))
    return f"{Verdict.NOT_TESTED}: {', '.join(below)}" if below else ""
