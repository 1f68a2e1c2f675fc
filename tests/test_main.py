"""The command line: plans, shards, status, downloads, publishing, exit codes."""

import os
import re
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest

from kdlib import __main__ as command_line
from kdlib import choices, commands
from kdlib.__main__ import main
from kdlib.chapters import power_plan
from kdlib.chapters.registry import create_study
from kdlib.commands import shard
from kdlib.elsewhere.boxes import trees
from kdlib.lab import forecasts, runs, schedule
from kdlib.lab.runs import needed
from kdlib.lab.specs import RunSpec
from kdlib.lab.stacks import members
from kdlib.lab.store import Store
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")
ARGUMENTS = ["--profile", "smoke", "--device", "cpu"]


def chosen(study: str, scale: str = "smoke", **fields):
    return needed(create_study(study, Setting.of(scale, device="cpu", **fields)).all_specs)


def refused(capsys, *arguments, expected: int = 2) -> str:
    """What is on stderr of a call that must fail with an exit status."""
    try:
        status = main(list(arguments))
    except SystemExit as error:  # argparse
        status = error.code
    said = capsys.readouterr()
    assert status == expected
    assert "Traceback" not in said.err
    return said.err


def test_a_plan_adds_up(capsys):
    assert main(["plan", "03_blind_teacher", "--profile", "reference", "--device", "cpu", "--long"]) == 0
    *lines, total, _, _ = capsys.readouterr().out.strip().split("\n")  # the last two are of a1 and a2
    specs = [s for s in chosen("03_blind_teacher", "reference") if isinstance(s, RunSpec)]
    costs = [forecasts.run_cost(s) for s in specs]
    rows, totals = lines[:-3], lines[-3:]
    assert len(rows) == len(specs) == 124
    counts = {"1": 30, "2": 70, "3": 24}
    assert [re.match(r"tier (\d): (\d+) runs, .* of one CPU", line).groups() for line in totals] == [
        (tier, str(n)) for tier, n in counts.items()
    ]
    assert {row.split()[0] for row in rows} == {s.key for s in specs}
    views = [int(re.search(r"([\d,]+) views", row)[1].replace(",", "")) for row in rows]
    assert sum(views) == sum(c.views for c in costs)
    macs, rate = sum(c.run_macs for c in costs), forecasts.CORE_MACS_PER_SECOND
    numbers = (
        r"124 runs of reference, ([\d,]+) views, ([\d.e+]+) TMACs, ([\d,]+) h of one CPU core .* up to ([\d.]+) MB .*"
    )
    found = re.fullmatch(numbers, total)
    assert int(found[1].replace(",", "")) == sum(views)
    assert float(found[2]) == pytest.approx(macs / 1e12, rel=1e-3)
    assert float(found[4]) == pytest.approx(max(c.training_bytes for c in costs) / 1e6, abs=0.05)
    assert float(found[3].replace(",", "")) == pytest.approx(macs / rate / 3600, abs=0.51)


def test_a_plan_counts_runs_of_other_tasks(capsys):
    assert main(["plan", "24_detection", "--profile", "reference", "--device", "cpu", "--long"]) == 0
    *rows, _, _, third, total, d1, d2, k2 = capsys.readouterr().out.strip().split("\n")
    specs = chosen("24_detection", "reference")
    assert {row.split()[0] for row in rows} == {spec.key for spec in specs}
    assert [line.split()[1] for line in (d1, d2, k2)] == ["D1:", "D2:", "K2:"]
    assert third.startswith(f"tier 3: {len(specs)} runs, ")
    views, macs = (int(sum(getattr(spec, field) for spec in specs)) for field in ("views", "macs"))
    assert f"{len(specs)} runs of reference, {views:,} views, {macs / 1e12:.4g} TMACs, " in total
    hours = sum(forecasts.work(spec) for spec in specs) / forecasts.CORE_MACS_PER_SECOND / 3600
    assert f" {hours:,.0f} h of one CPU core" in total


def test_a_plan_of_nothing_is_a_plan(capsys):
    assert main(["plan", "02_joint_data_augmentation", "--profile", "reference", "--device", "cpu"]) == 0
    assert "0 runs of reference, 0 views, 0 TMACs" in capsys.readouterr().out


def test_a_plan_for_a_machine(capsys):
    assert main(["plan", "03_blind_teacher", "--profile", "reference", "--device", "cpu", "--tflops", "0.01"]) == 0
    total = capsys.readouterr().out.strip().split("\n")[-3]
    macs = float(re.search(r"([\d.e+]+) TMACs", total)[1]) * 1e12
    hours = float(re.search(r"([\d,]+) h at 0.01 TFLOP/s", total)[1].replace(",", ""))
    assert hours == pytest.approx(2 * macs / 0.01e12 / 3600, rel=1e-2)


def test_a_plan_for_several_gpus_is_marked_as_reckoned(capsys):
    """Only of a profile that is for them, and not beside the rate that was given."""
    words = ["plan", "--profile", "imagenet", "--device", "cpu"]
    assert main(words) == 0
    last = capsys.readouterr().out.strip().split("\n")[-1]
    specs = [s for s in chosen("10_imagenet", "imagenet") if isinstance(s, RunSpec)]
    assert last == f"reckoned from assumed rates, not measured: {forecasts.on_gpus(specs, 8)}"
    assert main([*words, "--tflops", "60"]) == 0
    assert main(["plan", "03_blind_teacher", "--profile", "reference", "--device", "cpu"]) == 0
    assert "reckoned" not in capsys.readouterr().out


def test_a_plan_ends_with_the_seeds_that_its_claims_need(capsys, invented):
    words = ["plan", "03_blind_teacher", "--profile", "reference", "--device", "cpu"]
    study, store = create_study("03_blind_teacher", Setting.of("reference", device="cpu")), Store("reference")
    assert main(words) == 0
    unknown = capsys.readouterr().out.strip().split("\n")[-2:]
    assert unknown == [f"03_blind_teacher, {need}" for need in power_plan.required(study, store)]
    assert all("no spread is known yet" in line for line in unknown)
    for arm, sign in (("JDA", 1), ("weak2", -1)):
        for spec, points in zip(study.specs(arm), (0.0, 0.1, 0.2, 0.4), strict=False):
            store.put(invented(spec, "reference", top1=50 + sign * points))
    assert main(words) == 0
    first, second = capsys.readouterr().out.strip().split("\n")[-2:]
    assert re.match(r"03_blind_teacher, a1: \d+ seeds planned, power \d+ % .* \(measured on 4 pairs\)$", first)
    assert re.match(r"03_blind_teacher, a2: \d+ seeds planned, .* \(taken from profile reference\)$", second)
    assert main([*words, "--seeds", "1", "2"]) == 0  # chosen ones get no verdict
    assert "seeds planned" not in capsys.readouterr().out


@pytest.mark.parametrize("speed", ["0", "-1"])
def test_an_impossible_speed_is_refused(capsys, speed):
    assert "tflops" in refused(capsys, "plan", "00_tour", *ARGUMENTS, f"--tflops={speed}")


@pytest.mark.parametrize("n", [1, 2, 3, 7, 50])
def test_shards_are_a_partition(n):
    specs = list(range(10))
    parts = [shard(specs, f"{i}/{n}") for i in range(1, n + 1)]
    assert sorted(x for part in parts for x in part) == specs
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_shard_takes_whole_stacks():
    setting = Setting.of("quick", seeds=[0, 1, 2, 3], device="cpu", stack=2)
    specs = create_study("03_blind_teacher", setting).all_specs
    parts = [shard(specs, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(spec.key for part in parts for spec in part) == sorted(spec.key for spec in specs)
    stacked = [spec for spec in specs if members(spec)]
    assert len(stacked) > 4
    for spec in stacked:
        keys = {member.key for member in members(spec)}
        assert sum(bool(keys & {other.key for other in part}) for part in parts) == 1


def test_a_stack_of_no_seeds_is_refused(capsys):
    assert refused(capsys, "run", "00_tour", "--stack", "0") == (
        "kdlib run: stack = 0 must be a whole number from 1 up\n"
    )


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2", "", "1/0"])
def test_a_bad_shard_is_refused(capsys, tried, part):
    message = refused(capsys, "run", "00_tour", *ARGUMENTS, f"--shard={part}")
    assert message == f"kdlib run: shard = {part!r} must be i/n with i from 1 to n, such as 1/4\n"
    tried("inputs", "words of the command line", refused=1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("plan", "99_none"), "99_none"),
        (("plan", "--profile", "huge"), "huge"),
        (("status", "00_tour", "--profile", "smoke", "--device", "tpu"), "tpu"),
        (("status", "00_tour", "--profile", "smoke", "--pair", "x"), "'x'"),
        (("status", "00_tour", "--profile", "smoke", "--seeds", "1", "1"), "[1, 1]"),
        (("plan", "00_tour", "--profile", "smoke", "--data", "nope"), "'nope'"),
        (("fetch", "imagenet"), "'imagenet'"),
        (("fetch",), "NAME"),
        ((), "command"),
    ],
)
def test_a_bad_word_is_named(capsys, tried, arguments, named):
    message = refused(capsys, *arguments)
    assert named in message.strip().split("\n")[-1]
    tried("inputs", "words of the command line", refused=1)


def test_data_that_is_not_here_are_said_to_be_missing(capsys, monkeypatch, tmp_path, immediate):
    from kdlib.data.images import load_data

    load_data.cache_clear()
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path))
    monkeypatch.setattr(schedule, "default_executor", lambda specs: immediate)
    monkeypatch.setattr(immediate, "shutdown", lambda **_: None)
    message = refused(capsys, "run", "00_tour", *ARGUMENTS, "--data", "cifar10")
    assert "data = 'cifar10' is missing" in message
    assert "python -m kdlib fetch cifar10" in message


def test_status_counts_what_is_there(capsys, invented):
    specs = chosen("03_blind_teacher")
    for spec in specs[:3]:
        Store("smoke").put(invented(spec, "smoke"))
    assert main(["status", "03_blind_teacher", *ARGUMENTS, "--long"]) == 0
    lines = capsys.readouterr().out.strip().split("\n")
    rows, totals = [x for x in lines if x.startswith("missing")], [x for x in lines if x.startswith("tier")]
    assert [re.match(r"tier (\d): ", x)[1] for x in totals] == ["1", "2", "3", "4"]
    counts = [tuple(map(int, re.search(r": (\d+) of (\d+) there; the others need about ", x).groups())) for x in totals]
    assert [sum(column) for column in zip(*counts, strict=True)] == [3, len(specs)]
    assert {row.split()[1] for row in rows} == {s.key for s in specs[3:]}
    for spec in specs[3:]:
        Store("smoke").put(invented(spec, "smoke"))
    assert main(["status", "03_blind_teacher", *ARGUMENTS]) == 0
    assert capsys.readouterr().out.count("the others need about no time of one CPU core\n") == 4


def test_status_says_where_it_stops(capsys):
    for arguments, last in ((["--tier", "2"], 2), ([], 3)):  # profile reference plans three tiers
        assert main(["status", "08_cosine_confidence", "--profile", "reference", "--device", "cpu", *arguments]) == 0
        assert capsys.readouterr().out.endswith(
            f"\ntiers above {last} are not planned, or were not asked for: see --tier\n"
        )


def test_a_chapter_that_shows_another_profile_is_counted_and_run_there(capsys, invented, monkeypatch):
    """Chapter 16 belongs to reference and chapter 10 to imagenet, whichever profile is named."""
    (spec, *_) = chosen("16_sizing", "reference")
    Store("reference").put(invented(spec, "reference"))
    assert main(["status", "16_sizing", "--profile", "paper", "--device", "cpu"]) == 0
    assert sum(map(int, re.findall(r": (\d+) of \d+ there", capsys.readouterr().out))) == 1
    asked = []
    monkeypatch.setattr(commands, "run_all", lambda specs, profile, **_: asked.append((profile, len(specs))))
    assert main(["run", "10_imagenet", "--device", "cpu"]) == 0
    assert "9 runs at profile imagenet" in capsys.readouterr().out
    assert asked == [("imagenet", 9)]


def test_every_argument_says_what_it_is():
    (added,) = (action for action in command_line.parser()._actions if action.choices)
    for name, sub in added.choices.items():
        assert [a.dest for a in sub._actions if not a.help] == [], name


def test_what_a_command_is_said_to_do_is_what_its_function_says():
    for name, about in command_line.COMMANDS.items():
        assert getattr(commands, name).__doc__ == about


def test_all_studies_but_those_without_their_pictures_are_run(capsys, monkeypatch, isolated):
    """One that is asked for by name is refused instead, by the same sentence."""
    monkeypatch.setenv("KDLIB_DATA", str(isolated))
    some = [create_study(name, Setting.of("reference", device="cpu")) for name in ("00_tour", "24_detection")]
    assert commands.with_their_data(some) == some[:1]
    said = capsys.readouterr().out
    assert said.startswith("24_detection is left out: data = 'trees' is missing") and said.count("\n") == 1
    assert "run `python -m kdlib fetch trees`" in refused(capsys, "run", "24_detection", "--device", "cpu")


def test_fetch_downloads_by_name(capsys, monkeypatch, isolated):
    monkeypatch.setenv("KDLIB_DATA", str(isolated / "data"))
    monkeypatch.setenv("KDLIB_CHECKPOINTS", str(isolated / "checkpoints"))
    got = []
    monkeypatch.setattr(commands, "download_checkpoint", lambda name, folder: got.append((name, folder)))
    monkeypatch.setattr("torchvision.datasets.CIFAR100", lambda root, train, download: got.append((root, download)))
    assert main(["fetch", "resnet56", "cifar100_resnet20", "cifar100"]) == 0
    assert got == [
        ("cifar100_resnet56", isolated / "checkpoints"), ("cifar100_resnet20", isolated / "checkpoints"),
        (isolated / "data", True),
    ]  # fmt: skip
    assert capsys.readouterr().out.count("\n") == 3
    got.clear()
    monkeypatch.setattr(trees, "fetch", lambda: got.append("trees") or isolated / "data" / "trees")
    assert main(["fetch", "trees"]) == 0 and got == ["trees"]
    assert capsys.readouterr().out == f"trees: in {isolated / 'data' / 'trees'}\n"
    got.clear()
    message = refused(capsys, "fetch", "resnet56", "nope")
    assert message.startswith("kdlib fetch: 'nope' cannot be fetched; allowed are cifar10, cifar100, ")
    assert got == []  # refused before any download


@pytest.mark.parametrize(
    "error", [ConnectionError("no network"), OSError("no route"), RuntimeError("File not found or corrupted.")]
)
def test_a_failed_download_is_one_line(capsys, monkeypatch, isolated, error):
    monkeypatch.setenv("KDLIB_DATA", str(isolated / "data"))

    def kind(*_, **__):
        raise error

    monkeypatch.setattr("torchvision.datasets.CIFAR10", kind)
    assert refused(capsys, "fetch", "cifar10") == f"kdlib fetch: download of cifar10 failed: {error}\n"


def test_publish_copies_and_says_what(capsys, invented, isolated):
    spec = chosen("00_tour")[0]
    Store("smoke").put(invented(spec, "smoke"))
    assert main(["publish", "--profile", "smoke"]) == 0
    assert capsys.readouterr().out == f"{spec.key}.json\n"
    assert (isolated / "results" / f"{spec.key}.json").exists()
    assert main(["publish", "--profile", "smoke"]) == 0
    assert capsys.readouterr().out == ""


def test_runs_that_fail_are_listed_at_the_end_and_by_status(capsys, monkeypatch, immediate, tiny):
    def diverge(spec, *_):
        raise FloatingPointError(f"run {spec.key}: the loss is nan at step 1")

    monkeypatch.setattr(runs, "train", diverge)
    monkeypatch.setattr(schedule, "default_executor", lambda specs: immediate)
    monkeypatch.setattr(immediate, "shutdown", lambda **_: None)
    said = refused(capsys, "run", "00_tour", *ARGUMENTS, "--data", tiny, expected=1)
    (headline, *lines) = said[said.index("kdlib run: ") :].strip().split("\n")
    specs = chosen("00_tour", data=tiny)
    assert headline == f"kdlib run: {len(specs)} of {len(specs)} runs failed, 0 finished:"  # students too, of teachers
    keys = {key for key in (spec.key for spec in specs) if f"  {key}: run {key}: the loss is nan at step 1" in lines}
    assert keys and all(line.split(": ")[0].strip().split(", ")[0] in {s.key for s in specs} for line in lines)
    assert main(["status", "00_tour", *ARGUMENTS, "--data", tiny]) == 0
    shown = [line for line in capsys.readouterr().out.split("\n") if line.startswith("failed  ")]
    assert {line.split()[1] for line in shown} == keys
    assert all(line.endswith(f": run {line.split()[1]}: the loss is nan at step 1") for line in shown)


def test_two_processes_with_a_shard_each_complete_a_study(isolated, tiny, capsys, monkeypatch):
    monkeypatch.setenv("KDLIB_THREADS", "2")  # on two cores a pool has one process then, and fewer import torch
    call = [sys.executable, "-m", "kdlib", "run", "00_tour", *ARGUMENTS, "--data", tiny]
    both = [subprocess.Popen([*call, "--shard", f"{i}/2"], env=os.environ, stderr=subprocess.PIPE, text=True,
                             stdout=subprocess.DEVNULL) for i in (1, 2)]  # fmt: skip
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    specs = chosen("00_tour", data=tiny)
    assert all(Store("smoke").get(spec) for spec in specs)
    assert len(list((isolated / "runs" / "smoke").glob("*/result.json"))) == len(specs)
    assert not list((isolated / "runs").rglob("checkpoint.pt"))
    assert main(["run", "00_tour", *ARGUMENTS, "--data", tiny]) == 0  # nothing is left to do
    assert f"{len(specs)} runs at profile smoke, {len(specs)} there already" in capsys.readouterr().out


def test_finished_runs_are_repeated_and_compared(capsys, immediate, monkeypatch, make_spec):
    monkeypatch.setattr(commands, "default_executor", lambda specs: nullcontext(immediate))
    short = {"views_per_step": 32, "views_per_image": 2, "evaluations": 1}
    one, other = (runs.execute(make_spec(recipe=short, seed=seed), "smoke") for seed in (0, 1))
    assert main(["repeat", one.key, other.key, "--profile", "smoke"]) == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert [line.split(": ")[0][:16] for line in lines] == [one.key, other.key]
    assert all(line.endswith(": the same bits") for line in lines)
    Store("smoke").put(other.model_copy(update={"bits": one.bits}))
    said = refused(capsys, "repeat", one.key, other.key, "--profile", "smoke")
    assert said == f"kdlib repeat: 1 of 2 runs have other bits: {other.key}\n"


def test_a_run_of_a_gpu_is_not_repeated_without_one(capsys, invented, make_spec, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    spec = make_spec()
    spec = spec.model_copy(update={"machine": spec.machine.model_copy(update={"device": "cuda"})})
    Store("smoke").put(invented(spec, "smoke"))
    assert "device = 'cuda' is not available" in refused(capsys, "repeat", spec.key, "--profile", "smoke")


def test_what_is_not_finished_cannot_be_repeated(capsys, make_spec):
    assert "key = '0123' is no finished run of profile 'smoke'" in refused(
        capsys, "repeat", "0123", "--profile", "smoke"
    )


def test_a_run_ends_in_time_says_how_far_it_went_and_goes_on(capsys, tiny, immediate, monkeypatch):
    monkeypatch.setattr(schedule, "default_executor", lambda specs: immediate)
    words = ["run", "00_tour", "--profile", "smoke", "--device", "cpu", "--data", tiny]
    assert command_line.main([*words, "--for", "0.001s"]) == commands.OUT_OF_TIME
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"Runs: \d\.\d s\. Out of time: 0 of \d+ runs finished, 0 are at a checkpoint\. The same command goes on\.",
        last,
    )  # fmt: skip
    assert command_line.main([*words, "--for", "1h"]) == 0
    assert command_line.main(words) == 0
    assert "Out of time" not in capsys.readouterr().out


def test_what_one_machine_packs_another_unpacks(capsys, make_spec, invented, isolated, monkeypatch):
    spec, file = make_spec(), isolated / "runs.zip"
    Store("smoke").put(invented(spec, "smoke"))
    assert main(["pack", str(file), "--profile", "smoke"]) == 0
    assert re.fullmatch(rf"{file}, 0\.0 MB: 1 finished, 0 at a checkpoint\n", capsys.readouterr().out)
    monkeypatch.setenv("KDLIB_RUNS", str(isolated / "elsewhere"))
    for new, there in ((1, 0), (0, 1)):
        assert main(["unpack", str(file)]) == 0
        line = f"profile smoke: {new} finished and 0 at a checkpoint are new, {there} were there already\n"
        assert capsys.readouterr().out == line
    other = invented(spec, "smoke").model_copy(update={"bits": "0" * 16})
    Store("smoke").put(other)
    assert main(["unpack", str(file)]) == 0
    assert "1 of those has other bits than the archive's; this machine's stay" in capsys.readouterr().out
    assert Store("smoke").get(spec) == other


def test_there_must_be_something_to_pack_and_to_unpack(capsys, isolated):
    assert "holds no finished run" in refused(capsys, "pack", str(isolated / "runs.zip"), "--profile", "smoke")
    assert "No such file" in refused(capsys, "unpack", str(isolated / "runs.zip"))
    assert not (isolated / "runs.zip").exists()


@pytest.mark.parametrize("limit", ["9", "m", "-1m", "0s", "nan s", "infh", "1d", ""])
def test_a_bad_time_is_refused(capsys, tried, limit):
    assert command_line.main(["run", "00_tour", "--profile", "smoke", f"--for={limit}"]) == 2
    assert capsys.readouterr().err == f"kdlib run: for = {limit!r} must be a time such as 90s, 9m or 2h\n"
    tried("inputs", "words of the command line", refused=1)


def test_some_of_the_time_is_left_for_the_end():
    now = time.time()
    assert commands.end_of("9m") == pytest.approx(now + 540 - commands.RESERVE, abs=1)
    assert commands.end_of("8s") == pytest.approx(now + 6, abs=1)
    assert choices.parse_duration("1.5h") == 5400
