"""What a profile plans and what of it is there: a line for each arm, its seeds together, or records for programs."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from kdlib.lab.forecasts import run_cost
from kdlib.lab.measurements import TimingSpec
from kdlib.lab.specs import RunSpec, Spec
from kdlib.lab.store import Store
from kdlib.lab.tasks import TaskSpec
from kdlib.study.setting import Study
from kdlib.study.tiers import places


def records(studies: Sequence[Study], planned: Mapping[int, Sequence[Spec]], store: Store) -> list[dict[str, Any]]:
    """One for each spec of `kdlib.study.tiers.by_tier`, with what JSON can hold.

    key, tier, kind; chapter and arm, the first that it is of, and seed; there: whether it is finished; failure: why the
    last attempt failed, or null; of runs also views, macs (multiply-accumulates) and training_bytes.
    """
    known = places(studies)
    return [
        {"key": spec.key, "tier": tier, "kind": spec.kind, "there": store.get(spec) is not None}
        | {"failure": store.failure(spec)}
        | dict(zip(("chapter", "arm", "seed"), known[spec.key], strict=True))
        | _costs(spec)
        for tier, specs in planned.items()
        for spec in specs
    ]


def described(spec: Spec) -> str:
    """A spec in a few words."""
    if isinstance(spec, TimingSpec):
        return f"seconds of a step of {len(spec.runs)} arms"
    teacher = "none"
    if spec.teacher:
        teacher = spec.teacher.key[:6] if isinstance(spec.teacher, Spec) else spec.teacher.checkpoint
    if isinstance(spec, RunSpec):
        weight = f" {spec.options['weight']}" if "weight" in spec.options else ""
        bank = f", bank {spec.bank}" if spec.bank else ", float32" if spec.exact else ""
        bank += f", one of {len(spec.machine.stacked)} seeds together" if spec.machine.stacked else ""
        return f"{spec.method}{weight} {spec.policy.name} {spec.student} seed {spec.seed}, teacher {teacher}{bank}"
    if isinstance(spec, TaskSpec):
        return f"{spec.kind} seed {spec.seed}, teacher {teacher}"
    policy = getattr(spec, "policy", None)
    return f"{spec.kind}{f' of {policy.name}' if policy else ''}, teacher {teacher}"


def _costs(spec: Spec) -> dict[str, Any]:
    if isinstance(spec, TaskSpec):
        return {"views": spec.views, "macs": spec.macs}
    if not isinstance(spec, RunSpec):
        return {}
    cost = run_cost(spec)
    return {"views": cost.views, "macs": cost.run_macs, "training_bytes": cost.training_bytes}


def lines(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """The records chapter by chapter: "  JDA, seeds 0-9, 490 TMACs, 10 of 10 there"."""
    shown = []
    ordered = sorted(found, key=lambda record: (record["chapter"], record["kind"] != "run"))  # stable: arms keep theirs
    for chapter, group in groupby(ordered, key=lambda record: record["chapter"]):
        shown.append(chapter)
        arms: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for record in group:
            arms.setdefault((record["arm"], record["kind"]), []).append(record)
        shown += [f"  {_line(arm, kind, same)}" for (arm, kind), same in arms.items()]
    return shown


def _line(arm: str, kind: str, same: Sequence[Mapping[str, Any]]) -> str:
    failed = sum(record["failure"] is not None for record in same)
    there = f"{sum(record['there'] for record in same)} of {len(same)} there{f', {failed} failed' if failed else ''}"
    if "macs" not in same[0]:
        return f"{arm} ({kind}), {there}"
    macs = sum(record["macs"] for record in same) / 1e12
    return f"{arm}, {seeds([record['seed'] for record in same])}, {macs:,.3g} TMACs, {there}"


def seeds(numbers: Iterable[int]) -> str:
    """ "seed 3", "seeds 0-4", "seeds 0-2, 7"."""
    ordered = sorted(numbers)
    runs = [list(group) for _, group in groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0])]
    parts = [f"{run[0][1]}-{run[-1][1]}" if len(run) > 1 else str(run[0][1]) for run in runs]
    return f"seed{'s' if len(ordered) > 1 else ''} {', '.join(parts)}"
