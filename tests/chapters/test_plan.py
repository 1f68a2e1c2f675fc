"""What a profile plans: tiers that add up, and a table that counts what is there."""

import pytest

from kdlib.chapters import plan
from kdlib.chapters.registry import create_study, studies_of
from kdlib.lab import forecasts
from kdlib.lab.forecasts import forecast, hours
from kdlib.lab.runs import needed
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.study.setting import Setting
from kdlib.study.tiers import by_tier, names_of

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def setting():
    return Setting.of("reference", device="cpu")


def test_every_spec_stands_in_one_tier_behind_its_teachers(setting):
    planned = by_tier(studies_of(setting), 4)
    assert list(planned) == [1, 2, 3, 4]
    specs = [spec for group in planned.values() for spec in group]
    keys = [spec.key for spec in specs]
    assert len(set(keys)) == len(keys)
    everything = needed(s for study in studies_of(setting) for s in study.specs_to(4))
    assert set(keys) == {spec.key for spec in everything}
    for place, spec in enumerate(specs):
        assert all(run.key in keys[:place] for run in spec.prerequisites)


def test_another_profiles_studies_are_left_out():
    assert [s.name for s in studies_of(Setting.of("imagenet", device="cpu"))] == ["10_imagenet"]
    names = {s.name for s in studies_of(Setting.of("paper", device="cpu"))}
    assert "16_sizing" not in names and "03_blind_teacher" in names  # the sizing chapter shows profile reference


def test_the_table_counts_what_is_there(setting, invented):
    study, store = create_study("03_blind_teacher", setting), Store("reference")
    for spec in [*study.specs("weak2"), *study.specs("rot2")]:
        store.put(invented(spec, "reference"))
    table = plan.table(setting, Store("reference"))
    assert [row[0] for row in table.index] == list("1234")
    assert table.there.tolist() == [10, 0, 3, 0]
    planned = by_tier(studies_of(setting), 4)
    for (_, row), specs in zip(table.iterrows(), planned.values(), strict=True):
        runs = [spec for spec in specs if spec.trains]
        assert row.runs == len(runs) and row["all, on one core"] == hours(forecast(runs, kept=True))
    assert table["missing, on one core"].iloc[-1] == "not planned"
    lacking = [spec for spec in planned[1] if Store("reference").get(spec) is None]
    assert table["missing, on one core"].iloc[0] == hours(forecast(lacking, kept=True))


def test_every_spec_of_a_profile_weighs_something_and_has_a_name():
    """Runs weigh at least their arithmetic; names begin with the first chapter that needs the spec."""
    for scale in ("smoke", "quick", "reference"):
        studies = studies_of(Setting.of(scale, device="cpu"))
        names = names_of(studies)
        for study in studies:
            for spec in needed(study.specs_to(4)):  # also those that only --tier 4 asks for
                assert forecasts.work(spec) > (forecasts.run_cost(spec).run_macs if isinstance(spec, RunSpec) else 0)
                assert names[spec.key].split(": ")[0] <= study.name
    spec = create_study("03_blind_teacher", Setting.of("quick", device="cpu")).specs("JDA")[1]
    assert names_of(studies_of(Setting.of("quick", device="cpu")))[spec.key] == "00_tour: distilled, augmented, seed 1"
