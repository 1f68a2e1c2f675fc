"""python -m kdlib plan | run | status | fetch | publish | repeat | bench"""

import argparse
import json
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kdlib import data, paths, planning, tables
from kdlib.bench import report
from kdlib.hardware import resolve_device
from kdlib.measurements import TimingSpec
from kdlib.models.checkpoints import PUBLIC, download_checkpoint
from kdlib.profiles import PROFILES, Profile
from kdlib.results import RunResult
from kdlib.runs import default_executor, missing, run_all
from kdlib.runs import repeat as repeat_run
from kdlib.specs import RunSpec, Spec
from kdlib.store import Store
from kdlib.studies import STUDIES, Setting, Study, create_study


def describe(spec: Spec) -> str:
    """A spec in a few words."""
    if isinstance(spec, TimingSpec):
        return f"seconds of a step of {len(spec.runs)} arms"
    teacher = "none"
    if spec.teacher:
        teacher = spec.teacher.key[:6] if isinstance(spec.teacher, RunSpec) else spec.teacher.checkpoint
    if isinstance(spec, RunSpec):
        weight = f" {spec.options['weight']}" if "weight" in spec.options else ""
        bank = f", bank {spec.bank}" if spec.bank else ", float32" if spec.exact else ""
        return f"{spec.method}{weight} {spec.policy.name} {spec.student} seed {spec.seed}, teacher {teacher}{bank}"
    policy = getattr(spec, "policy", None)
    return f"{spec.kind}{f' of {policy.name}' if policy else ''}, teacher {teacher}"


def by_tier(arguments: argparse.Namespace) -> tuple[Profile, dict[int, list[Spec]]]:
    """The specs that the command line names, each once, with their teachers, by tier, and the profile they belong to.

    That is the named profile, or for a chapter that has none there, as 10_imagenet at reference, the one that it shows
    instead. Up to the tier that the command line names, by default the last that the profile plans.
    """
    studies = named_studies(arguments)
    scale = studies[0].setting.profile
    return scale, planning.by_tier(studies, arguments.tier or scale.tiers)


def named_studies(arguments: argparse.Namespace) -> list[Study]:
    """The studies that the command line names, at its setting."""
    setting = Setting.of(arguments.profile, arguments.pair, arguments.seeds, arguments.device, arguments.data)
    options = dict(parse_option(text) for text in arguments.option)
    if options and arguments.study == "all":
        raise ValueError("--option needs the name of one study")
    return all_studies(setting) if arguments.study == "all" else [create_study(arguments.study, setting, **options)]


def all_studies(setting: Setting) -> list[Study]:
    """Every study of a profile, but those that would train on data that is not on this machine."""
    studies = planning.studies_of(setting)
    absent = [s for s in studies if setting.profile.trains and not data.available(s.setting.data)]
    for study in absent:
        print(f"{study.name} is left out: data set {study.setting.data} is not on this machine")
    return [study for study in studies if study not in absent]


def parse_option(text: str) -> tuple[str, Any]:
    """ "p=0.5" -> ("p", 0.5): the value is read as JSON, or as a word if it is none."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"option = {text!r} must be NAME=VALUE, such as p=0.5")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def shard(specs: list[Spec], part: str) -> list[Spec]:
    """Every n-th spec from the i-th on, for "i/n" with i from 1. Raises ValueError for anything else."""
    try:
        i, n = (int(x) for x in part.split("/"))
    except ValueError:
        i = n = 0
    if not 1 <= i <= n:
        raise ValueError(f"shard = {part!r} must be i/n with i from 1 to n, such as 1/4")
    return specs[i - 1 :: n]


def plan(arguments: argparse.Namespace) -> None:
    """Runs, views, MACs, bytes, and hours of what is planned."""
    if arguments.tflops is not None and not arguments.tflops > 0:
        raise ValueError(f"tflops = {arguments.tflops} must be above 0")
    scale, tiers = by_tier(arguments)
    groups = {tier: [s for s in specs if isinstance(s, RunSpec)] for tier, specs in tiers.items()}
    specs = [spec for group in groups.values() for spec in group]
    costs = [tables.run_cost(spec) for spec in specs]
    total = sum(c.run_macs for c in costs)
    for spec, cost in zip(specs, costs, strict=True):
        size = f"{cost.views:>12,} views {cost.run_macs / 1e12:>10.3g} TMACs {cost.training_bytes / 1e6:>8.1f} MB"
        print(f"{spec.key}  {describe(spec):70s} {size}")
    for tier, group in groups.items():
        time, kept = (tables.hours(tables.forecast(group, kept)) for kept in (False, True))
        cost = f"{time} of one CPU core with bfloat16, {kept} with $KDLIB_ANSWERS" if group else "no time"
        print(f"tier {tier}: {len(group)} runs, {cost}")
    where = f"at {arguments.tflops} TFLOP/s" if arguments.tflops else "of one CPU core with bfloat16"
    hours = total / (arguments.tflops * 1e12 / 2) / 3600 if arguments.tflops else tables.forecast(specs)
    views, time = sum(c.views for c in costs), tables.hours(hours)
    most = max((c.training_bytes for c in costs), default=0)
    memory = f"up to {most / 1e6:.1f} MB in a run beside activations"
    print(f"{len(specs)} runs of {scale.name}, {views:,} views, {total / 1e12:.4g} TMACs, {time} {where}, {memory}")


def run(arguments: argparse.Namespace) -> None:
    """Runs what the store lacks; finished runs stay stored whatever happens after."""
    started = time.monotonic()
    scale, tiers = by_tier(arguments)
    specs = shard([spec for group in tiers.values() for spec in group], arguments.shard)
    todo = missing(specs, Store(scale.name))
    print(f"{len(specs)} runs at profile {scale.name}, {len(specs) - sum(s in todo for s in specs)} there already")
    with tqdm(total=len(todo), unit="run", mininterval=1) as bar:

        def report(done: int, total: int, result: RunResult) -> None:
            top1 = result.metrics.get("top1")
            bar.write(
                f"{describe(result.spec)}" + (f": {top1:.2f} %, {result.provenance['seconds']:.0f} s" if top1 else "")
            )
            bar.update()

        run_all(specs, scale.name, report=report)
    print(f"Runs: {time.monotonic() - started:.1f} s.")


def status(arguments: argparse.Namespace) -> None:
    """What is there and what is not, with the forecast of what is missing."""
    scale, tiers = by_tier(arguments)
    store = Store(scale.name)
    for tier, specs in tiers.items():
        lacking = [spec for spec in specs if store.get(spec) is None]
        for spec in lacking:
            print(f"missing  {spec.key}  {describe(spec)}")
        runs = [spec for spec in lacking if isinstance(spec, RunSpec)]
        time = tables.hours(tables.forecast(runs)) if runs else "no time"
        there = f"{len(specs) - len(lacking)} of {len(specs)} there"
        print(f"tier {tier}: {there}; the others need about {time} of one CPU core")
    if tier < max(planning.TIERS):
        print(f"tiers above {tier} are not planned, or were not asked for: see --tier")


def fetchable() -> dict[str, str | None]:
    """What can be downloaded: names of data sets, and of public checkpoints -> the full name of the checkpoint."""
    short = {name.removeprefix("cifar100_"): name for name in PUBLIC}
    return dict.fromkeys(data.CIFAR) | short | {name: name for name in PUBLIC}


def fetch(arguments: argparse.Namespace) -> None:
    """Downloads data sets and public checkpoints by name."""
    allowed = fetchable()
    for name in arguments.names:
        if name not in allowed:
            raise ValueError(f"{name!r} cannot be fetched; allowed are {', '.join(allowed)}")
    for name in arguments.names:
        if allowed[name]:
            download_checkpoint(allowed[name], paths.checkpoint_root())
            print(f"{name}: in {paths.checkpoint_root()}")
        else:
            try:
                data.CIFAR[name][0](paths.data_root(), train=True, download=True)
            except (RuntimeError, OSError) as error:  # torchvision raises RuntimeError for a damaged file
                raise ValueError(f"download of {name} failed: {error}") from error
            print(f"{name}: in {paths.data_root()}")


def publish(arguments: argparse.Namespace) -> None:
    """Copies finished results of the profile to results/."""
    store = Store(arguments.profile)
    for path in store.publish():
        print(path.name)


def repeat(arguments: argparse.Namespace) -> None:
    """Trains finished runs once more, and compares the bits. On CPUs of one kind they are equal; GPUs may differ."""
    found = {result.key: result for result in Store(arguments.profile).results_of_runs()}
    unknown = [key for key in arguments.keys if key not in found]
    if unknown:
        raise ValueError(f"key = {unknown[0]!r} is no finished run of profile {arguments.profile!r}, see plan")
    specs = [found[key].spec for key in arguments.keys]
    for spec in specs:
        resolve_device(spec.machine.device)
    with default_executor(specs) as pool:
        futures = [pool.submit(repeat_run, spec, arguments.profile) for spec in specs]
        differ = []
        for spec, future in zip(specs, futures, strict=True):
            same = future.result() == found[spec.key].bits
            differ += [] if same else [spec.key]
            print(f"{spec.key}  {describe(spec)}: {'the same bits' if same else 'other bits'}", flush=True)
    if differ:
        raise ValueError(f"{len(differ)} of {len(specs)} runs have other bits: {', '.join(differ)}")


def benchmark(arguments: argparse.Namespace) -> None:
    """Measures ratios of speed on this machine, prints them and writes JSON and a figure."""
    if arguments.rounds < 1:
        raise ValueError(f"rounds = {arguments.rounds} must be at least 1")
    print("This takes some minutes, on a machine that should do nothing else.", flush=True)
    found = report.measure(arguments.rounds, arguments.compile)
    report.write(found, arguments.out)
    print(report.table(found).to_string(), report.table(found, targets=False).to_string(), sep="\n\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m kdlib", description="Runs of the studies behind the book.")
    commands = top.add_subparsers(dest="command", required=True)
    for name, function in (("plan", plan), ("run", run), ("status", status)):
        command = commands.add_parser(name, help=function.__doc__)
        command.add_argument(
            "study", nargs="?", default="all", choices=["all", *STUDIES], metavar="STUDY",
            help="the name of a chapter, such as 03_blind_teacher; without it all",
        )  # fmt: skip
        command.add_argument("--pair", default="auto", help="TEACHER-STUDENT; auto takes the profile's first")
        command.add_argument("--seeds", type=int, nargs="*", default=[], help="such as 0 1; none takes the profile's")
        command.add_argument("--device", default="auto", help="auto, cpu or cuda")
        command.add_argument("--data", default="auto", help="a data set; auto takes the profile's")
        command.add_argument(
            "--option", action="append", default=[], metavar="NAME=VALUE",
            help="a parameter that only this chapter has; VALUE is JSON or a word",
        )  # fmt: skip
        command.add_argument(
            "--tier", type=int, choices=[1, 2, 3, 4],
            help="up to which: 1 decides the claims, 4 is everything; by default what the profile plans",
        )  # fmt: skip
        command.set_defaults(function=function)
        if name == "run":
            command.add_argument("--shard", default="1/1", help="i/n: every n-th run from the i-th on")
        if name == "plan":
            command.add_argument("--tflops", type=float, help="sustained TFLOP/s, for the hours")
    publishing = commands.add_parser("publish", help=publish.__doc__)
    publishing.set_defaults(function=publish)
    repeating = commands.add_parser("repeat", help=repeat.__doc__)
    repeating.add_argument("keys", nargs="+", metavar="KEY", help="of a finished run, as plan and results/ name it")
    repeating.set_defaults(function=repeat)
    timing = commands.add_parser("bench", help=benchmark.__doc__)
    timing.set_defaults(function=benchmark)
    timing.add_argument("--rounds", type=int, default=5, help="of each comparison")
    timing.add_argument("--compile", action="store_true", help="also what torch.compile makes of a student's step")
    timing.add_argument("--out", type=Path, default=paths.runs_root() / "benchmark.json", help="the JSON to write")
    fetching = commands.add_parser("fetch", help=fetch.__doc__)
    fetching.add_argument("names", nargs="+", metavar="NAME", help=", ".join(fetchable()))
    fetching.set_defaults(function=fetch)
    for command in (*(commands.choices[n] for n in ("plan", "run", "status")), publishing, repeating):
        command.add_argument(
            "--profile", default="reference", choices=list(PROFILES), help="the scale; by default reference"
        )
    return top


def main(argv: list[str] | None = None) -> int:
    """Exit status 0, or 2 with one sentence on stderr."""
    arguments = parser().parse_args(argv)
    try:
        arguments.function(arguments)
    except (ValueError, FloatingPointError, OSError, BrokenProcessPool) as error:
        print(f"kdlib {arguments.command}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
