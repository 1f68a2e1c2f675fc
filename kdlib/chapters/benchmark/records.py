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


class Benchmark(Record):
    """Everything that one call measures.

    shares: kind of operation -> its share of the time of a whole step of WRN-40-2 to WRN-16-2; provenance: versions,
    hardware, date and commit.
    """

    rounds: Whole = Field(ge=1)
    threads: Whole = Field(ge=1)
    comparisons: list[Comparison]
    growths: list[Growth]
    shares: dict[str, Number]
    provenance: dict[str, Any]

    def comparison(self, name: str) -> Comparison | None:
        """The one of that name, or None where it was not measured."""
        return next((c for c in self.comparisons if c.name == name), None)
