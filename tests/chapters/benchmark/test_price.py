"""What verdicts took: counted from specs, and summed from what runs noted."""

import pytest

from kdlib.chapters import registry
from kdlib.chapters.benchmark.price import ALL, price_frame, time_taken
from kdlib.chapters.claims import CONTRASTS, runs_of
from kdlib.lab.forecasts import run_cost
from kdlib.lab.store import Store
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def setting() -> Setting:
    return Setting.of("quick", device="cpu")


def test_an_empty_store_has_plans_and_no_time(setting):
    frame = price_frame(Store("quick"), setting)
    assert list(frame.index) == [*(f"{name}: {text}" for name, (text, _) in CONTRASTS.items()), ALL]
    assert all(there.split(" of ")[1] != "0" for there in frame["runs there"])


def test_a_row_sums_the_runs_of_its_arms_floors_and_teachers(setting, invented):
    store, (text, chapter) = Store("quick"), CONTRASTS["a1"]
    study = registry.create_study(chapter, setting)
    specs = runs_of(study, "a1")
    labels = {arm for arm in study.arms if {s.key for s in study.specs(arm)} & {s.key for s in specs}}
    assert {"weak2", "JDA", "no teacher"} <= labels
    for spec in specs:
        found = invented(spec, "quick")
        store.put(found.model_copy(update={"provenance": found.provenance | {"seconds": 90.0}}))
    row = price_frame(store, setting).loc[f"a1: {text}"]
    views, macs = (sum(getattr(run_cost(spec), name) for spec in specs) for name in ("views", "run_macs"))
    assert row["runs there"] == f"{len(specs)} of {len(specs)}"
    assert float(row["million views"]) == pytest.approx(views / 1e6, rel=0.01)
    assert float(row["TMACs"]) == pytest.approx(macs / 1e12, rel=0.01)
    threads = specs[0].machine.threads
    assert row["time taken"] == f"{threads * 90 * len(specs) / 3600:.3g} core-hours"


def test_shared_runs_count_once_in_the_last_row(setting):
    frame = price_frame(Store("quick"), setting)
    runs = frame["runs there"].str.split(" of ").str[1].astype(int)
    assert runs[ALL] < runs.drop(ALL).sum()
    rows = frame.drop(ALL)
    a1, c1 = (next(row for name, row in rows.iterrows() if name.startswith(f"{start}:")) for start in ("a1", "c1"))
    assert a1["runs there"] == c1["runs there"]  # the same runs
    assert int(frame.loc[ALL, "kept answers save"].split()[0]) >= 0


def test_core_hours_count_threads_and_cards_count_minutes():
    assert time_taken([]) == "–"
    assert time_taken([("cpu", 2, {"seconds": 1800.0}), ("cpu", 1, {"seconds": 3600.0})]) == "2 core-hours"
    assert time_taken([("cuda", 8, {"seconds": 90.0}), ("cuda", 1, {"seconds": None})]) == "1.5 GPU-minutes"
    both = [("cpu", 1, {"seconds": 360.0}), ("cuda", 1, {"seconds": 6.0})]
    assert time_taken(both) == "0.1 core-hours and 0.1 GPU-minutes"
