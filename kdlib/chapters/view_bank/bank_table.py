"""What a view bank stores, costs and saves, as tables."""

from collections.abc import Mapping

import pandas as pd

from kdlib.chapters.view_bank import FRESH
from kdlib.data.images import facts
from kdlib.data.sampling import training_count
from kdlib.lab.bank import bytes_per_image
from kdlib.lab.cost import Cost
from kdlib.lab.forecasts import run_cost, training_images
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.methods import METHODS
from kdlib.study.setting import Study
from kdlib.study.tables import arm_intervals, digits

SEED, INDEX, HALF, SINGLE = 8, 2, 2, 4  # bytes of a seed, of a class, of a float16, of a float32
KEPT = 5  # answers of a view that FKD's released program keeps by default


def bank_bytes(spec: RunSpec, sets: int) -> int:
    """Bytes that a bank of so many sets needs for one image of a run."""
    known = facts(spec.data)
    return bytes_per_image(sets, spec.view_policy().views, known.size, len(known.class_sizes))


def banks(study: Study, frame: pd.DataFrame, timing: Mapping | None) -> pd.DataFrame:
    """One row for fresh views and one per V: mean top-1, how many different views there are, what is stored, how much
    the teacher is asked, and how long a step takes.

    frame: as `tables.runs_frame` gives it; timing: the metrics of the study's `TimingSpec`, or None.
    """
    top1, rows = arm_intervals(study, frame), {}
    for arm in (FRESH, *study.series["V"]):
        spec = study.specs(arm)[0]
        cost, different = run_cost(spec), spec.recipe.views_per_image
        if spec.bank is not None:
            different = min(different, spec.bank * spec.view_policy().views)
        rows[arm] = {
            "top-1 %": f"{top1[arm].mean:.2f}" if top1[arm].n else "not run",
            "different views": different,
            "bytes per image": f"{bank_bytes(spec, spec.bank):,}" if spec.bank else "",
            "bank MB": digits(cost.bank_bytes / 1e6) if spec.bank else "",
            "teacher's TMACs": _teacher(cost),
            "seconds of a step": _seconds(timing, arm),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _teacher(cost: Cost) -> str:
    if cost.bank_macs:
        return f"{digits(cost.bank_macs / 1e12)} once"
    return f"{digits(cost.teacher_macs * cost.views / 1e12)} in each run"


def _seconds(timing: Mapping | None, arm: str) -> str:
    if timing is None or f"{arm}_seconds" not in timing:
        return ""
    median, first, third = (digits(v) for v in (timing[f"{arm}_seconds"], *timing[f"{arm}_quartiles"]))
    return f"{median} ({first} to {third})"


def storage(spec: RunSpec, sets: int) -> pd.DataFrame:
    """One row per way to keep what the teacher says of `sets` sets of views: bytes per image, megabytes in all, and
    where views come from. The last row is what $KDLIB_ANSWERS keeps of one run with fresh views."""
    known, views, fresh = facts(spec.data), sets * spec.view_policy().views, spec.recipe.views_per_image
    classes, images = len(known.class_sizes), training_images(spec)
    pool = training_count(known.class_sizes, 1.0, spec.pool, spec.validation, spec.part)
    ways = {
        "view bank: pixels, all logits": (bank_bytes(spec, sets), pool, views, "read"),
        "FKD: seed, all logits": (views * (SEED + HALF * classes), pool, views, "made again"),
        f"FKD: seed, the {KEPT} largest": (views * (SEED + KEPT * (INDEX + HALF)), pool, views, "made again"),
        "kept answers: all logits of a run": (fresh * SINGLE * classes, images, fresh, "made in each run"),
    }
    rows = {
        way: {
            "views of an image": count, "bytes per image": f"{each:,}", "images": f"{covered:,}",
            "MB": digits(covered * each / 1e6), "pixels": pixels,
        }
        for way, (each, covered, count, pixels) in ways.items()
    }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def methods() -> pd.DataFrame:
    """One row per method of METHODS: whether its runs can take a view bank, and if not, why."""

    def reason(definition) -> str:
        if not definition.needs_teacher:
            return "no: it has no teacher"
        return "yes" if definition.logits_only else "no: it reads more of its teacher than logits"

    return pd.DataFrame({"with a view bank": {name: reason(definition) for name, definition in METHODS.items()}})


def speed(study: Study, timing: Mapping | None) -> str:
    """How long a step with fresh views takes, as a multiple of one with the timed bank, or "not measured"."""
    names = [f"{arm}_seconds" for arm in (FRESH, list(study.series["V"])[-1])]
    if any(name not in (timing or {}) for name in names):
        return "not measured"
    fresh, bank = (timing[name] for name in names)
    return f"{fresh / bank:.2f} times"


def worth(spec: RunSpec, sets: int) -> str:
    """How many runs with fresh views ask the teacher as often as the making of a bank of `sets` sets does."""
    cost = run_cost(spec.model_copy(update={"bank": sets}))
    return f"{digits(cost.bank_macs / (cost.teacher_macs * cost.views))} runs"


def precision(study: Study, store: Store) -> str:
    """In which precision the finished runs with fresh views computed, and what that means for the check."""
    found = {result.spec.machine.precision for spec in study.specs(FRESH) if (result := store.get(spec))}
    if not found:
        return "no run is there to say so"
    if found == {"float32"}:
        return "float32 too, so both arms are one experiment and their difference must be zero"
    return " and ".join(sorted(found))
