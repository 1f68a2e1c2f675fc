"""What a profile plans, tier by tier, and how long it takes."""

from collections.abc import Sequence

import pandas as pd

from kdlib.runs import needed
from kdlib.specs import RunSpec, Spec
from kdlib.store import Store
from kdlib.studies import STUDIES, Setting, Study, create_study
from kdlib.tables import forecast, hours

TIERS = {
    1: "decides the claims", 2: "curves and controls", 3: "explored, with fewer seeds", 4: "left to larger machines",
}  # fmt: skip


def studies_of(setting: Setting) -> list[Study]:
    """Every study of a setting's profile: at imagenet its one chapter, and none that belongs to another profile."""
    names = ["10_imagenet"] if setting.profile.name == "imagenet" else list(STUDIES)
    studies = [create_study(name, setting) for name in names]
    return studies if setting.profile.trains else [s for s in studies if s.setting.profile is setting.profile]


def by_tier(studies: Sequence[Study], last: int) -> dict[int, list[Spec]]:
    """Tier -> what it adds to those before, each spec once, teachers before students; up to the tier `last`."""
    found, before = {}, set()
    for tier in range(1, last + 1):
        specs = needed(spec for study in studies for spec in study.specs_to(tier))
        found[tier] = [spec for spec in specs if spec.key not in before]
        before |= {spec.key for spec in specs}
    return found


def table(setting: Setting, store: Store) -> pd.DataFrame:
    """One row per tier: its runs, how many are there, hours of one core for all of them and for those that are missing.

    Hours are forecasts, with teachers' answers kept (see `kdlib.answers`).
    """
    rows = []
    for tier, specs in by_tier(studies_of(setting), max(TIERS)).items():
        runs = [spec for spec in specs if isinstance(spec, RunSpec)]
        lacking = [spec for spec in runs if store.get(spec) is None]
        planned = tier <= setting.profile.tiers
        rows.append(
            {
                "tier": f"{tier}: {TIERS[tier]}",
                "runs": len(runs),
                "there": len(runs) - len(lacking),
                "all, on one core": hours(forecast(runs, kept=True)) if runs else "",
                "missing, on one core": (hours(forecast(lacking, kept=True)) if lacking else "nothing") if planned
                else "not planned",
            }
        )  # fmt: skip
    return pd.DataFrame(rows).set_index("tier").rename_axis(None)
