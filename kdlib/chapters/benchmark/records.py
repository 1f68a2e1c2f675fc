"""What the benchmark measures, as records: comparisons, growth of cost with work, and where a step's time goes."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from kdlib.lab.clock import summary
from kdlib.records import Number, Record, Whole


class Spread(Record):
    """Median and quartiles over rounds."""

    median: Number
    first_quartile: Number
    third_quartile: Number

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Those of some values."""
        return cls(**summary(values))


class Comparison(Record):
    """One number of the benchmark, with its target if it has one.

    name: what code calls it; title: what readers see; unit: of the rates. rates: arm -> its value in each round; of two
    arms the number is the ratio of the first and the second in the same round, of a single arm its value. higher:
    whether more is better.
    """

    name: str
    title: str
    unit: str
    rates: dict[str, list[Number]] = Field(min_length=1, max_length=2)
    value: Spread
    target: Number | None = None
    higher: bool = True

    @classmethod
    def of(cls, name: str, title: str, unit: str, rates: Mapping[str, list[float]], **fields: Any) -> "Comparison":
        """The comparison of one or two arms."""
        first, *others = rates.values()
        values = [a / b for a, b in zip(first, *others, strict=True)] if others else first
        return cls(name=name, title=title, unit=unit, rates=dict(rates), value=Spread.of(values), **fields)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target; None where there is none."""
        if self.target is None:
            return None
        return self.value.median >= self.target if self.higher else self.value.median <= self.target


class Growth(Record):
    """Seconds against work, from little to much.

    title: what there is more and more of; work: how much, in `unit`; seconds: for each, of every round.
    """

    title: str
    unit: str
    work: list[Number]
    seconds: list[list[Number]]

    @property
    def times_work(self) -> list[float]:
        """Each amount of work as a multiple of the first."""
        return [work / self.work[0] for work in self.work]

    @property
    def times_seconds(self) -> list[Spread]:
        """Seconds as a multiple of those of the first amount in the same round."""
        return [Spread.of([b / a for a, b in zip(self.seconds[0], some, strict=True)]) for some in self.seconds]


class Small(Record):
    """How near the steps of a small network come to matrix products, in float32 on one thread.

    network: by name; images: of a step; instructions: that torch used. rates: GFLOP/s in each round of the "step" on
    fixed tensors, of its "convolutions" alone and of "products". least: seconds of a step of one image, as a share of
    those of the step: what takes its time whatever the size. shares: kind of operation -> its share of the step's time.
    """

    network: str
    images: Whole = Field(ge=1)
    instructions: str
    rates: dict[str, list[Number]]
    least: list[Number]
    shares: dict[str, Number]

    def against_products(self, arm: str) -> Spread:
        """The rate of the "step", or of the "convolutions", as a share of that of products in the same round."""
        return Spread.of([a / b for a, b in zip(self.rates[arm], self.rates["products"], strict=True)])


class Choice(Record):
    """What another way to compute a step would bring: pairs per second and thread, of each way, in each round.

    title: of what; rule: the way that is taken.
    """

    title: str
    rule: str
    rates: dict[str, list[Number]]

    def gain(self, way: str) -> Spread:
        """The rate of a way as a multiple of that of the rule, in the same round."""
        return Spread.of([a / b for a, b in zip(self.rates[way], self.rates[self.rule], strict=True)])

    @property
    def best(self) -> str:
        """The way with the largest gain; the rule itself, where no other one has more."""
        return max((self.rule, *self.rates), key=lambda way: self.gain(way).median)


class Benchmark(Record):
    """Everything that one call measures.

    shares: kind of operation -> its share of the time of a whole step of WRN-40-2 to WRN-16-2; small, choices: empty
    in a benchmark of a time when they were not measured; provenance: versions, hardware, date and commit.
    """

    rounds: Whole = Field(ge=1)
    threads: Whole = Field(ge=1)
    comparisons: list[Comparison]
    growths: list[Growth]
    shares: dict[str, Number]
    small: list[Small] = []
    choices: list[Choice] = []
    provenance: dict[str, Any]

    def comparison(self, name: str) -> Comparison | None:
        """The one of that name, or None where it was not measured."""
        return next((c for c in self.comparisons if c.name == name), None)
