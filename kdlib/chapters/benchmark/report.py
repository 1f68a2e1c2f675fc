"""The benchmark as a whole: what is compared with what, the targets, and what is written for machines and readers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import ValidationError

from kdlib.chapters.benchmark.breakdown import breakdown
from kdlib.chapters.benchmark.drawing import overview
from kdlib.chapters.benchmark.photographs import photograph_rates
from kdlib.chapters.benchmark.processes import memory, parallel_runs
from kdlib.chapters.benchmark.rates import Rates
from kdlib.chapters.benchmark.records import Benchmark, Comparison, Spread
from kdlib.chapters.benchmark.runs import run_of
from kdlib.chapters.benchmark.scaling import growths
from kdlib.chapters.benchmark.small import small_networks
from kdlib.chapters.benchmark.steps import augmentation, small_steps, wide_steps
from kdlib.chapters.benchmark.ways import choices
from kdlib.data import paths
from kdlib.files import replacing
from kdlib.lab.clock import Tell
from kdlib.lab.machine import threads
from kdlib.lab.progress import Look
from kdlib.lab.provenance import provenance
from kdlib.study.tables import digits

THREADS = 2  # of a run that has the machine to itself

#: (name, title, target) and the unit and the arms that are compared, by the measurement that they come from.
COMPARED: Mapping[str, tuple[tuple, ...]] = {
    "views": (("views", "JDA views on one core, against PIL", 8.0, "views/s", "kdlib", "PIL"),),
    "wide": (
        ("plain", "WRN step, against the plain program", 2.6, "pairs/s", "kdlib", "plain program"),
        ("bank", "WRN step from a view bank, against the plain program", 4.6, "pairs/s", "view bank", "plain program"),
        ("bare", "WRN step, against one on fixed tensors", 0.92, "pairs/s", "kdlib", "fixed tensors"),
        ("floor", "WRN-16-2 alone, against the plain program", None, "pairs/s", "student alone", "plain program"),
        ("products", "WRN step, against matrix products", 0.78, "GFLOP/s", "whole step", "products"),
        ("exact", "WRN step, against matrix products, float32", None, "GFLOP/s", "float32 step", "float32 products"),
    ),
    "small": (
        ("stored", "ResNet step from a view bank, against fresh views", 3.0, "pairs/s", "view bank", "kdlib"),
        ("small floor", "ResNet-8 alone, against the whole step", None, "pairs/s", "student alone", "kdlib"),
        ("folded", "ResNet-56 with folded BatchNorms, against without", None, "views/s", "folded teacher", "teacher"),
    ),
    "parallel": (
        ("parallel", "two ResNet runs side by side, against in turn", 1.2, "pairs/s", "side by side", "in turn"),
        ("threads", "ResNet run with two threads, against one", None, "pairs/s", "in turn", "one thread"),
        ("beside", "two ResNet runs side by side, against one alone", None, "pairs/s", "side by side", "one thread"),
    ),
    "photographs": (
        (
            "photo step",
            "ResNet-18 step on photographs, against one on fixed tensors",
            0.92,
            "pairs/s",
            "step",
            "fixed tensors",
        ),
        ("photo views", "views of photographs on one core, against PIL", None, "views/s", "kdlib", "PIL"),
        ("decoding", "photographs from the cache on one core, against files", None, "photographs/s", "cache", "files"),
    ),
    "memory": (("memory", "memory of a WRN run above import", 1.5, "GB", "most"),),
}
LOWER = ("memory",)  # is better


class Part(NamedTuple):
    """A part of the benchmark."""

    #: what it is called where progress is shown
    title: str
    #: in the progress: seconds of five rounds, measured on two cores with bfloat16
    weight: float
    #: of torch, in this process
    threads: int
    #: from rounds, and what is told of the share that is done
    measure: Callable[[int, Tell], Any]


#: Name -> part, in the order in which they are measured.
PARTS: Mapping[str, Part] = {
    "views": Part("JDA views on one core", 3.0, 1, augmentation),
    "growths": Part("cost against work", 50.0, 1, growths),
    "wide": Part("steps of a WRN", 80.0, THREADS, wide_steps),
    "small": Part("steps of a ResNet", 10.0, THREADS, small_steps),
    "shares": Part("where the time goes", 3.0, THREADS, lambda rounds, tell: breakdown()),
    "parallel": Part("two runs side by side", 80.0, THREADS, parallel_runs),
    "small networks": Part("small networks in float32", 40.0, THREADS, small_networks),
    "choices": Part("other ways to compute a step", 70.0, THREADS, choices),
    "photographs": Part("photographs of 224 pixels", 40.0, 1, photograph_rates),
    "memory": Part("memory of a run", 9.0, THREADS, lambda rounds, tell: memory()),
}


def measure(rounds: int, look: Look = lambda finished, shares: None) -> Benchmark:
    """Everything, measured now, in some minutes. rounds: of each comparison, after one that is not counted.

    look: is told which of `PARTS` are finished, and the share of the one that is measured.
    """
    measured: dict[str, Any] = {}
    for name, part in PARTS.items():
        look(tuple(measured), {name: 0.0})
        with threads(part.threads):
            measured[name] = part.measure(rounds, lambda share, name=name: look(tuple(measured), {name: share}))
    run = run_of("wrn")
    facts = provenance(run, None) | {"precision": run.machine.precision, "data": run.data}
    others = {"growths": "growths", "shares": "shares", "small": "small networks", "choices": "choices"}
    found = {name: measured.pop(part) for name, part in others.items()}
    return Benchmark(rounds=rounds, threads=THREADS, comparisons=compared(measured), provenance=facts, **found)


def compared(measured: Mapping[str, Rates]) -> list[Comparison]:
    """The comparisons of which all arms were measured."""
    return [
        Comparison.of(name, title, unit, {arm: rates[arm] for arm in arms}, target=target, higher=name not in LOWER)
        for kind, rates in measured.items()
        for name, title, target, unit, *arms in COMPARED[kind]
        if set(arms) <= set(rates)
    ]


def write(found: Benchmark, path: Path) -> None:
    """The measurements as JSON, and beside it the figure, as PNG."""
    with replacing(path) as temporary:
        temporary.write_text(found.model_dump_json(indent=1) + "\n")
    with replacing(path.with_suffix(".png")) as temporary:
        overview(found).savefig(temporary, format="png")


def read(path: Path) -> Benchmark:
    """A stored benchmark. Raises ValueError if the file is none."""
    try:
        return Benchmark.model_validate_json(path.read_text())
    except ValidationError as error:
        raise ValueError(f"{path} holds no benchmark; `python -m kdlib bench` writes one") from error


def published() -> Benchmark | None:
    """The one whose numbers the book shows, or None where there is none."""
    path = paths.results_root() / "benchmark" / "benchmark.json"
    return read(path) if path.exists() else None


def chosen(file: str) -> Benchmark | None:
    """The published one for "auto", else the one in a file. Raises ValueError if there is no such file."""
    if file == "auto":
        return published()
    if not Path(file).is_file():
        raise ValueError(f"file = {file!r} does not exist; allowed are auto, and what `python -m kdlib bench` wrote")
    return read(Path(file))


def table(found: Benchmark | None, targets: bool = True) -> pd.DataFrame:
    """One row per comparison that has a target (or that has none): the median with its quartiles, and the rates."""
    rows = {}
    for c in (c for c in (found.comparisons if found else ()) if (c.target is not None) == targets):
        rows[c.title] = {"measured": in_words(c.value)}
        if targets:
            aim = "at least" if c.higher else "at most"
            rows[c.title] |= {"target": f"{aim} {c.target:g}", "met": "yes" if c.met else "no"}
        rates = [f"{arm} {digits(Spread.of(values).median)}" for arm, values in c.rates.items()]
        rows[c.title]["medians"] = f"{', '.join(rates)} {c.unit}"
    return pd.DataFrame.from_dict(rows, orient="index")


def in_words(value: Spread) -> str:
    """A median with its quartiles, if there was more than one round."""
    spread = f" ({value.first_quartile:.2f} to {value.third_quartile:.2f})"
    return f"{value.median:.2f}" + (spread if value.first_quartile < value.third_quartile else "")
