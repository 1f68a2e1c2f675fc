"""The commands of `python -m kdlib`: what runs once the command line has been read."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext

from kdlib.chapters import registry
from kdlib.chapters.registry import create_study
from kdlib.choices import TEXTS, TREES, fetchable, parse_duration, parse_option, parse_shard
from kdlib.data import images, paths
from kdlib.lab import archives, forecasts
from kdlib.lab.executors import open_executor
from kdlib.lab.machine import resolve_device
from kdlib.lab.results import RunResult
from kdlib.lab.runs import missing, run_all
from kdlib.lab.runs import repeat as repeat_run
from kdlib.lab.schedule import RunsFailedError, default_executor
from kdlib.lab.specs import RunSpec, Spec
from kdlib.lab.stacks import members
from kdlib.lab.stopping import InterruptedStudyError, OutOfTimeError
from kdlib.lab.store import Store
from kdlib.lab.tasks import TaskSpec
from kdlib.models.checkpoints import download_checkpoint
from kdlib.show.displays import watching
from kdlib.study import listing, tiers
from kdlib.study.profiles import Profile
from kdlib.study.setting import Setting, Study

FAILED = 1  # some runs did
SIGNALLED = 128  # to which shells add the number of the signal
OUT_OF_TIME = 75  # what sysexits.h calls a temporary failure: to be tried again
RESERVE = 20.0  # seconds of the time given that are left for checkpoints, evaluations and the end of processes


def by_tier(studies: list[Study], arguments: argparse.Namespace) -> tuple[Profile, dict[int, list[Spec]]]:
    """The specs of studies, each once, with their teachers, by tier, and the profile they belong to.

    That is the named profile, or for a chapter that has none there, as 10_imagenet at reference, the one that it shows
    instead. Up to the tier that the command line names, by default the last that the profile plans.
    """
    scale = studies[0].setting.profile
    return scale, tiers.by_tier(studies, arguments.tier or scale.tiers)


def named_studies(arguments: argparse.Namespace) -> list[Study]:
    """The studies that the command line names, at its setting."""
    chosen = arguments.pair, arguments.seeds, arguments.device, arguments.data
    setting = Setting.of(arguments.profile, *chosen, arguments.stack)
    options = dict(parse_option(text) for text in arguments.option)
    return all_studies(setting) if arguments.study == "all" else [create_study(arguments.study, setting, **options)]


def all_studies(setting: Setting) -> list[Study]:
    """Every study of a profile, but those that would train on data that is not on this machine."""
    studies = registry.studies_of(setting)
    absent = [s for s in studies if setting.profile.trains and not images.available(s.setting.data)]
    for study in absent:
        print(f"{study.name} is left out: data set {study.setting.data} is not on this machine")
    return [study for study in studies if study not in absent]


def with_their_data(studies: list[Study]) -> list[Study]:
    """The studies but those of another task whose data are not on this machine, which a line names."""
    kept = []
    for study in studies:
        try:
            for spec in study.measurements.values():
                if isinstance(spec, TaskSpec):
                    spec.check()
            kept.append(study)
        except FileNotFoundError as error:
            print(f"{study.name} is left out: {error}")
    return kept


def shard(specs: list[Spec], part: str) -> list[Spec]:
    """Every n-th spec from the i-th on, for "i/n" with i from 1; a stack counts as one. Raises ValueError for anything
    else."""
    i, n = parse_shard(part)
    groups: dict[str | int, list[Spec]] = {}
    for place, spec in enumerate(specs):
        together = members(spec)
        groups.setdefault(together[0].key if together else place, []).append(spec)
    return [spec for group in list(groups.values())[i - 1 :: n] for spec in group]


def plan(arguments: argparse.Namespace) -> None:
    """Runs, views, MACs, bytes, and hours of what is planned, and how many seeds its primary contrasts need."""
    studies = named_studies(arguments)
    scale, planned = by_tier(studies, arguments)
    groups = {tier: [spec for spec in specs if spec.trains] for tier, specs in planned.items()}
    store = Store(scale.name)
    found = listing.records(studies, groups, store)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for line in _long(groups, found) if arguments.long else listing.lines(found):
        print(line)
    _totals(scale, groups, found, arguments.tflops)
    for line in _needs(studies, store):
        print(line)


def _totals(scale: Profile, groups: Mapping[int, list[Spec]], found: list[dict], tflops: float | None) -> None:
    """A line for each tier, and one for all; found: the records of the groups; tflops: of a machine, for the hours."""
    for tier, group in groups.items():
        time, kept = (forecasts.hours(forecasts.forecast(group, kept)) for kept in (False, True))
        cost = f"{time} of one CPU core with bfloat16, {kept} with $KDLIB_ANSWERS" if group else "no time"
        print(f"tier {tier}: {len(group)} runs, {cost}")
    specs = [spec for group in groups.values() for spec in group]
    views, total = (sum(record[field] for record in found) for field in ("views", "macs"))
    where = f"at {tflops} TFLOP/s" if tflops else "of one CPU core with bfloat16"
    time = forecasts.hours(total / (tflops * 1e12 / 2) / 3600 if tflops else forecasts.forecast(specs))
    most = max((record.get("training_bytes", 0) for record in found), default=0)
    memory = f"up to {most / 1e6:.1f} MB in a run beside activations"
    print(f"{len(specs)} runs of {scale.name}, {views:,} views, {total / 1e12:.4g} TMACs, {time} {where}, {memory}")
    if scale.gpus and not tflops:
        runs = [spec for spec in specs if isinstance(spec, RunSpec)]
        print(f"reckoned from assumed rates, not measured: {forecasts.on_gpus(runs, scale.gpus)}")


def _needs(studies: list[Study], store: Store) -> list[str]:
    """How many seeds the primary contrasts need, a line for each."""
    from kdlib.chapters import power_plan  # with statistics, which the other commands do without

    return power_plan.lines(studies, store)


def _long(groups: Mapping[int, list[Spec]], found: list[dict]) -> Iterator[str]:
    """A line for each run, with its key; found: the records of the groups."""
    for spec, record in zip((spec for group in groups.values() for spec in group), found, strict=True):
        kept = f" {record['training_bytes'] / 1e6:>8.1f} MB" if "training_bytes" in record else ""
        size = f"{record['views']:>12,} views {record['macs'] / 1e12:>10.3g} TMACs{kept}"
        yield f"{spec.key}  {listing.described(spec):70s} {size}"


def run(arguments: argparse.Namespace) -> int:
    """Runs what the store lacks; finished runs stay stored whatever happens after."""
    started, until = time.monotonic(), arguments.limit and end_of(arguments.limit)
    studies = named_studies(arguments)
    studies = with_their_data(studies) if arguments.study == "all" else studies
    scale, planned = by_tier(studies, arguments)
    specs = shard([spec for group in planned.values() for spec in group], arguments.shard)
    todo = missing(specs, Store(scale.name))
    there = len(specs) - len({spec.key for spec in specs} & {spec.key for spec in todo})
    print(f"{len(specs)} runs at profile {scale.name}, {there} there already", flush=True)
    names, failed = tiers.names_of(studies) if todo else {}, None
    with watching({spec.key: forecasts.work(spec) for spec in todo}, names) as watch:

        def report(done: int, total: int, result: RunResult) -> None:
            top1 = result.metrics.get("top1")
            scores = f": {top1:.2f} %, {result.provenance['seconds']:.0f} s" if top1 else ""
            watch.say(names[result.key] + scores)

        named = open_executor(arguments.executor) if arguments.executor and todo else nullcontext()
        try:
            with named as executor:
                run_all(specs, scale.name, executor=executor, report=report, look=watch.look, until=until)
            status, end = 0, ""
        except OutOfTimeError as error:
            status, end = OUT_OF_TIME, f" Out of time: {error}. The same command goes on."
        except InterruptedStudyError as error:
            status, end = SIGNALLED + error.number, f" Interrupted: {error}. The same command goes on."
        except RunsFailedError as error:
            status, end, failed = FAILED, "", f"kdlib run: {error}"
    print(f"Runs: {time.monotonic() - started:.1f} s.{end}", flush=True)
    if failed:
        print(failed, file=sys.stderr)
    return status


def end_of(limit: str) -> float:
    """When runs must stop, so that the command ends in time: some seconds are left for checkpoints and processes."""
    seconds = parse_duration(limit)
    return time.time() + seconds - min(RESERVE, seconds / 4)


def status(arguments: argparse.Namespace) -> None:
    """What is there and what is not, with the forecast of what is missing."""
    studies = named_studies(arguments)
    scale, planned = by_tier(studies, arguments)
    found = listing.records(studies, planned, Store(scale.name))
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for line in [] if arguments.long else listing.lines(found):
        print(line)
    for record in found:
        if record["failure"]:
            print(f"failed  {record['key']}  {record['chapter']}, {record['arm']}: {record['failure']}")
    missing_keys = {record["key"] for record in found if not record["there"]}
    for tier, specs in planned.items():
        lacking = [spec for spec in specs if spec.key in missing_keys]
        for spec in lacking if arguments.long else ():
            print(f"missing  {spec.key}  {listing.described(spec)}")
        time = forecasts.hours(forecasts.forecast(lacking)) if lacking else "no time"
        there = f"{len(specs) - len(lacking)} of {len(specs)} there"
        print(f"tier {tier}: {there}; the others need about {time} of one CPU core")
    if tier < max(tiers.TIERS):
        print(f"tiers above {tier} are not planned, or were not asked for: see --tier")


def fetch(arguments: argparse.Namespace) -> None:
    """Downloads data sets, texts and public checkpoints by name."""
    from kdlib.elsewhere.boxes import trees  # which no other command needs
    from kdlib.elsewhere.translation import packages

    for name in arguments.names:
        if checkpoint := fetchable()[name]:
            download_checkpoint(checkpoint, paths.checkpoint_root())
            print(f"{name}: in {paths.checkpoint_root()}")
        elif name in TEXTS:
            print(packages.fetch(name))
        elif name == TREES:
            print(f"{name}: in {trees.fetch()}")
        else:
            try:
                images.torchvision_cifar(name, train=True, download=True)
            except (RuntimeError, OSError) as error:  # torchvision raises RuntimeError for a damaged file
                raise ValueError(f"download of {name} failed: {error}") from error
            print(f"{name}: in {paths.data_root()}")


def publish(arguments: argparse.Namespace) -> None:
    """Copies finished results of the profile to results/."""
    store = Store(arguments.profile)
    for path in store.publish():
        print(path.name)


def pack(arguments: argparse.Namespace) -> None:
    """Writes what this machine has run of a profile to one file, with which another machine goes on."""
    count = archives.pack(Store(arguments.profile), arguments.file, arguments.unfinished)
    size = arguments.file.stat().st_size / 1e6
    print(f"{arguments.file}, {size:.1f} MB: {count.finished} finished, {count.unfinished} at a checkpoint")


def unpack(arguments: argparse.Namespace) -> None:
    """Places what such a file holds in this machine's store; what is there stays."""
    count = archives.unpack(arguments.file)
    new = f"{count.finished} finished and {count.unfinished} at a checkpoint are new"
    print(f"profile {count.profile}: {new}, {count.there} were there already")
    if count.differ:
        print(
            f"{count.differ} of those {'has' if count.differ == 1 else 'have'} other bits than the archive's; "
            "this machine's stay"
        )


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
            print(f"{spec.key}  {listing.described(spec)}: {'the same bits' if same else 'other bits'}", flush=True)
    if differ:
        raise ValueError(f"{len(differ)} of {len(specs)} runs have other bits: {', '.join(differ)}")


def bench(arguments: argparse.Namespace) -> None:
    """Measures ratios of speed on this machine, prints them and writes JSON and a figure."""
    from kdlib.chapters.benchmark import reasons, report  # with all that is measured, and with figures

    print("This takes some minutes, on a machine that should do nothing else.", flush=True)
    titles, work = ({name: part[i] for name, part in report.PARTS.items()} for i in (0, 1))
    with watching(work, titles, "parts") as watch:
        found = report.measure(arguments.rounds, watch.look)
    report.write(found, arguments.out)
    print(*reasons.printed(found), sep="\n\n")
