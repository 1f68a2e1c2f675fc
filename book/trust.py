"""The page that says why the numbers of the book can be trusted, from what its tests have noted, see tests/tried.py.

python book/trust.py    after `make test` and `make test-slow`: takes their notes into book/tried.json
"""

import ast
import json
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from kdlib.show.figures import BLUE, ORANGE, styled

ROOT = Path(__file__).resolve().parent.parent
NOTES, RECORD = ROOT / "_build" / "tried", ROOT / "book" / "tried.json"
FIGURE = "tried.svg"

#: What is tried -> the title of its part of the page, and what a reader has to know of it.
KINDS = {
    "kills": (
        "Killed processes",
        "A process is killed by SIGKILL, which it cannot hear, or asked to end by a signal. *Same bits*: the run, "
        "started again, ends with the weights and numbers of one that nothing stopped, bit by bit.",
    ),
    "damage": (
        "Damaged files",
        "A file is cut short, or one bit of it is flipped, or something else is in its place. *Refused*: one sentence "
        "names the file, and nothing of it is used. *Without effect*: the bit decides nothing, as white space does, "
        "and what is read is what was written. *Same bits*: the checkpoint before it stands in, and the run ends as "
        "one whose checkpoint is sound.",
    ),
    "inputs": (
        "Bad input",
        "Names, numbers and folders as people mistype and keep them. *Refused*: in one sentence that names what was "
        "given, before any work. *Accepted and right*: what was loaded is what a second way of reading finds.",
    ),
    "attacks": (
        "Hostile files",
        "Files that would run a program when they are read carelessly, archives whose names lead out of their folder, "
        "and addresses that are not secure. *Refused*: nothing of them was run, written or opened.",
    ),
}  # fmt: skip

#: A fault that this project had -> the test that fails if it comes back.
FAULTS = {
    "A study ended when one of its workers was killed.":
        "tests/lab/test_stopping.py::test_a_worker_that_is_killed_is_replaced_and_its_run_goes_on",
    "Several processes that shared a run recorded the mean loss of the first one's images alone.":
        "tests/lab/test_together.py::test_two_processes_take_the_steps_of_one",
    "A full disk killed the process that decoded photographs.":
        "tests/data/test_photos.py::test_what_cannot_be_written_does_not_kill_the_process",
    "Some kinds of damage to an archive ended in an error of the library that reads it.":
        "tests/lab/test_archive_damage.py::test_cuts_and_flipped_bits_at_many_places_place_nothing",
    "Threads that made networks at the same time mixed their random numbers.":
        "tests/test_randomness.py::test_threads_that_initialise_networks_at_once_do_not_mix_their_draws",
}  # fmt: skip

INTRODUCTION = """# How this book can be trusted

**{total:,} times the tests of this book killed a process, damaged a file, or gave the program something wrong to read,
and each time it was refused, mended, or without effect on a result.** {refused:,} times it was refused; {bits:,} times
a run that was killed, or whose checkpoint was damaged, ended with the bits of one that nothing had happened to. This
page is computed from what the tests noted when they ran.

![{alt}](_static/{figure})

*How often each was tried, on a scale of powers of ten; the tests that `make test-slow` adds are the orange part.*
"""

END = """## Faults that were found

Such tests are worth what they find. {faults} faults that this project had, each with the test that fails if it comes
back:

| fault | test |
|---|---|
{table}

## What this does not cover

- Errors of reasoning: whether an experiment asks what it says. That is for its chapter and for you; {{doc}}`audit` has
  what was looked for in the published programs.
- Hardware that computes wrongly, and memory that changes a bit while a run is in it. What is on a disk has a hash; what
  is in memory has none.
- Machines that lose power. What a killed process has written the system still brings to the disk; a machine that stops
  may lose it. A file that was lost in part is found by its hash, and named; nothing here tries how much is lost.
- Other file systems than those of the tests. Locks between machines need a shared disk that keeps them.
- GPUs: runs are killed on CPUs. `make gpu` tries views, methods and the end of a run on a GPU, and kills nothing.
- Attackers on the same machine, with the same rights. Files from elsewhere are read without running any of them; a
  Python file that you name yourself (`--executor parsl:FILE`) is a program, and is run.
- Equal bits hold on hardware of the same kind, with the same versions ({{doc}}`how_to_read`). What several processes of
  one run share, and what they do not, is said in {{doc}}`cluster`.

## Repeat it

```bash
make test        # style, and all tests but a slow one
make test-slow   # what make test leaves out
```

Each test fails if what it tried was not refused, mended or survived, and if it tried clearly less than this page says:
less than nine tenths, since files that are damaged bit by bit hold paths, whose length is the machine's. `python
book/trust.py` then takes over what the tests noted. The counts of this page were noted with {versions}.
"""


def calls(tests: Path = ROOT / "tests") -> dict[str, tuple[str, str]]:
    """FILE::TEST -> the kind and the thing in words, of every test that notes what it tries, as its source has them."""
    found = {}
    for path in sorted(tests.rglob("test_*.py")):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        for function in (f for f in functions if "tried" in {a.arg for a in f.args.args}):
            named = {
                tuple(argument.value for argument in node.args)
                for node in ast.walk(function)
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "tried"
            }
            (found[f"{path.relative_to(tests.parent).as_posix()}::{function.name}"],) = named
    return found


def collected(notes: Path, expected: dict[str, tuple[str, str]]) -> dict:
    """The record, of the notes of tests that are still there. Raises ValueError if one of these has left none."""
    found: dict[str, dict] = {}
    for path in notes.glob("*.json"):
        found |= json.loads(path.read_text())
    tests = {name: found[name] for name in sorted(found) if name.partition("[")[0] in expected}
    if lacking := expected.keys() - {name.partition("[")[0] for name in tests}:
        raise ValueError(f"{', '.join(sorted(lacking))} left no note: run make test and make test-slow first")
    packages = {name: version(name) for name in ("torch", "numpy", "safetensors", "hypothesis")}
    return {"versions": {"Python": sys.version.split()[0]} | packages, "tests": tests}


class Row(NamedTuple):
    """A thing that is tried: how often it had which outcome in `make test`, what `make test-slow` adds, whose tests."""

    kind: str
    what: str
    fast: Counter
    slow: Counter
    files: list[str]

    @property
    def total(self) -> int:
        """How often it was tried."""
        return (self.fast + self.slow).total()


def summary(record: dict) -> list[Row]:
    """The record by kinds, in their order, and in each by things."""
    order, found = list(KINDS), {}
    for name, test in record["tests"].items():
        row = found.setdefault((test["kind"], test["what"]), Row(test["kind"], test["what"], Counter(), Counter(), []))
        (row.slow if test["slow"] else row.fast).update(test["outcomes"])
        if (file := name.partition("::")[0]) not in row.files:
            row.files.append(file)
    return sorted(found.values(), key=lambda row: (order.index(row.kind), row.what))


def trust_page(record: dict | None = None) -> str:
    """The page as MyST Markdown, by default of the committed record."""
    record = json.loads(RECORD.read_text()) if record is None else record
    rows = summary(record)
    outcomes = sum((row.fast + row.slow for row in rows), Counter())
    head = INTRODUCTION.format(
        total=outcomes.total(), refused=outcomes["refused"], bits=outcomes["same_bits"], figure=FIGURE, alt=_alt(rows)
    )
    faults = "\n".join(
        f"| {fault} | `{test.partition('::')[2]}` in `{test.partition('::')[0]}` |" for fault, test in FAULTS.items()
    )
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    return "\n".join([head, *_parts(rows), END.format(faults=len(FAULTS), table=faults, versions=versions)])


def _parts(rows: list[Row]) -> Iterator[str]:
    for kind, (title, words) in KINDS.items():
        yield from (f"## {title}", "", words, "")
        yield from ("| what | make test | make test-slow adds | tests |", "|---|---|---|---|")
        for row in rows:
            if row.kind == kind:
                files = ", ".join(f"`{file}`" for file in row.files)
                yield f"| {row.what} | {_said(row.fast)} | {_said(row.slow)} | {files} |"
        yield ""


def _said(outcomes: Counter) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(outcomes.items()))


def _alt(rows: list[Row]) -> str:
    return "Bars. " + "; ".join(f"{row.what}: {row.total:,}" for row in rows) + "."


@styled
def tried_figure(rows: list[Row]) -> Figure:
    """One bar for each thing that was tried, as long as how often it was, in powers of ten, below the title of its
    kind."""
    labels = []
    figure, axes = plt.subplots(figsize=(7.5, 0.28 * len(rows) + 2))
    for row in rows:
        if (title := KINDS[row.kind][0]) not in labels:
            labels.append(title)
        place = len(labels)
        labels.append(row.what)
        axes.barh(place, row.total, color=ORANGE)
        axes.barh(place, row.fast.total(), color=BLUE)
        axes.annotate(f" {row.total:,}", (row.total, place), va="center", fontsize=8)
    axes.set(
        xscale="log", xlim=(0.7, 2 * max(row.total for row in rows)), ylim=(len(labels) - 0.4, -0.6), xlabel="times"
    )
    axes.set_yticks(range(len(labels)), labels)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in {title for title, _ in KINDS.values()} else "normal")
    axes.grid(axis="y", visible=False)
    return figure


def write_figure(path: Path, record: dict | None = None) -> None:
    """The figure of the page, by default of the committed record."""
    rows = summary(json.loads(RECORD.read_text()) if record is None else record)
    with plt.rc_context({"svg.hashsalt": "kdlib", "svg.fonttype": "none"}):
        tried_figure(rows).savefig(path, metadata={"Date": None})


def main() -> int:
    """Writes the record."""
    try:
        record = collected(NOTES, calls())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(test)}" for name, test in record["tests"].items())
    RECORD.write_text(f'{{\n "versions": {json.dumps(record["versions"])},\n "tests": {{\n{lines}\n }}\n}}\n')
    return 0


if __name__ == "__main__":
    sys.exit(main())
