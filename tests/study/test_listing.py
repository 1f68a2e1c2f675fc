"""Lines that a person reads, and records that a program does, of the same runs."""

import json

import pytest

from kdlib.__main__ import main
from kdlib.chapters.registry import create_study
from kdlib.lab import forecasts
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.study import listing
from kdlib.study.setting import Setting
from kdlib.study.tiers import by_tier

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def study():
    return create_study("03_blind_teacher", Setting.of("reference", device="cpu"))


def found(study) -> list[dict]:
    return listing.records([study], by_tier([study], 3), Store("reference"))


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([3], "seed 3"), ([4, 0, 1, 2, 3], "seeds 0-4"), ([0, 1, 2, 7], "seeds 0-2, 7"), ([1, 3], "seeds 1, 3")],
)
def test_seeds_are_ranges(numbers, words):
    assert listing.seeds(numbers) == words


def test_an_arm_is_one_line_with_its_seeds_its_cost_and_what_is_there(study, invented):
    for spec in study.specs("JDA")[:4]:
        Store("reference").put(invented(spec, "reference"))
    shown = listing.lines(found(study))
    assert shown[0] == "03_blind_teacher" and all(line.startswith("  ") for line in shown[1:])
    macs = sum(forecasts.run_cost(spec).run_macs for spec in study.specs("JDA")) / 1e12
    assert f"  JDA, seeds 0-9, {macs:,.3g} TMACs, 4 of 10 there" in shown
    assert "  JDA (views), 0 of 1 there" in shown
    planned = [arm for arm in study.arms if study.tier(arm) <= 3]
    assert {line.split(",")[0].strip() for line in shown[1:] if "(" not in line} >= {a for a in planned if "," not in a}


def test_records_are_json_and_add_up(study, capsys):
    records = found(study)
    assert len({record["key"] for record in records}) == len(records)
    runs = [spec for spec in study.specs_to(3) if isinstance(spec, RunSpec)]
    assert {spec.key for spec in runs} <= {record["key"] for record in records}
    by_key = {record["key"]: record for record in records}
    for spec in runs:
        assert by_key[spec.key]["macs"] == forecasts.run_cost(spec).run_macs and by_key[spec.key]["seed"] == spec.seed
    words = ["03_blind_teacher", "--profile", "reference", "--device", "cpu"]
    for command, count in (("status", len(records)), ("plan", sum(record["kind"] == "run" for record in records))):
        assert main([command, *words, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)) == count


def test_short_and_long_say_the_same(study, capsys):
    words = ["status", "03_blind_teacher", "--profile", "reference", "--device", "cpu"]
    assert main(words) == 0
    short = capsys.readouterr().out.strip().split("\n")
    assert main([*words, "--long"]) == 0
    long = capsys.readouterr().out.strip().split("\n")
    totals = [line for line in short if line.startswith("tier")]
    rows = [line for line in long if line.startswith("missing  ")]
    assert len(totals) == 4 and totals == [line for line in long if line.startswith("tier")]
    counts = [line.rsplit(", ", 1)[1].split() for line in short if line.startswith("  ")]
    assert sum(int(of) - int(there) for there, _, of, _ in counts) == len(rows) == len(long) - len(totals)
