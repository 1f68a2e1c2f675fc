"""From results to tables: one row per run, one per arm, one per contrast. What is missing stays a visible gap."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from kdlib.data.images import available, load_data
from kdlib.lab.forecasts import forecast, hours, run_cost
from kdlib.lab.measurements import ThresholdsSpec
from kdlib.lab.recipe import Public
from kdlib.lab.results import of_one_precision
from kdlib.lab.specs import RunSpec, backbone_source
from kdlib.lab.store import Store
from kdlib.lab.tasks import TaskSpec
from kdlib.methods import find_method
from kdlib.models.checkpoints import PUBLIC
from kdlib.study.arms import Contrast, MeasuredArm
from kdlib.study.setting import Study
from kdlib.study.stats import Interval, mean_interval
from kdlib.study.tiers import graded

NO_VERDICT = "no verdict: a demonstration, or seeds of your own"  # see Setting.verdicts
NAMED = 8  # that many arms without runs are named in a line, more are counted there
METRICS = ("top1", "best_top1", "top5", "nll", "ece", "agreement", "kl_to_teacher", "train_top1", "bn_top1", "mean_w")
COLUMNS = (
    "arm", "seed", *METRICS, "images", "views", "steps", "distinct_views", "seconds", "date", "commit", "hardware",
    "precision", "data", "fingerprint",
)  # fmt: skip


def runs_frame(study: Study, store: Store) -> pd.DataFrame:
    """One row per finished run: arm, seed, metrics, views and steps, seconds and provenance. Empty if there is none.

    precision: that of the machine, None where the run itself asks for one. data, fingerprint: the name of the images,
    and what they were; runs of other images under one name are warned of, and never compared.

    Contrasts of another metric than those of runs find it in a column of its own, from the measurement of a run's
    student; it is None where that is missing. An arm that is measured has a row per finished measurement.
    """
    more = tuple(dict.fromkeys(c.metric for c in study.contrasts if c.metric not in COLUMNS))
    rows = []
    for arm in study.arms:
        for seed, spec in graded(study, arm).items():
            result = store.get(spec)
            if result is not None:
                run = isinstance(spec, RunSpec)
                precision = None if run and spec.exact else result.spec.machine.precision
                data = f"{spec.kind}: {spec.data}" if isinstance(spec, TaskSpec) else spec.data
                of = {"precision": precision, "data": data, "fingerprint": result.fingerprint}
                values = result.metrics | result.provenance | of
                found = result.metrics if not run else of_student(study, store, spec) if more else {}
                own = {c: values.get(c) for c in COLUMNS[2:]} | {c: found.get(c) for c in more}
                rows.append({"arm": arm, "seed": seed} | own)
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *more])
    if said := other_images(frame):
        warnings.warn(f"{said}: contrasts of them are refused", stacklevel=2)
    return frame


def other_images(frame: pd.DataFrame) -> str | None:
    """What is to be said of finished runs that learnt from other images under one name; None where all is well.

    A folder of the reader's own is looked at as well, if it is there: its files may have changed since.
    """
    if "fingerprint" not in frame:
        return None
    for data, marks in frame.groupby("data").fingerprint.unique().items():
        own = data.partition(":")[0] in ("folder", "photos")
        now = [load_data(data).train.fingerprint] if own and available(data) else []
        found = sorted({*marks, *now})
        if len(found) > 1:
            today = f", and has {now[0]} now" if now else ""
            return (
                f"data = {data!r} changed between runs (fingerprint {' and '.join(sorted(marks))}{today}): delete the "
                "runs of the other images, and make them again"
            )
    return None


def of_student(study: Study, store: Store, run: RunSpec) -> Mapping[str, Any]:
    """The metrics of a study's measurement of the student that a run trains; empty where there is none."""
    for spec in study.measurements.values():
        if isinstance(spec, ThresholdsSpec) and spec.student == run and (result := store.get(spec)):
            return result.metrics
    return {}


def curves_frame(study: Study, store: Store) -> pd.DataFrame:
    """One row per evaluation of every finished run: arm, seed, views seen so far, top1, nll."""
    rows = []
    for arm in study.arms:
        for spec in study.specs(arm):
            result = store.get(spec)
            for e in result.evaluations if result else []:
                views = e["step"] * spec.recipe.views_per_step
                rows.append({"arm": arm, "seed": spec.seed, "views": views, "top1": e["top1"], "nll": e["nll"]})
    return pd.DataFrame(rows, columns=["arm", "seed", "views", "top1", "nll"])


def by_seed(frame: pd.DataFrame, arm: str, metric: str = "top1") -> dict[int, float]:
    """Seed -> metric for the finished runs of one arm that have it."""
    rows = frame[(frame.arm == arm) & frame[metric].notna()]
    return dict(zip(rows.seed.astype(int), rows[metric].astype(float), strict=True))


def arm_intervals(study: Study, frame: pd.DataFrame, metric: str = "top1") -> dict[str, Interval]:
    """95 % interval over seeds of each arm."""
    return {arm: mean_interval(list(by_seed(frame, arm, metric).values())) for arm in study.arms}


def contrast_values(contrast: Contrast, frame: pd.DataFrame, metric: str | None = None) -> dict[int, float]:
    """Seed -> the weighted sum of a contrast, for the seeds of which every arm is finished. metric: None is its own.

    Runs of machines with bfloat16 and without are never mixed: where there are both, the precision with more seeds
    counts. Raises ValueError if the runs of its arms learnt from other images under one name.
    """
    if said := other_images(frame[frame.arm.isin(contrast.weights)]):
        raise ValueError(f"contrast {contrast.name}: {said}")
    arms = {arm: by_seed(frame, arm, metric or contrast.metric) for arm in contrast.weights}
    seeds = _of_one_precision(frame, arms, sorted(set.intersection(*(set(values) for values in arms.values()))))
    return {seed: sum(w * arms[arm][seed] for arm, w in contrast.weights.items()) for seed in seeds}


def _of_one_precision(frame: pd.DataFrame, arms: Iterable[str], seeds: list[int]) -> list[int]:
    """Of the seeds, those whose runs of all arms have one precision, the same for all seeds.

    Runs that ask for their precision are what a comparison is about, and have none in the frame.
    """
    mine = frame[frame.arm.isin(arms) & frame.precision.notna()]
    found = mine.groupby("seed").precision.agg(set)
    return of_one_precision({seed: found.get(seed, ()) for seed in seeds})


def contrast_interval(contrast: Contrast, frame: pd.DataFrame, metric: str | None = None) -> Interval:
    """The paired interval of a contrast, at its own level. metric: None is its own."""
    return mean_interval(list(contrast_values(contrast, frame, metric).values()), contrast.level)


def cheaper(study: Study, contrast: Contrast) -> bool:
    """Whether a contrast's claim of fewer bytes in training holds; True if it claims nothing."""
    if contrast.cheaper is None:
        return True
    less, more = (run_cost(study.specs(arm)[0]).training_bytes for arm in contrast.cheaper)
    return less < more


def arms_table(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """One row per arm that has runs, ready to print: accuracy with its interval, n, and what it cost.

    Where an arm has a floor (see `kdlib.study.shared_arms`) the paired difference from it stands beside; one whose 95 %
    interval lies below zero did not train.
    """
    rows = {}
    for arm, interval in arm_intervals(study, frame).items():
        if not interval.n:
            continue
        specs, mine = study.specs(arm), frame[frame.arm == arm]
        cost, recipe = run_cost(specs[0]), specs[0].recipe
        rows[arm] = {
            "top-1 %": f"{interval.mean:.2f}",
            "95 % interval": span(interval),
            "minus no teacher": _above_floor(study, frame, arm),
            "best": f"{mine.best_top1.mean():.2f}",
            "n": f"{interval.n} of {len(specs)}",
            "views of an image": recipe.views_per_image,
            "views in a step": recipe.views_per_step,
            "steps": f"{int(mine.steps.iloc[0]):,}",
            "TMACs": digits(cost.run_macs / 1e12),
            "training MB": f"{cost.training_bytes / 1e6:.2f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def above_floor(study: Study, frame: pd.DataFrame, arms: Iterable[str]) -> dict[str, Interval]:
    """Arm -> the paired 95 % interval of the arm minus the same student without a teacher, for arms with a floor: of
    top-1, or of the metric that a measured arm names."""
    floors = {arm: floor for arm in arms if (floor := study.arms[arm].floor)}
    own = {arm: found.metric if isinstance(found := study.arms[arm], MeasuredArm) else "top1" for arm in floors}
    apart = {arm: Contrast.of("above the floor", arm, floor, metric=own[arm]) for arm, floor in floors.items()}
    return {arm: contrast_interval(contrast, frame) for arm, contrast in apart.items()}


def untrained(floors: Mapping[str, Interval]) -> dict[str, Interval]:
    """Of what `above_floor` gives, the arms that did not train: their whole interval lies below zero."""
    return {arm: interval for arm, interval in floors.items() if interval.high < 0}


def _above_floor(study: Study, frame: pd.DataFrame, arm: str) -> str:
    found = above_floor(study, frame, [arm])
    return "".join(f"{signed(i)}{', did not train' if untrained(found) else ''}" for i in found.values())


def shown_contrasts(study: Study, frame: pd.DataFrame) -> list[tuple[Contrast, Interval]]:
    """The contrasts of a study that are measured or primary, each with its interval."""
    found = [(contrast, contrast_interval(contrast, frame)) for contrast in study.contrasts]
    return [(contrast, interval) for contrast, interval in found if contrast.primary or interval.n]


def not_run(study: Study, frame: pd.DataFrame) -> str:
    """The arms without runs in one line of Markdown, with the hours of one core that they would take; or that there are
    none. Many are counted, and their names folded below."""
    arms = [arm for arm in study.arms if not (frame.arm == arm).any()]
    planned = [arm for arm in arms if study.tier(arm) <= study.setting.profile.tiers]
    lists = {"Not run": planned, "Not planned at this profile": [arm for arm in arms if arm not in planned]}
    times = {what: hours(sum(_hours_of(study, arm) for arm in some)) for what, some in lists.items()}
    short = {w: f"{len(some)} arms" if len(some) > NAMED else "; ".join(some) for w, some in lists.items()}
    said = " ".join(f"{w}: {short[w]} (about {times[w]} of one core)." for w, some in lists.items() if some)
    folded = "; ".join(arm for some in lists.values() if len(some) > NAMED for arm in some)
    more = f"\n\n<details><summary>Their names</summary>{folded}.</details>" if folded else ""
    return said + more or "All arms were run."  # an empty cell would show its type


def _hours_of(study: Study, arm: str) -> float:
    """Hours of one core, by forecast: of the runs of an arm, or of its measurements."""
    return forecast([*study.specs(arm), *study.measured(arm).values()])


def teachers_table(study: Study, store: Store) -> pd.DataFrame:
    """One row per teacher of a study: top-1 in percent on test images, and on images that it was trained on.

    Of public checkpoints on the images as they are stored, see `kdlib.lab.measures.scores`; of teachers that are
    trained here the mean over seeds, the latter on weak views.
    """
    specs = [spec for arm in study.arms for spec in study.specs(arm) if find_method(spec.method).trains_student]
    teachers: dict[str, dict[str, RunSpec | Public]] = {}
    for source in (backbone_source(spec.teacher) for spec in specs if spec.teacher):
        teachers.setdefault(teacher_name(source), {})[source.model_dump_json()] = source
    rows = {name: _teacher_row(study, store, list(same.values())) for name, same in teachers.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def _teacher_row(study: Study, store: Store, teachers: list[RunSpec | Public]) -> dict[str, str]:
    public = isinstance(teachers[0], Public)
    results = [store.get(study.setting.scores(t) if public else t) for t in teachers]
    names = ("test_top1", "train_top1") if public else ("top1", "train_top1")
    found = [[result.metrics[name] for result in results if result] for name in names]
    shown = [f"{sum(values) / len(values):.2f}" if values else "not measured" for values in found]
    return {"top-1 % on test images": shown[0], "on images that it was trained on": shown[1], "n": str(len(found[0]))}


def teacher_name(teacher: RunSpec | Public) -> str:
    """What tables call a teacher: a public checkpoint, or one of ours by its views, its method with the options that
    are not the defaults, and its part of the images."""
    if isinstance(teacher, Public):
        return f"public {PUBLIC[teacher.checkpoint].model}"
    method = "" if teacher.method == "ce" else f", {teacher.method}{_changed(teacher)}"
    part = "" if teacher.part == "all" else f", {teacher.part} of the images"
    return f"our {teacher.student}, {teacher.policy.name}{method}{part}"


def _changed(run: RunSpec) -> str:
    """The options that are not the method's defaults, in brackets; nothing where all are."""
    own = find_method(run.method).options().model_dump()
    changed = [f"{name} = {value}" for name, value in run.options.items() if value != own[name]]
    return f" ({', '.join(changed)})" if changed else ""


def training_gap(frame: pd.DataFrame, arm: str) -> str | None:
    """Points by which accuracy on training images is above the headline, the mean over seeds; None without runs."""
    train, top1 = by_seed(frame, arm, "train_top1"), by_seed(frame, arm)
    both = [train[seed] - top1[seed] for seed in train]
    return f"{sum(both) / len(both):+.1f}" if both else None


def signed(interval: Interval) -> str:
    """The mean of a difference with its sign, or "not measured"."""
    return f"{interval.mean:+.2f}" if interval.n else "not measured"


def span(interval: Interval, spec: str = ".2f") -> str:
    """ "[low, high]", or why none is shown."""
    if not interval.shown:
        return ("", "one seed", "two seeds")[interval.n]
    return f"[{interval.low:{spec}}, {interval.high:{spec}}]"


def in_words(interval: Interval) -> str:
    """A difference with its interval, for prose."""
    if not interval.n:
        return "not measured"
    level = f"{100 * interval.level:.1f}".removesuffix(".0")
    spread = f"{level} % interval {span(interval, '+.2f')}, n = {interval.n}" if interval.shown else span(interval)
    return f"{interval.mean:+.2f} points ({spread})"


def digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def joined(names: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
