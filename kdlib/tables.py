"""From results to tables: one row per run, one per arm, one per contrast. What is missing stays a visible gap."""

import math
from collections.abc import Mapping

import pandas as pd

from kdlib.forecasts import CORE_MACS_PER_SECOND as CORE_MACS_PER_SECOND
from kdlib.forecasts import forecast, hours, run_cost, run_extras
from kdlib.forecasts import training_images as training_images
from kdlib.methods import find_method
from kdlib.specs import RunSpec
from kdlib.stats import PRIMARY_LEVEL, Interval, Verdict, mean_interval, verdict
from kdlib.store import Store
from kdlib.studies import Contrast, Study

NO_VERDICT = "no verdict: a demonstration, or seeds of your own"  # see Setting.verdicts
METRICS = (
    "top1",
    "best_top1",
    "top5",
    "nll",
    "ece",
    "agreement",
    "kl_to_teacher",
    "train_top1",
    "bn_top1",
    "mean_w",
)
COLUMNS = (
    "arm",
    "seed",
    *METRICS,
    "images",
    "views",
    "steps",
    "distinct_views",
    "seconds",
    "date",
    "commit",
    "hardware",
)


def runs_frame(study: Study, store: Store) -> pd.DataFrame:
    """One row per finished run: arm, seed, metrics, views and steps, seconds and provenance. Empty if there is none."""
    rows = []
    for arm in study.arms:
        for spec in study.specs(arm):
            result = store.get(spec)
            if result is not None:
                values = result.metrics | result.provenance
                rows.append({"arm": arm, "seed": spec.seed} | {c: values.get(c) for c in COLUMNS[2:]})
    return pd.DataFrame(rows, columns=COLUMNS)


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


def contrast_values(contrast: Contrast, frame: pd.DataFrame, metric: str = "top1") -> dict[int, float]:
    """Seed -> the weighted sum of a contrast, for the seeds of which every arm is finished."""
    arms = {arm: by_seed(frame, arm, metric) for arm in contrast.weights}
    seeds = sorted(set.intersection(*(set(values) for values in arms.values())))
    return {seed: sum(w * arms[arm][seed] for arm, w in contrast.weights.items()) for seed in seeds}


def contrast_interval(contrast: Contrast, frame: pd.DataFrame, metric: str = "top1") -> Interval:
    """The paired interval of a contrast: at the level of the verdict rule if it is primary, else at 95 %."""
    level = PRIMARY_LEVEL if contrast.primary else 0.95
    return mean_interval(list(contrast_values(contrast, frame, metric).values()), level)


def cheaper(study: Study, contrast: Contrast) -> bool:
    """Whether a contrast's claim of fewer bytes in training holds; True if it claims nothing."""
    if contrast.cheaper is None:
        return True
    less, more = (run_cost(study.specs(arm)[0]).training_bytes for arm in contrast.cheaper)
    return less < more


def arms_table(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, ready to print: accuracy with its interval, n, and what it cost. Gaps say how long they take."""
    rows = []
    for arm, interval in arm_intervals(study, frame).items():
        specs = study.specs(arm)
        spec, cost = specs[0], run_cost(specs[0])
        mine = frame[frame.arm == arm]
        row = {
            "arm": arm,
            "top-1 %": f"{interval.mean:.2f}" if interval.n else _gap(study, arm),
            "95 % interval": span(interval),
            "best": f"{mine.best_top1.mean():.2f}" if interval.n else "",
            "n": f"{interval.n} of {len(specs)}",
            "views of an image": spec.recipe.views_per_image,
            "views in a step": spec.recipe.views_per_step,
            "steps": f"{int(mine.steps.iloc[0]) if interval.n else cost.steps:,}",
            "TMACs": digits(cost.run_macs / 1e12),
            "training MB": f"{cost.training_bytes / 1e6:.2f}",
        }
        rows.append(row)
    return pd.DataFrame(rows).set_index("arm").rename_axis(None) if rows else pd.DataFrame()


def _gap(study: Study, arm: str) -> str:
    """What stands in place of an accuracy: how long all seeds would take, and whether the profile plans them."""
    time = f"about {hours(forecast(study.specs(arm)))} of one core"
    planned = study.tier(arm) <= study.setting.profile.tiers
    return f"not run ({time})" if planned else f"not planned at this profile ({time})"


def parts_table(study: Study) -> pd.DataFrame:
    """One row per arm, counted without any run: what training keeps beside the two networks, and what is deployed."""
    rows = []
    for arm in study.arms:
        spec = study.specs(arm)[0]
        cost, first = run_cost(spec), head_run(spec)
        rows.append(
            {
                "arm": arm,
                "teacher + student, parameters": f"{cost.teacher_parameters + cost.student_parameters:,}",
                "extra parameters": f"{cost.extra_parameters:,}",
                "bank MB": f"{run_extras(spec).bank_bytes / 1e6:.2f}",
                "training MB": f"{cost.training_bytes / 1e6:.2f}",
                "student's TMACs": digits(cost.run_macs / 1e12),
                "first stage TMACs": digits(run_cost(first).run_macs / 1e12) if first else "–",
                "deployed MB": f"{cost.deployed_bytes / 1e6:.2f}",
            }
        )
    return pd.DataFrame(rows).set_index("arm").rename_axis(None)


def cost_points(study: Study, frame: pd.DataFrame, timing: Mapping | None) -> pd.DataFrame:
    """By arm: mean top-1, its 95 % interval (from three seeds on), megabytes kept in training, GMACs, seconds a step.

    timing: the metrics of a `TimingSpec`, or None where it is missing; what is not known is nan.
    """
    rows = {}
    for arm, interval in arm_intervals(study, frame).items():
        cost = run_cost(study.specs(arm)[0])
        low, high = (interval.low, interval.high) if interval.shown else (math.nan, math.nan)
        rows[arm] = {
            "top1": interval.mean, "low": low, "high": high,
            "megabytes": cost.training_bytes / 1e6, "gigamacs": cost.step_macs / 1e9,
            "seconds": (timing or {}).get(f"{arm}_seconds", math.nan),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def head_run(spec: RunSpec) -> RunSpec | None:
    """The run that trains the head that a method needs on its teacher, if it needs one."""
    return spec.teacher if find_method(spec.method).taught_by else None


def contrasts_table(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """One row per contrast: difference in points, its interval, n, and the verdict of primary contrasts."""
    rows = []
    for contrast in study.contrasts:
        interval = contrast_interval(contrast, frame)
        rows.append(
            {
                "contrast": contrast.title,
                "difference": signed(interval),
                "interval": span(interval, "+.2f"),
                "level": f"{100 * interval.level:.1f} %",
                "n": interval.n,
                "verdict": verdict_text(study, contrast, interval),
            }
        )
    return pd.DataFrame(rows).set_index("contrast").rename_axis(None) if rows else pd.DataFrame()


def verdict_text(study: Study, contrast: Contrast, interval: Interval) -> str:
    """The computed verdict; "exploratory" for contrasts that decide no claim; none where none is given."""
    if not contrast.primary:
        return "exploratory"
    if not study.setting.verdicts:
        return NO_VERDICT
    return str(judge(study, contrast, interval))


def judge(study: Study, contrast: Contrast, interval: Interval) -> Verdict:
    """The verdict of the rule on a contrast; a claim of fewer bytes that fails contradicts it."""
    word = verdict(interval, planned=study.planned(contrast), claim=contrast.says)
    measured = word in (Verdict.SUPPORTED, Verdict.INCONCLUSIVE)
    return Verdict.CONTRADICTED if measured and not cheaper(study, contrast) else word


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
