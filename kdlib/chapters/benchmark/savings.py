"""What kept answers, view banks and the like save: counted over the runs of the verdicts, or measured."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from kdlib.chapters.benchmark.price import verdict_runs
from kdlib.chapters.benchmark.records import Benchmark, Spread
from kdlib.chapters.benchmark.report import in_words
from kdlib.lab.forecasts import answers_bytes, total_macs
from kdlib.lab.runs import needed
from kdlib.lab.specs import RunSpec
from kdlib.study.setting import Setting
from kdlib.study.tables import digits

UNMEASURED = "not measured by this benchmark"


def savings_frame(found: Benchmark | None, setting: Setting) -> pd.DataFrame:
    """One row per way to save work: what it saves, and whether that is counted or measured.

    found: a benchmark, or None where there is none; setting: whose verdicts' runs are counted.
    """
    runs = needed(spec for specs in verdict_runs(setting).values() for spec in specs)
    rows = {"kept answers of teachers": {"saves": kept(runs), "known by": "counting the runs of all verdicts"}}
    for title, (what, ratio) in MEASURED.items():
        value = ratio(found) if found else None
        rows[title] = {
            "saves": what.format(in_words(value)) if value else "not known",
            "known by": "the benchmark" if value else UNMEASURED,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def kept(runs: Sequence[RunSpec]) -> str:
    """What runs that ask the same of their teachers save, and the room that answers take, in words."""
    alone, together = (total_macs(runs, kept) for kept in (False, True))
    share = 100 * (1 - together / alone)
    saved, whole = (digits(macs / 1e12) for macs in (alone - together, alone))
    return f"{saved} of {whole} TMACs ({share:.0f} %), for {digits(answers_bytes(runs) / 1e9)} GB of answers"


def _ratio(name: str) -> Callable[[Benchmark], Spread | None]:
    """That of a comparison."""

    def of(found: Benchmark) -> Spread | None:
        comparison = found.comparison(name)
        return comparison.value if comparison else None

    return of


def _wide_bank(found: Benchmark) -> Spread | None:
    """Steps from a bank against whole steps: both are compared with the plain program, round by round."""
    bank, whole = found.comparison("bank"), found.comparison("plain")
    if bank is None or whole is None:
        return None
    pairs = zip(bank.rates["view bank"], whole.rates["kdlib"], strict=True)
    return Spread.of([stored / fresh for stored, fresh in pairs])


STEPS = "{} times the steps in a second"
#: What is measured -> what it does, in words around a ratio, and where the ratio is found.
MEASURED: Mapping[str, tuple[str, Callable[[Benchmark], Spread | None]]] = {
    "view bank, WRN-40-2 to WRN-16-2": (STEPS, _wide_bank),
    "view bank, ResNet-56 to ResNet-8": (STEPS, _ratio("stored")),
    "folded BatchNorms, ResNet-56": ("{} times the teacher's answers in a second", _ratio("folded")),
    "two runs side by side": ("{} times the work of two in turn", _ratio("parallel")),
    "stacked seeds": (STEPS, _ratio("stacked")),
}
