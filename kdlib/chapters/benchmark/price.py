"""What the verdicts of the book took: runs, views, arithmetic, time, and what their runs keep beside the networks."""

from collections.abc import Mapping, Sequence

import pandas as pd

from kdlib.chapters.claims import contrasts_of, runs_of
from kdlib.chapters.registry import create_study
from kdlib.lab.forecasts import forecast, run_cost
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.study.setting import Setting
from kdlib.study.tables import digits

ALL = "all, each run once"


def price_frame(store: Store, setting: Setting) -> pd.DataFrame:
    """One row per primary contrast of a setting, with the runs of its arms, of their floors and of their teachers, and
    one for all of them together: a run that several contrasts share counts in the row of each."""
    runs = {
        f"{name}: {text}": runs_of(create_study(chapter, setting), name)
        for name, (text, chapter) in contrasts_of(setting).items()
    }
    together = {spec.key: spec for specs in runs.values() for spec in specs}
    rows = {name: _row(specs, store) for name, specs in (runs | {ALL: list(together.values())}).items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def _row(specs: list[RunSpec], store: Store) -> dict[str, str]:
    costs = [run_cost(spec) for spec in specs]
    saved = 1 - forecast(specs, kept=True) / forecast(specs)
    there = [result for spec in specs if (result := store.get(spec))]
    return {
        "runs there": f"{len(there)} of {len(specs)}",
        "million views": f"{sum(cost.views for cost in costs) / 1e6:,.3g}",
        "TMACs": digits(sum(cost.run_macs for cost in costs) / 1e12),
        "time taken": time_taken([(r.spec.machine.device, r.spec.machine.threads, r.provenance) for r in there]),
        "kept answers save": f"{100 * saved:.0f} %",
        "training MB": f"{max(cost.training_bytes for cost in costs) / 1e6:.2f}",
    }


def time_taken(runs: Sequence[tuple[str, int, Mapping]]) -> str:
    """Core-hours of the runs on CPUs and GPU-minutes of the others, in words.

    runs: device, threads and provenance (see `RunResult`) of each. Training alone counts, not what comes after it.
    """
    cores = sum(threads * facts["seconds"] for device, threads, facts in runs if device == "cpu" and facts["seconds"])
    cards = sum(facts["seconds"] for device, _, facts in runs if device != "cpu" and facts["seconds"])
    parts = [f"{cores / 3600:,.3g} core-hours"] * (cores > 0) + [f"{cards / 60:,.3g} GPU-minutes"] * (cards > 0)
    return " and ".join(parts) or "–"
