"""Which runs are trained together: those of one arm, equal in all but the seed."""

from collections.abc import Sequence

from kdlib.lab.specs import RunSpec, Spec


def stack_of(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """The same runs as one stack, by seed: each names all of its seeds, so it has another key than alone.

    Raises ValueError if they differ in more than the seed, or if runs of their kind cannot be stacked.
    """
    ordered = sorted(runs, key=lambda run: run.seed)
    first, seeds = ordered[0], tuple(run.seed for run in ordered)
    for other in ordered[1:]:
        if (name := _difference(first, other)) is not None:
            raise ValueError(
                f"{name} differs between the runs of seeds {first.seed} and {other.seed}: a stack is of runs that are "
                "equal in all but the seed"
            )
    machine = first.machine.model_dump() | {"stacked": seeds}
    return [RunSpec(**run.model_dump() | {"machine": machine}) for run in ordered]


def _difference(one: RunSpec, other: RunSpec) -> str | None:
    """The name of a field beside the seed in which two runs differ, or None."""
    return next((n for n in RunSpec.model_fields if n != "seed" and getattr(one, n) != getattr(other, n)), None)


def in_stacks(runs: Sequence[RunSpec], size: int) -> list[RunSpec]:
    """The runs of an arm in their order, in stacks of at most `size` seeds where that is possible.

    What cannot be stacked stays alone: methods with a memory or a head, students whose teachers differ, and a seed that
    would be left over. The teachers of runs stay as they are.
    """
    groups: dict[str, list[RunSpec]] = {}
    for run in runs:
        if not run.unstackable:
            groups.setdefault(run.model_copy(update={"seed": 0}).key, []).append(run)
    found = {}
    for group in groups.values():
        group.sort(key=lambda run: run.seed)
        parts = [group[i : i + size] for i in range(0, len(group), size)]
        for part in (part for part in parts if len(part) > 1):
            found |= zip((run.key for run in part), stack_of(part), strict=True)
    return [found.get(run.key, run) for run in runs]


def members(spec: Spec) -> list[RunSpec]:
    """The runs that are trained together with a run, by seed, itself among them; none for one that is trained alone."""
    if not isinstance(spec, RunSpec):
        return []
    return [spec.model_copy(update={"seed": seed}) for seed in spec.machine.stacked]


def run_with(spec: Spec) -> list[Spec]:
    """What is executed at once with a spec, itself among it: the `members` of its stack, or the spec alone."""
    return members(spec) or [spec]
