"""What a profile plans, tier by tier."""

from collections.abc import Sequence

from kdlib.runs import needed
from kdlib.specs import RunSpec, Spec
from kdlib.studies import STUDIES, Setting, Study, create_study

TIERS = {
    1: "decides the claims", 2: "curves and controls", 3: "explored, with fewer seeds", 4: "left to larger machines",
}  # fmt: skip


def studies_of(setting: Setting) -> list[Study]:
    """Every study of a setting's profile, and none that belongs to another one."""
    studies = [create_study(name, setting) for name in setting.profile.chapters or STUDIES]
    return studies if setting.profile.trains else [s for s in studies if s.setting.profile is setting.profile]


def names_of(studies: Sequence[Study]) -> dict[str, str]:
    """Key -> what a spec of these studies, or a run that it needs, is called: the first chapter and arm it is of."""
    names: dict[str, str] = {}
    for study in studies:
        arms = {spec.key: f"{arm}, seed {spec.seed}" for arm in study.arms for spec in study.specs(arm)}
        measured = {spec.key: what for what, spec in study.measurements.items()}
        runs = [spec for spec in needed(study.all_specs) if isinstance(spec, RunSpec)]
        below = {run.key: f"{run.student} by {run.method}" for run in runs}
        for key, what in (below | measured | arms).items():
            names.setdefault(key, f"{study.name}: {what}")
    return names


def by_tier(studies: Sequence[Study], last: int) -> dict[int, list[Spec]]:
    """Tier -> what it adds to those before, each spec once, teachers before students; up to the tier `last`."""
    found, before = {}, set()
    for tier in range(1, last + 1):
        listed = [spec for study in studies for spec in study.specs_to(tier)]
        specs = needed(spec for spec in listed if spec.key not in before)
        found[tier] = [spec for spec in specs if spec.key not in before]
        before |= {spec.key for spec in specs}
    return found
