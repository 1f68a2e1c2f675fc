"""What the verdicts of the book took: runs, views, arithmetic, time, and what their runs keep beside the networks."""

from collections.abc import Mapping, Sequence

import pandas as pd

from kdlib.chapters.claims import contrasts_of, own_runs
from kdlib.chapters.registry import create_study
from kdlib.lab.forecasts import run_cost, total_macs
from kdlib.lab.runs import needed
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.study.setting import Setting
from kdlib.study.tables import digits

TEACHERS = "teachers trained here, each once"
ALL = "all, each run once"


def verdict_runs(setting: Setting) -> dict[str, list[RunSpec]]:
    """Title of each primary contrast of a setting -> the runs of its arms and of their floors.

    They are those of the claims, or, of a profile with chapters of its own, those of these chapters.
    """
    if not setting.profile.chapters:
        known = contrasts_of(setting).items()
        return {f"{name}: {text}": own_runs(create_study(chapter, setting), name) for name, (text, chapter) in known}
    studies = [create_study(chapter, setting) for chapter in setting.profile.chapters]
    return {c.title: own_runs(study, c.name) for study in studies for c in study.contrasts if c.primary}


def price_frame(store: Store, setting: Setting) -> pd.DataFrame:
    """One row per primary contrast of a setting, with the runs of its arms and of their floors; one for the teachers of
    all of them that are trained; one for everything. A run that several contrasts share counts in the row of each, and
    once in the last two."""
    verdicts = verdict_runs(setting)
    rows = {title: _row(runs, store, _teachers(runs)) for title, runs in verdicts.items()}
    everything = needed(spec for runs in verdicts.values() for spec in runs)
    taught = needed(spec for runs in verdicts.values() for spec in _teachers(runs))
    return pd.DataFrame.from_dict(rows | {TEACHERS: _row(taught, store), ALL: _row(everything, store)}, orient="index")


def _teachers(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """The runs of their teachers, and of the heads on them, but for those among themselves."""
    own = {spec.key for spec in runs}
    return [spec for spec in needed(runs) if spec.key not in own]


def _row(specs: Sequence[RunSpec], store: Store, teachers: Sequence[RunSpec] = ()) -> dict[str, str]:
    costs = [run_cost(spec) for spec in specs]
    there = [result for spec in specs if (result := store.get(spec))]
    taught = sum(store.get(spec) is not None for spec in teachers)
    macs = total_macs(specs)
    return {
        "runs there": f"{len(there)} of {len(specs)}",
        "without a time": str(sum(not result.provenance["seconds"] for result in there)),
        "their teachers there": f"{taught} of {len(teachers)}" if teachers else "–",
        "million views": f"{sum(cost.views for cost in costs) / 1e6:,.3g}",
        "TMACs": digits(macs / 1e12),
        "time taken": time_taken([(r.spec.machine.device, r.spec.machine.threads, r.provenance) for r in there]),
        "kept answers save": f"{100 * (1 - total_macs(specs, kept=True) / macs):.0f} %" if macs else "–",
        "training MB": f"{max((cost.training_bytes for cost in costs), default=0) / 1e6:.2f}",
    }


def time_taken(runs: Sequence[tuple[str, int, Mapping]]) -> str:
    """Core-hours of the runs on CPUs and GPU-minutes of the others, in words.

    runs: device, threads and provenance (see `RunResult`) of each. Training alone counts, not what comes after it, and
    what has no time noted does not.
    """
    cores = sum(threads * facts["seconds"] for device, threads, facts in runs if device == "cpu" and facts["seconds"])
    cards = sum(facts["seconds"] for device, _, facts in runs if device != "cpu" and facts["seconds"])
    parts = [f"{cores / 3600:,.3g} core-hours"] * (cores > 0) + [f"{cards / 60:,.3g} GPU-minutes"] * (cards > 0)
    return " and ".join(parts) or "–"
