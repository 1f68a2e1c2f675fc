"""What the chapter on speed says in words and tables. All of it also works without a measurement."""

from collections.abc import Callable, Mapping

import pandas as pd
from IPython.display import Markdown

from kdlib.chapters.benchmark.breakdown import VIEWS
from kdlib.chapters.benchmark.records import Benchmark
from kdlib.chapters.benchmark.report import in_words
from kdlib.study.tables import digits

LINEAR = 1.05  # a unit of work may cost so many times what it costs at the least amount


def status(found: Benchmark | None) -> Markdown:
    """Where, when and with what it was measured, in a line."""
    if found is None:
        return Markdown("*No measurement is published yet: `make bench` makes one, and the parameter `file` names it.*")
    facts = found.provenance
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return Markdown(
        f"*Measured on {facts['date']}, commit {facts['commit'] or 'unknown'}: {facts['hardware']}, "
        f"{found.threads} threads, {facts['precision']}, images of {facts['data']}; {found.rounds} rounds; {versions}.*"
    )


def words(found: Benchmark | None) -> dict[str, str]:
    """Numbers for the prose, by name."""
    if found is None:
        return dict.fromkeys(("met", "targets", "rounds", "threads", "convolutions", "views"), "not measured")
    met = [c.met for c in found.comparisons if c.met is not None]
    return {
        "met": str(sum(met)), "targets": str(len(met)), "rounds": str(found.rounds), "threads": str(found.threads),
        "convolutions": _percent(convolutions(found)), "views": _percent(found.shares[VIEWS]),
    }  # fmt: skip


def convolutions(found: Benchmark) -> float:
    """The share of convolutions, forward and backward, in the time of a step."""
    return sum(share for kind, share in found.shares.items() if kind.startswith("convolutions"))


def growth_table(found: Benchmark | None) -> pd.DataFrame:
    """One row per kind of work: how much more of it, how much longer, and so what a unit costs then."""
    rows = {}
    for g in found.growths if found else ():
        most, seconds = g.times_work[-1], g.times_seconds[-1]
        rows[g.title] = {
            "work": f"{digits(g.work[0])} to {digits(g.work[-1])} {g.unit}",
            "times the work": f"{most:.3g}",
            "times the seconds": in_words(seconds),
            "quotient": f"{seconds.median / most:.2f}",
            "linear or better": "yes" if seconds.median <= LINEAR * most else "no",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def limits(found: Benchmark | None) -> pd.DataFrame:
    """One row per target that is missed: what was measured, and what other measurements say about why."""
    rows = {}
    for c in (c for c in found.comparisons if c.met is False) if found else ():
        why = REASONS.get(c.name, lambda *_: "was not taken apart")(found, c.value.median)
        rows[c.title] = {"measured": in_words(c.value), "target": f"{c.target:g}", "what limits it": why}
    return pd.DataFrame.from_dict(rows, orient="index")


def _ratio(found: Benchmark, name: str) -> str:
    comparison = found.comparison(name)
    return f"{comparison.value.median:.2f}" if comparison else "a number that was not measured"


def _but_convolutions(what: str) -> Callable[[Benchmark, float], str]:
    def reason(found: Benchmark, value: float) -> str:
        share = convolutions(found)
        return f"convolutions take {_percent(share)} of the step; {what} {value / share:.2f}"

    return reason


def _student(name: str, target: str) -> Callable[[Benchmark, float], str]:
    def reason(found: Benchmark, value: float) -> str:
        floor, aim = found.comparison(name), found.comparison(target)
        text = f"the student's own step; with views and answers for nothing this would be {_ratio(found, name)}"
        if floor is None or aim is None or aim.target is None or value <= 0:
            return text
        share = min(1.0, value / floor.value.median)
        reach = "below the target" if floor.value.median < aim.target else "above the target"
        return f"{text}, {reach}: {_percent(share)} of that is reached"

    return reason


#: Comparison -> what limits it, from the benchmark and the measured value.
REASONS: Mapping[str, Callable[[Benchmark, float], str]] = {
    "plain": _but_convolutions("if all else took no time, this would be"),
    "products": _but_convolutions("in that time their share of the rate is"),
    "bare": lambda found, _: f"making views takes {_percent(found.shares[VIEWS])} of the step",
    "photo step": lambda found, value: f"making views takes {_percent(1 - value)} of the step",
    "bank": _student("floor", "bank"),
    "stored": _student("small floor", "stored"),
    "parallel": lambda found, _: (
        f"a second thread makes a run {_ratio(found, 'threads')} times as fast; two runs side by side do "
        f"{_ratio(found, 'beside')} times the work of one alone, since they share caches and memory"
    ),
}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
