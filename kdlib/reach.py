"""How far the intervals of primary contrasts reach: over seeds, over test images too, and with how many seeds."""

import math

import pandas as pd

from kdlib.claims import CONTRASTS, WITH_HSAKD
from kdlib.equivalence import equivalence
from kdlib.power_plan import MOST_SEEDS, Need, required
from kdlib.stats import MARGIN
from kdlib.store import Store
from kdlib.studies import Contrast, Setting, Study, create_study
from kdlib.tables import contrast_interval, contrast_values, runs_frame, span
from kdlib.two_way import contrast_matrix, two_way_interval


def reach_frame(store: Store, setting: Setting) -> pd.DataFrame:
    """One row per primary contrast: its interval over seeds, and over seeds and test images, both at its level.

    Where the claim is that two arms do not differ, whether they are equivalent within the margin; and how many seeds
    would find a difference of the margin with a power of 80 %. Those with HSAKD have no row where the setting's
    networks do not go with it.
    """
    rows = {}
    for name, (text, chapter) in CONTRASTS.items():
        if name in WITH_HSAKD and not setting.fits("hsakd"):
            continue
        study = create_study(chapter, setting)
        contrast = study.contrast(name)
        needs = {need.contrast: need for need in required(study, store)}
        rows[f"{name}: {text}"] = _row(study, store, contrast, needs.get(name))
    return pd.DataFrame.from_dict(rows, orient="index")


def _row(study: Study, store: Store, contrast: Contrast, need: Need | None) -> dict[str, str]:
    frame = runs_frame(study, store)
    seeds, values = contrast_interval(contrast, frame), list(contrast_values(contrast, frame).values())
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
