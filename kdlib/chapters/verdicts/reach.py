"""How far the intervals of primary contrasts reach: over seeds, over test images too, and with how many seeds."""

import math

import pandas as pd

from kdlib.chapters.claims import contrasts_of
from kdlib.chapters.power_plan import MOST_SEEDS, Need, required, typical_spread
from kdlib.chapters.registry import create_study
from kdlib.lab.store import Store
from kdlib.study.arms import Contrast
from kdlib.study.equivalence import equivalence
from kdlib.study.setting import Setting, Study
from kdlib.study.stats import MARGIN, mean_interval
from kdlib.study.tables import contrast_values, runs_frame, span
from kdlib.study.two_way import contrast_matrix, two_way_interval


def reach_frame(store: Store, setting: Setting) -> pd.DataFrame:
    """One row per primary contrast: its interval over seeds, and over seeds and test images, both at its level.

    Where the claim is that two arms do not differ, whether they are equivalent within the margin; and how many seeds
    would find a difference of the margin with a power of 80 %. Those with HSAKD have no row where the setting's
    networks do not go with it.
    """
    asked = contrasts_of(setting)
    studies = {chapter: create_study(chapter, setting) for _, chapter in asked.values()}
    needs = needs_of(store, setting)
    rows = {
        f"{name}: {text}": _row(studies[chapter], store, studies[chapter].contrast(name), needs.get(name))
        for name, (text, chapter) in asked.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def needs_of(store: Store, setting: Setting) -> dict[str, Need]:
    """Primary contrast -> how many seeds would find a difference of the margin."""
    studies = [create_study(name, setting) for name in dict.fromkeys(c for _, c in contrasts_of(setting).values())]
    typical = typical_spread(setting, store) if setting.verdicts else None
    return {need.contrast: need for study in studies for need in required(study, store, typical)}


def _row(study: Study, store: Store, contrast: Contrast, need: Need | None) -> dict[str, str]:
    values = list(contrast_values(contrast, runs_frame(study, store)).values())
    seeds = mean_interval(values, contrast.level)
    both = two_way_interval(contrast_matrix(study, store, contrast), contrast.level)
    same = str(equivalence(values)) if contrast.says == "no better" else "–"
    return {
        "n": str(seeds.n),
        "over seeds": span(seeds, "+.2f"),
        "over seeds and test images": span(both, "+.2f"),
        "equivalent?": same,
        f"seeds for {MARGIN} points": _seeds(need) if need and not math.isnan(need.spread) else "",
    }


def _seeds(need: Need) -> str:
    return str(need.seeds) if need.seeds else f"more than {MOST_SEEDS}"
