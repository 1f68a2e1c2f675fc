"""The lines of a comparison, and the paired differences between them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kdlib.lab.specs import Policy, Public


@dataclass(frozen=True)
class OwnTeacher:
    """A teacher that we train ourselves: on which views, and on which part of the training images."""

    policy: Policy
    part: str = "all"


@dataclass(frozen=True)
class Arm:
    """One line of a comparison: students of one kind, or teachers.

    teacher: one of ours, or a public one; None is the setting's own, see `Setting.teacher`. head: which method trains
    the head of SSKD's or HSAKD's teacher; None takes the first. is_teacher: the arm is the own teacher itself, and
    method and head do not matter. student, fraction, part, recipe: the network, the training images, and fields of the
    recipe, where they differ from the setting's. bank, exact, validation: of the run, see `RunSpec`. seeds: how many,
    see `Setting.seeds_of`. tier: 2 to 4, see `Study.tier`. floor: the arm below which this one did not train, see
    `kdlib.study.floors`.
    """

    label: str
    policy: Policy
    method: str = "kd"
    options: Mapping[str, Any] = field(default_factory=dict)
    teacher: OwnTeacher | Public | None = None
    head: str | None = None
    is_teacher: bool = False
    fraction: float | None = None
    student: str | None = None
    part: str = "all"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    bank: int | None = None
    exact: bool = False
    validation: bool = False
    seeds: Literal["many", "usual", "few", "one"] = "usual"
    tier: int = 2
    floor: str | None = None


@dataclass(frozen=True)
class Contrast:
    """A paired difference: the sum of arms, each times its weight. The weights of a contrast sum to zero.

    primary: one of the contrasts that decide a claim (else exploratory). among: with how many primary ones it shares an
    error rate of 5 %. says: "better" (the claim is that the sum is above zero) or "no better". cheaper: two arms; the
    claim also says that the first needs fewer bytes in training. pairs: the pairs of arms whose differences it is the
    mean of, if it is one. control: the contrast of the same study that asks the same of another teacher, if one does.
    """

    name: str
    weights: Mapping[str, float]
    text: str = ""
    says: str = "better"
    primary: bool = False
    cheaper: tuple[str, str] | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    control: str | None = None
    among: int = 9

    @classmethod
    def of(cls, name: str, arm: str, than: str, **fields: Any) -> "Contrast":
        """arm - than"""
        return cls(name, {arm: 1.0, than: -1.0}, f"{arm} - {than}", **fields)

    @classmethod
    def mean_of(cls, name: str, pairs: Iterable[tuple[str, str]], text: str, **fields: Any) -> "Contrast":
        """The mean of the differences of several pairs of arms."""
        pairs = tuple(pairs)
        weights: dict[str, float] = {}
        for arm, than in pairs:
            for label, sign in ((arm, 1), (than, -1)):
                weights[label] = weights.get(label, 0.0) + sign / len(pairs)
        return cls(name, weights, text, pairs=pairs, **fields)

    @classmethod
    def interaction(cls, name: str, first: tuple[str, str], second: tuple[str, str], text: str, **fields: Any):
        """(first[0] - first[1]) - (second[0] - second[1])"""
        return cls(name, {first[0]: 1.0, first[1]: -1.0, second[0]: -1.0, second[1]: 1.0}, text, **fields)

    @property
    def level(self) -> float:
        """Of its interval: that of the verdict rule (Bonferroni) if it is primary, else 95 %."""
        return 1 - 0.05 / self.among if self.primary else 0.95

    @property
    def title(self) -> str:
        """What the contrast is called: a primary one carries the name under which it was fixed."""
        return f"{self.name}: {self.text}" if self.primary else self.text or self.name


def by_label(*arms: Arm) -> dict[str, Arm]:
    """Arms by their labels."""
    return {arm.label: arm for arm in arms}
