"""What the chapter says of small networks, of other ways to compute a step, and of photographs. All of it also works
without them."""

import pandas as pd

from kdlib.chapters.benchmark.records import Benchmark, Choice, Small, Spread
from kdlib.chapters.benchmark.report import in_words, table
from kdlib.chapters.benchmark.runs import alone, gigaflops_of_a_pair, run_of
from kdlib.data.images import FACTS

TARGET = 0.7  # of the rate of matrix products, for a step of a small network in float32
FUSED = ("batch norm", "activations", "sums")  # what a fused convolution could do in passing
WORTH = 0.05  # of a rate: less is not called a gain
UNMEASURED = "Not measured by this benchmark: `make bench` measures it."


def small_table(found: Benchmark | None) -> pd.DataFrame:
    """One row per network and set of instructions: shares of the rate of matrix products, and why one is missed."""
    rows = {}
    for s in found.small if found else ():
        step = s.against_products("step")
        rows[f"{s.network}, {s.instructions}"] = {
            "step": in_words(step),
            "target": f"at least {TARGET:g}",
            "met": "yes" if step.median >= TARGET else "no",
            "convolutions alone": in_words(s.against_products("convolutions")),
            "where the time goes": ", ".join(f"{kind} {_percent(share)}" for kind, share in s.shares.items()),
            "what limits it": "–" if step.median >= TARGET else why(s),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def why(small: Small) -> str:
    """What keeps a step from the target, from its measurements: a bound that the convolutions set, and what is left."""
    step, alone = (small.against_products(arm).median for arm in ("step", "convolutions"))
    least = sorted(small.least)[len(small.least) // 2]
    bound = "below" if alone < TARGET else "above"
    fused = sum(small.shares.get(kind, 0.0) for kind in FUSED)
    return (
        f"convolutions alone reach {alone:.2f}, {bound} the target; were {', '.join(FUSED)} part of them, for nothing, "
        f"a step would reach {step / (1 - fused):.2f}; {_percent(least)} of its time is there for one image too"
    )


def small_words(found: Benchmark | None) -> str:
    """How many networks reach the target, and how many could if all but their convolutions took no time."""
    if found is None or not found.small:
        return UNMEASURED
    steps = [s.against_products("step").median for s in found.small]
    bounds = [s.against_products("convolutions").median for s in found.small]
    met, able = (sum(value >= TARGET for value in values) for values in (steps, bounds))
    return (
        f"{met} of {len(steps)} reach the target, {_percent(TARGET)} of the rate of matrix products; if all but "
        f"convolutions took no time, {able} would. Steps reach {_percent(min(steps))} to {_percent(max(steps))}, "
        f"convolutions alone {_percent(min(bounds))} to {_percent(max(bounds))}."
    )


def float32_words(found: Benchmark | None) -> str:
    """How a WRN step compares with the plain program where both compute in float32, as with AVX2 alone; by arithmetic,
    what a bank, which leaves the student's part, could make of it; and which targets ask for more."""
    if found is not None and found.provenance["precision"] == "float32":
        return "All numbers of this benchmark are of float32."
    given = {name: found.comparison(name) if found else None for name in ("plain", "bank", "products", "exact")}
    if not all(given.values()):
        return UNMEASURED
    plain, whole, exact = (given[name].rates for name in ("plain", "products", "exact"))
    arms = (plain["plain program"], plain["kdlib"], whole["whole step"], exact["float32 step"])
    # The operations of a pair of views are those of whole steps, by the pairs that they took in the same second.
    ratio = Spread.of([step * pairs / (work * other) for other, pairs, work, step in zip(*arms, strict=True)])
    run = run_of("wrn")
    student = ratio.median * gigaflops_of_a_pair(run) / gigaflops_of_a_pair(alone(run.student))
    reach = {"plain": ratio.median, "bank": student}
    asked = [f"{given[name].target:g}" for name, most in reach.items() if given[name].target > most]
    last = f"the targets of {' and '.join(asked)} ask for bfloat16" if asked else "the targets can be met so"
    return (
        "In float32, which is all that AVX2 computes in, both programs do the same arithmetic at the same precision: a "
        f"whole WRN step is {in_words(ratio)} times as fast as the plain program's. With views and answers for nothing "
        f"it would be, at the same rate, {student:.2f} times: {last}."
    )


def choices_table(found: Benchmark | None) -> pd.DataFrame:
    """One row per way to compute a step: its rate as a multiple of the rule's, for each pair of networks."""
    columns = {c.title: {way: in_words(c.gain(way)) for way in c.rates} for c in (found.choices if found else ())}
    return pd.DataFrame(columns)


def choices_words(found: Benchmark | None) -> str:
    """What the best way would bring over the rule, in a sentence."""
    if found is None or not found.choices:
        return UNMEASURED
    return f"The best way would bring {', '.join(map(_gain, found.choices))}, per thread."


def photograph_words(found: Benchmark | None) -> str:
    """How long one core takes to decode the photographs of ImageNet, and to read them from the cache, in a sentence."""
    rates = found.comparison("decoding") if found else None
    if rates is None:
        return UNMEASURED
    count = sum(FACTS["imagenet"].class_sizes)
    cached, decoded = (count / Spread.of(rates.rates[arm]).median for arm in ("cache", "files"))
    return (
        f"At these rates a core decodes the {count:,} photographs of ImageNet-1k in {decoded / 3600:.1f} hours, once, "
        f"and reads them from the cache in {cached / 60:.1f} minutes in each epoch, where memory holds them."
    )


def printed(found: Benchmark) -> list[str]:
    """All tables of a benchmark, for a terminal."""
    return [
        table(found).to_string(), table(found, targets=False).to_string(), float32_words(found),
        f"Small networks in float32: {small_words(found)}", small_table(found).to_string(),
        f"Other ways to compute a step: {choices_words(found)}", choices_table(found).to_string(),
        f"Photographs: {photograph_words(found)}",
    ]  # fmt: skip


def _gain(choice: Choice) -> str:
    gain = choice.gain(choice.best).median - 1
    if gain <= WORTH:
        return f"{choice.title} no more than {_percent(WORTH)}"
    return f"{choice.title} {_percent(gain)} ({choice.best})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
