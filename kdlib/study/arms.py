"""The lines of a comparison, and the paired differences between them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kdlib.lab.recipe import Policy, Public
from kdlib.methods.taxonomy import Taxonomy
from kdlib.study.stats import MARGIN


@dataclass(frozen=True)
class OwnTeacher:
    """A teacher that we train ourselves."""

    #: makes the views that it learns from
    policy: Policy
    #: the part of the training images that it learns from, see `RunSpec`
    part: str = "all"
    #: one of `kdlib.methods.method.METHODS` that needs no teacher itself
    method: str = "ce"
    #: of the method
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """One line of a comparison: students of one kind, or teachers."""

    #: what it is called, in its study and on pages
    label: str
    #: makes the views
    policy: Policy
    #: one of `kdlib.methods.method.METHODS`
    method: str = "kd"
    #: of the method
    options: Mapping[str, Any] = field(default_factory=dict)
    #: one of ours, or a public one; None is the setting's own, see `Setting.teacher`
    teacher: OwnTeacher | Public | None = None
    #: which method trains the head of SSKD's or HSAKD's teacher; None takes the first
    head: str | None = None
    #: the arm is the own teacher itself, and method and head do not matter
    is_teacher: bool = False
    #: the share of the training images, where it differs from the setting's
    fraction: float | None = None
    #: the network, where it differs from the setting's
    student: str | None = None
    #: part of the training images, where it differs from the setting's
    part: str = "all"
    #: fields of the recipe, where they differ from the setting's
    recipe: Mapping[str, Any] = field(default_factory=dict)
    #: of the run, see `RunSpec`
    bank: int | None = None
    #: of the run, see `RunSpec`
    exact: bool = False
    #: of the run, see `RunSpec`
    validation: bool = False
    #: how many, see `Setting.seeds_of`
    seeds: Literal["many", "usual", "few", "one"] = "usual"
    #: 2 to 4, see `Study.tier`
    tier: int = 2
    #: the arm below which this one did not train, see `kdlib.study.shared_arms`
    floor: str | None = None


@dataclass(frozen=True)
class MeasuredArm(Arm):
    """Students of another task than classification. They have no runs: measurements of the study train and grade them,
    see `Study.measured`."""

    #: no registered method, but the kind of its measurements
    method: str = ""
    #: what a method says about itself
    taxonomy: Taxonomy | None = None
    #: what becomes of an input, in words, where that is no image and the policy means nothing
    view: str = ""
    #: in which it is held against its floor, more being better: a column of `kdlib.study.tables.runs_frame`
    metric: str = "top1"

    def measurement(self, seed: int) -> str:
        """What the study calls the measurement of a seed."""
        return f"{self.label}, seed {seed}"


@dataclass(frozen=True)
class Contrast:
    """A paired difference: the sum of arms, each times its weight."""

    #: by which it is found in its study
    name: str
    #: arm -> its weight; the weights of a contrast sum to zero
    weights: Mapping[str, float]
    #: what it compares, for readers; where there is none, they see the name
    text: str = ""
    #: "better" (the claim is that the sum is above zero), "no better", or "less" (it is below zero)
    says: str = "better"
    #: one of the contrasts that decide a claim (else exploratory)
    primary: bool = False
    #: by which its arms are planned at the latest, if it is primary, see `Study.tier`
    tier: int = 1
    #: two arms; the claim also says that the first needs fewer bytes in training
    cheaper: tuple[str, str] | None = None
    #: the pairs of arms whose differences it is the mean of, if it is one
    pairs: tuple[tuple[str, str], ...] = ()
    #: the contrast of the same study that asks the same of another teacher, if one does
    control: str | None = None
    #: with how many primary ones it shares an error rate of 5 %
    among: int = 9
    #: what is compared: a column of `kdlib.study.tables.runs_frame`
    metric: str = "top1"
    #: below which a difference does not matter, in points of the metric
    margin: float = MARGIN

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
