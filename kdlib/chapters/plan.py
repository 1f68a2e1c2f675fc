"""How long what a profile plans takes, and how much of it is there."""

import pandas as pd

from kdlib.chapters.registry import studies_of
from kdlib.lab.forecasts import forecast, hours
from kdlib.lab.store import Store
from kdlib.study.setting import Setting
from kdlib.study.tiers import TIERS, by_tier


def table(setting: Setting, store: Store) -> pd.DataFrame:
    """One row per tier: its runs, how many are there, hours of one core for all of them and for those that are missing.

    Hours are forecasts, with teachers' answers kept (see `kdlib.lab.answers`).
    """
    rows = {}
    for tier, specs in by_tier(studies_of(setting), max(TIERS)).items():
        runs = [spec for spec in specs if spec.trains]
        lacking = [spec for spec in runs if store.get(spec) is None]
        planned = tier <= setting.profile.tiers
        rows[f"{tier}: {TIERS[tier]}"] = {
            "runs": len(runs),
            "there": len(runs) - len(lacking),
            "all, on one core": hours(forecast(runs, kept=True)) if runs else "",
            "missing, on one core": (hours(forecast(lacking, kept=True)) if lacking else "nothing") if planned
            else "not planned",
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")
