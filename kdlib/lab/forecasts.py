"""What a run costs, and how long runs will take: known before any of them runs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from kdlib.data.images import PHOTOS, facts
from kdlib.data.sampling import training_count
from kdlib.lab.answers import question
from kdlib.lab.bank import bytes_per_image
from kdlib.lab.cost import BYTES, Cost, Extras, arm_cost, method_extras, model_size
from kdlib.lab.measurements import HashingSpec, SpreadSpec, ThresholdsSpec, TimingSpec, ViewsSpec
from kdlib.lab.specs import RunSpec, Spec, teacher_model
from kdlib.lab.tasks import TaskSpec
from kdlib.methods import find_method
from kdlib.views.corruptions import KINDS, STRENGTHS

# The same on every machine: multiply-accumulates per second that one CPU core with bfloat16 sustains in
# training small networks (measured; in float32 without AVX-512 it was a fifth).
CORE_MACS_PER_SECOND = 130e9
# Those that a core could do while it makes a view and goes through the layers of a network, however small (measured on
# the networks of profile quick in float32: 6,000 views take 2.8 s more than their arithmetic).
BESIDE = 3.5e6
# TFLOP/s that one GPU sustains in training ResNets on photographs with bfloat16, at least and at most: assumed, not
# measured.
GPU_TFLOPS = (30.0, 60.0)


def run_cost(spec: RunSpec) -> Cost:
    """What a run costs, known before it runs."""
    steps = training_images(spec) * spec.recipe.views_per_image // spec.recipe.views_per_step
    return arm_cost(*_networks(spec), spec.recipe.views_per_step, steps, run_extras(spec))


def training_images(spec: RunSpec) -> int:
    """How many images a run trains on. Raises ValueError if it would miss a class, see `class_counts`."""
    known = facts(spec.data)
    return _count(known.class_sizes, spec.fraction, spec.pool, spec.validation, spec.part, known.classes)


@cache
def _count(class_sizes: tuple[int, ...], *rest) -> int:
    return training_count(class_sizes, *rest)


def run_extras(spec: RunSpec) -> Extras:
    """What the run's method, and its view bank, add to its networks."""
    options = json.dumps(spec.options, sort_keys=True)  # a dict cannot be a key of a cache
    extras = _cached_extras(spec.method, options, *_networks(spec), training_images(spec))
    if spec.passes:
        extras = replace(extras, surveyed_views=spec.passes * training_images(spec))
    if spec.bank is None:
        return extras
    views, known = spec.view_policy().views, facts(spec.data)
    images = _count(known.class_sizes, 1.0, spec.pool, spec.validation, spec.part, known.classes)
    stored = images * bytes_per_image(spec.bank, views, known.size, len(known.class_sizes))
    return replace(extras, stored_views=images * spec.bank * views, stored_bytes=stored)


def _networks(spec: RunSpec) -> tuple[str, str | None, int, int]:
    """Student, the teacher beside it, classes, pixels of a side. A head is trained on the teacher: then it is the
    student, and there is none beside it."""
    known = facts(spec.data)
    teacher = spec.teacher_model if find_method(spec.method).trains_student else None
    return spec.student, teacher, len(known.class_sizes), known.size


@cache
def _cached_extras(method: str, options: str, *rest) -> Extras:
    return method_extras(method, json.loads(options), *rest)


def forecast(specs: Sequence[Spec], kept: bool = False) -> float:
    """Hours of one CPU core that specs need: runs by `total_macs`, those of other tasks and measurements by `work`."""
    runs = [spec for spec in specs if isinstance(spec, RunSpec)]
    others = sum(work(spec) for spec in specs if not isinstance(spec, RunSpec))
    return (total_macs(runs, kept) + others) / CORE_MACS_PER_SECOND / 3600


def total_macs(specs: Sequence[RunSpec], kept: bool = False) -> int:
    """Multiply-accumulates of runs. A view bank counts for each run that reads it.

    kept: teachers' answers are kept, so runs that ask the same ask once (see `kdlib.lab.answers`).
    """
    macs, asked = 0, set()
    for spec in specs:
        cost, same = run_cost(spec), question(spec) if kept else None
        macs += cost.run_macs - (cost.teacher_macs * cost.views if same in asked else 0)
        asked |= {same} - {None}
    return macs


def answers_bytes(specs: Sequence[RunSpec]) -> int:
    """Bytes of the kept answers of runs: a float32 for each class and view, of what several ask once."""
    asked = {same: spec for spec in specs if (same := question(spec))}
    return sum(BYTES * len(facts(spec.data).class_sizes) * run_cost(spec).views for spec in asked.values())


def on_gpus(specs: Sequence[RunSpec], gpus: int, tflops: tuple[float, float] = GPU_TFLOPS) -> str:
    """How long so many GPUs take if each sustains `tflops` (at least, at most), in words, and what they read from disk
    meanwhile, where photographs lie there. Teachers are asked anew in each run.

    >>> on_gpus([], 8)
    'no time on 8 GPUs'
    """
    macs = sum(run_cost(spec).run_macs for spec in specs)
    if not macs:
        return f"no time on {gpus} GPUs"
    longest, shortest = (2 * macs / (gpus * rate * 1e12) / 3600 for rate in tflops)
    low, high = tflops
    text = f"{hours(shortest)} to {hours(longest)} on {gpus} GPUs of {high:g} to {low:g} sustained TFLOP/s each"
    read = sum(bytes_read(spec) for spec in specs)
    rates = (read / time / 3600 / 1e9 for time in (shortest, longest))
    return text + (", reading {:.2g} to {:.2g} GB/s of stored squares".format(*rates) if read else "")


def bytes_read(spec: RunSpec) -> int:
    """Bytes of stored squares that a run on named photographs reads; 0 for others, whose images stay in memory."""
    side = PHOTOS.get(spec.data, 0)
    return run_cost(spec).views // spec.view_policy().views * 3 * side**2


def work(spec: Spec) -> float:
    """Multiply-accumulates that weigh a spec among others: of a run, of any task, its training, of a measurement what
    its teacher is asked, the steps that are timed, or the training of its student. A view that is trained on has
    `BESIDE` more, which only counts for very small networks."""
    if isinstance(spec, RunSpec):
        cost = run_cost(spec)
        return cost.run_macs + BESIDE * cost.views
    if isinstance(spec, TimingSpec):
        return spec.steps * sum(run_cost(run).step_macs for run in spec.runs.values())
    if isinstance(spec, TaskSpec):
        return spec.slowness * spec.macs + BESIDE * spec.views
    known = facts(spec.data)
    networks = (teacher_model(spec.teacher), *((spec.setup.student,) if isinstance(spec, HashingSpec) else ()))
    macs = [model_size(network, len(known.class_sizes), known.size)[1] for network in networks]
    if isinstance(spec, HashingSpec):
        return _hashing_work(spec, sum(known.class_sizes), *macs)
    return macs[0] * _asked_views(spec, sum(known.class_sizes))


def _hashing_work(spec: HashingSpec, images: int, teacher: int, student: int) -> float:
    """As `work`; images: of the training set; teacher, student: multiply-accumulates of one view.

    The teacher is asked about both views of an image twice, for its own head and for the student, who learns from them.
    """
    views = 2 * spec.setup.epochs * min(spec.images, images)
    graded = (spec.index or images) + (spec.queries or images // 5)
    return views * (2 * teacher + 3 * student + 2 * BESIDE) + graded * (teacher + student)


def _asked_views(spec: Spec, images: int) -> int:
    """How many views a measurement shows to its teacher; images: of the training set."""
    if isinstance(spec, ViewsSpec):
        return 6 * spec.images  # of two splits: both views, and another crop
    if isinstance(spec, SpreadSpec):
        return 2 * spec.passes * (spec.pool or images)
    if isinstance(spec, ThresholdsSpec):
        test = spec.images or images // 5
        return (len(KINDS) * len(STRENGTHS) + 1) * test + images // 10  # corrupted and plain ones, validation split
    return images // 5  # about as many as there are test images


def hours(value: float) -> str:
    """A duration in words: minutes below two hours, years from five years on."""
    if value >= 5 * 8766:
        return f"{value / 8766:,.0f} years"
    return f"{max(1, round(value * 60))} min" if value < 2 else f"{value:,.0f} h"
