"""python -m kdlib plan | run | status | fetch | publish | pack | unpack | repeat | bench

This file reads the command line and checks it; `kdlib.commands`, which imports torch, does what it asks for.
"""

import argparse
import sys
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path

from kdlib import choices
from kdlib.chapters import CHAPTERS
from kdlib.data import paths
from kdlib.lab import executors

#: Command -> what it does: the first line of its function in `kdlib.commands`.
COMMANDS = {
    "plan": "Runs, views, MACs, bytes, and hours of what is planned, and how many seeds its primary contrasts need.",
    "run": "Runs what the store lacks; finished runs stay stored whatever happens after.",
    "status": "What is there and what is not, with the forecast of what is missing.",
    "publish": "Copies finished results of the profile to results/.",
    "pack": "Writes what this machine has run of a profile to one file, with which another machine goes on.",
    "unpack": "Places what such a file holds in this machine's store; what is there stays.",
    "repeat": "Trains finished runs once more, and compares the bits. On CPUs of one kind they are equal; "
    "GPUs may differ.",
    "bench": "Measures ratios of speed on this machine, prints them and writes JSON and a figure.",
    "fetch": "Downloads data sets, texts and public checkpoints by name.",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m kdlib", description="Runs of the studies behind the book.")
    added = top.add_subparsers(dest="command", required=True)
    commands = {name: added.add_parser(name, help=about) for name, about in COMMANDS.items()}
    for name in ("plan", "run", "status"):
        _name_runs(commands[name])
    for name in ("plan", "status"):
        commands[name].add_argument("--long", action="store_true", help="a line for each run, with its key")
        commands[name].add_argument("--json", action="store_true", help="a JSON record for each run, and nothing else")
    commands["run"].add_argument("--shard", default="1/1", help="i/n: every n-th run from the i-th on")
    commands["run"].add_argument(
        "--executor", metavar="parsl:FILE", help="hand runs to the Parsl `config` of a Python file, see book/clusters"
    )
    commands["run"].add_argument(
        "--for", dest="limit", metavar="TIME", help="such as 90s, 9m or 2h: then runs in flight stop at a checkpoint"
    )
    commands["plan"].add_argument("--tflops", type=float, help="sustained TFLOP/s, for the hours")
    commands["repeat"].add_argument(
        "keys", nargs="+", metavar="KEY", help="of a finished run, as plan and results/ name it"
    )
    timing = commands["bench"]
    timing.add_argument("--rounds", type=int, default=5, help="of each comparison")
    timing.add_argument("--out", type=Path, default=paths.runs_root() / "benchmark.json", help="the JSON to write")
    commands["fetch"].add_argument("names", nargs="+", metavar="NAME", help=", ".join(choices.fetchable()))
    for name in ("pack", "unpack"):
        commands[name].add_argument("file", type=Path, metavar="FILE", help="the archive, such as runs.zip")
    commands["pack"].add_argument("--unfinished", action="store_true", help="also runs that are at a checkpoint")
    for name in ("plan", "run", "status", "publish", "pack", "repeat"):
        commands[name].add_argument(
            "--profile", default="reference", choices=choices.PROFILES, help="the scale; by default reference"
        )
    return top


def _name_runs(command: argparse.ArgumentParser) -> None:
    """The arguments that say which runs: a study, its setting, and up to which tier."""
    command.add_argument(
        "study", nargs="?", default="all", choices=["all", *CHAPTERS], metavar="STUDY",
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
        "--stack", type=int, metavar="N",
        help="train up to N seeds of an arm together, where it can be: for small networks on a GPU; they have keys of "
        "their own. By default $KDLIB_STACK, or each alone",
    )  # fmt: skip
    command.add_argument(
        "--tier", type=int, choices=[1, 2, 3, 4],
        help="up to which: 1 decides the claims, 4 is everything; by default what the profile plans",
    )  # fmt: skip


def check(arguments: argparse.Namespace) -> None:
    """Raises ValueError, in one sentence, for what argparse lets through."""
    if arguments.command in ("plan", "run", "status"):
        choices.check_device(arguments.device)
        choices.check_seeds(arguments.seeds)
        if arguments.stack is not None and arguments.stack < 1:
            raise ValueError(f"stack = {arguments.stack} must be a whole number from 1 up")
        options = [choices.parse_option(text) for text in arguments.option]
        if options and arguments.study == "all":
            raise ValueError("--option needs the name of one study")
    if arguments.command == "run":
        choices.parse_shard(arguments.shard)
        if arguments.executor is not None:
            executors.parse_executor(arguments.executor)
        if arguments.limit is not None:
            choices.parse_duration(arguments.limit)
    if arguments.command == "plan" and arguments.tflops is not None and not arguments.tflops > 0:
        raise ValueError(f"tflops = {arguments.tflops} must be above 0")
    if arguments.command == "bench" and arguments.rounds < 1:
        raise ValueError(f"rounds = {arguments.rounds} must be at least 1")
    if arguments.command == "fetch":
        choices.check_fetchable(arguments.names)


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 2 with one sentence on stderr; 130 after Ctrl-C; or what the command returns."""
    arguments = parser().parse_args(argv)
    try:
        check(arguments)
        status = getattr(import_module("kdlib.commands"), arguments.command)(arguments)
    except (ValueError, FloatingPointError, OSError, BrokenProcessPool) as error:
        print(f"kdlib {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # where nothing waits for a checkpoint
        print(f"kdlib {arguments.command}: interrupted", file=sys.stderr)
        return 130
    return status or 0


if __name__ == "__main__":
    sys.exit(main())
