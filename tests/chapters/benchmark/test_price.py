"""What verdicts took: counted from specs, and summed from what runs noted."""

import pytest

from kdlib.chapters import registry
from kdlib.chapters.benchmark.price import ALL, TEACHERS, price_frame, time_taken, verdict_runs
from kdlib.chapters.claims import CONTRASTS, own_runs, runs_of
from kdlib.chapters.registry import create_study
from kdlib.lab.forecasts import run_cost
from kdlib.lab.store import Store
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def setting() -> Setting:
    return Setting.of("quick", device="cpu")


def test_an_empty_store_has_plans_and_no_time(setting):
    frame = price_frame(Store("quick"), setting)
    assert list(frame.index) == [*(f"{name}: {text}" for name, (text, _) in CONTRASTS.items()), TEACHERS, ALL]
    assert all(there.split(" of ")[1] != "0" for there in frame["runs there"])


def test_a_row_sums_the_runs_of_its_arms_and_floors(setting, invented):
    store, (text, chapter) = Store("quick"), CONTRASTS["a1"]
    study = registry.create_study(chapter, setting)
    specs = own_runs(study, "a1")
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


def test_teachers_are_counted_once_and_apart(setting):
    """At this profile teachers are shared by students and by contrasts, and some come with the project."""
    store, (text, chapter) = Store("quick"), CONTRASTS["b2"]
    study = create_study(chapter, setting)
    own, everything = own_runs(study, "b2"), runs_of(study, "b2")
    teachers = [spec for spec in everything if spec not in own]
    assert teachers and len(own) + len(teachers) == len(everything)
    frame = price_frame(store, setting)
    there = {spec.key for spec in everything if store.get(spec)}
    row = frame.loc[f"b2: {text}"]
    assert row["runs there"] == f"{len(there & {s.key for s in own})} of {len(own)}"
    assert row["their teachers there"] == f"{len(there & {s.key for s in teachers})} of {len(teachers)}"
    assert float(row["million views"]) == pytest.approx(sum(run_cost(s).views for s in own) / 1e6, rel=0.01)
    keys = {spec.key for runs in verdict_runs(setting).values() for spec in runs}
    taught = {
        t.key: t for name, (_, c) in CONTRASTS.items() for t in runs_of(create_study(c, setting), name)
        if t.key not in {s.key for s in own_runs(create_study(c, setting), name)}
    }  # fmt: skip
    assert frame.loc[TEACHERS, "runs there"].endswith(f" of {len(taught)}")
    assert frame.loc[TEACHERS, "their teachers there"] == "–"
    assert float(frame.loc[TEACHERS, "TMACs"]) == pytest.approx(
        sum(run_cost(t).run_macs for t in taught.values()) / 1e12, rel=0.01
    )
    assert frame.loc[ALL, "runs there"].endswith(f" of {len(keys | set(taught))}")


def test_runs_without_a_time_are_counted_and_add_none(setting, invented):
    store, (text, chapter) = Store("quick"), CONTRASTS["a1"]
    specs = own_runs(create_study(chapter, setting), "a1")
    for spec, seconds in zip(specs, (None, 3600.0, *[None] * len(specs)), strict=False):
        found = invented(spec, "quick")
        store.put(found.model_copy(update={"provenance": found.provenance | {"seconds": seconds}}))
    row = price_frame(store, setting).loc[f"a1: {text}"]
    assert row["without a time"] == str(len(specs) - 1)
    assert row["time taken"] == f"{specs[1].machine.threads:g} core-hours"


def test_a_profile_of_one_chapter_has_its_own_verdicts():
    titles = list(verdict_runs(Setting.of("full", device="cpu")))
    assert [title.split(":")[0] for title in titles] == ["A1", "A2", "A3", "A4", "F1", "F2", "F3", "F4"]


def test_shared_runs_count_once_in_the_last_row(setting):
    frame = price_frame(Store("quick"), setting)
    runs = frame["runs there"].str.split(" of ").str[1].astype(int)
    assert runs[ALL] < runs.drop([TEACHERS, ALL]).sum()
    rows = frame.drop([TEACHERS, ALL])
    a1, c1 = (next(row for name, row in rows.iterrows() if name.startswith(f"{start}:")) for start in ("a1", "c1"))
    assert a1["runs there"] == c1["runs there"]  # the same runs
    assert int(frame.loc[ALL, "kept answers save"].split()[0]) >= 0


def test_core_hours_count_threads_and_cards_count_minutes():
    assert time_taken([]) == "–"
    assert time_taken([("cpu", 2, {"seconds": 1800.0}), ("cpu", 1, {"seconds": 3600.0})]) == "2 core-hours"
    assert time_taken([("cuda", 8, {"seconds": 90.0}), ("cuda", 1, {"seconds": None})]) == "1.5 GPU-minutes"
    both = [("cpu", 1, {"seconds": 360.0}), ("cuda", 1, {"seconds": 6.0})]
    assert time_taken(both) == "0.1 core-hours and 0.1 GPU-minutes"
