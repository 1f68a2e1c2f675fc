"""What a profile plans, tier by tier."""

from collections.abc import Sequence
from typing import NamedTuple

from kdlib.lab.runs import needed
from kdlib.lab.specs import RunSpec, Spec
from kdlib.study.setting import Study

TIERS = {
    1: "decides the claims", 2: "curves and controls", 3: "explored, with fewer seeds", 4: "left to larger machines",
}  # fmt: skip


class Place(NamedTuple):
    """Where a spec belongs: a chapter, an arm or a measurement, or a teacher by network and method; and its seed."""

    chapter: str
    what: str
    seed: int | None

    def __str__(self) -> str:
        return f"{self.chapter}: {self.what}" + ("" if self.seed is None else f", seed {self.seed}")


def graded(study: Study, arm: str) -> dict[int, Spec]:
    """Seed -> what trains a student of an arm and says how good it is: its run, or its measurement."""
    return study.measured(arm) or {spec.seed: spec for spec in study.specs(arm)}


def places(studies: Sequence[Study]) -> dict[str, Place]:
    """Key -> the first place of a spec of these studies, or of a run that it needs."""
    found: dict[str, Place] = {}
    for study in studies:
        arms = {spec.key: (arm, seed) for arm in study.arms for seed, spec in graded(study, arm).items()}
        measured = {spec.key: (what, None) for what, spec in study.measurements.items()}
        runs = [spec for spec in needed(study.specs_to(max(TIERS))) if spec.trains]
        below = {run.key: (_called(run), run.seed) for run in runs}
        for key, place in (below | measured | arms).items():
            found.setdefault(key, Place(study.name, *place))
    return found


def _called(run: Spec) -> str:
    """What a run is called that is nobody's arm."""
    return f"{run.student} by {run.method}" if isinstance(run, RunSpec) else f"teacher ({run.kind})"


def names_of(studies: Sequence[Study]) -> dict[str, str]:
    """Key -> what a spec of these studies, or a run that it needs, is called: its first place in words."""
    return {key: str(place) for key, place in places(studies).items()}


def by_tier(studies: Sequence[Study], last: int) -> dict[int, list[Spec]]:
    """Tier -> what it adds to those before, each spec once, teachers before students; up to the tier `last`."""
    found, before = {}, set()
    for tier in range(1, last + 1):
        listed = [spec for study in studies for spec in study.specs_to(tier)]
        specs = needed(spec for spec in listed if spec.key not in before)
        found[tier] = [spec for spec in specs if spec.key not in before]
        before |= {spec.key for spec in specs}
    return found
