"""The status box of a chapter: what is measured on what, and which runs of it are there."""

from collections.abc import Sequence
from html import escape

from IPython.display import HTML

from kdlib.lab.recipe import Public
from kdlib.lab.specs import RunSpec, Spec, backbone_source
from kdlib.lab.store import Store
from kdlib.lab.tasks import TaskSpec
from kdlib.methods import find_method
from kdlib.study.setting import Study


def status_box(study: Study, specs: Sequence[Spec], store: Store) -> HTML:
    """One line that unfolds: profile, data, networks, seeds, hardware, dates and commits.

    specs: the study's, and those that they need.
    """
    found = [result for spec in specs if (result := store.get(spec)) is not None]
    said = {
        key: sorted({result.provenance[key] or "not in git" for result in found})
        for key in ("hardware", "date", "commit")
    }
    precision = sorted({result.spec.machine.precision for result in found})
    seeds = {spec.seed for arm in study.arms for spec in study.specs(arm)} or study.setting.seeds
    scale = study.setting.profile
    rows = {
        "profile": scale.summary if any(isinstance(spec, RunSpec) for spec in specs) else scale.name,
        "data": study.data,
        "teacher → student": ", ".join(_pairs(study, specs)),
        "seeds": ", ".join(map(str, sorted(seeds))),
        "runs": f"{len(found)} of {len(specs)} there",
        "hardware": ", ".join(said["hardware"] + precision) or "nothing run yet",
        "date": " to ".join(said["date"][:: max(1, len(said["date"]) - 1)]) or "nothing run yet",
        "commit": ", ".join(said["commit"]) or "nothing run yet",
    }
    body = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items())
    line = f"Profile {scale.name} on {rows['data']}: {len(found)} of {len(specs)} runs, {rows['date']}"
    return HTML(f'<details class="kd-status"><summary>{escape(line)}</summary><dl>{body}</dl></details>')


def _pairs(study: Study, specs: Sequence[Spec]) -> list[str]:
    """The networks that teach and learn in a study; those of its setting where nothing is distilled."""
    runs = [spec for spec in specs if isinstance(spec, RunSpec) and spec.teacher]
    pairs = [(_named(run.teacher), run.student) for run in runs if find_method(run.method).trains_student]
    pairs += [(spec.teacher.network, spec.network) for spec in specs if isinstance(spec, TaskSpec) and spec.teacher]
    return [" → ".join(pair) for pair in dict.fromkeys(pairs or [study.setting.networks])]


def _named(teacher: RunSpec | Public) -> str:
    """The network of a teacher, or its checkpoint; with a note if a head was trained on it."""
    source = backbone_source(teacher)
    name = source.checkpoint if isinstance(source, Public) else source.student
    return name if source is teacher else f"{name} with a head"
