"""The runs whose steps are timed. Their networks start from scratch, and their teachers are never trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdlib.data.images import BUNDLED, ImageSet, available, load_data
from kdlib.lab.evaluate import with_batch_norm_from
from kdlib.lab.forecasts import run_cost
from kdlib.lab.measures.timing import Steps
from kdlib.lab.recipe import Machine, Policy, Recipe
from kdlib.lab.specs import RunSpec
from kdlib.lab.stacked import Stack, tasks_of
from kdlib.lab.stacks import stack_of
from kdlib.models import create_model
from kdlib.models.network import Network
from kdlib.randomness import seeded

PAIRS = {"wrn": ("wrn_40_2", "wrn_16_2"), "resnet": ("resnet56", "resnet8"), "small": ("resnet20", "resnet8")}
IMAGES = 64  # of a step, each as a pair of views
POOL = 1000  # training images, so that a view bank is quickly made
SETS = 2  # of views per image in a view bank


def data_name() -> str:
    """CIFAR-100 where it is, else the bundled images: both are 32 pixels wide."""
    return "cifar100" if available("cifar100") else BUNDLED


def some_images(count: int) -> ImageSet:
    """The first training images."""
    train = load_data(data_name()).train
    return replace(train, images=train.images[:count], labels=train.labels[:count])


def run_of(
    pair: str, images: int = IMAGES, exact: bool = False, bank: int | None = None, device: str = "cpu"
) -> RunSpec:
    """KD + JDA of a pair of networks. images: of a step; exact: in float32; bank: of how many sets of views."""
    teacher, student = PAIRS[pair]
    machine = Machine.of(device, threads=1)
    if exact:
        machine = machine.model_copy(update={"precision": "float32"})
    fields = {"method": "kd", "exact": exact, "bank": bank, "machine": machine}
    return alone(student, "jda", images, teacher=alone(teacher, "weak1", images), **fields)


def alone(student: str, policy: str | Policy = "jda", images: int = IMAGES, **fields: Any) -> RunSpec:
    """A network that learns from labels, on the views of a policy. fields: what differs."""
    views = Policy(name=policy) if isinstance(policy, str) else policy
    recipe = Recipe(
        views_per_step=images * views.views, views_per_image=views.views, learning_rate=0.01, weight_decay=1e-4
    )
    own = {"method": "ce", "machine": Machine.of("cpu", threads=1)}
    own |= {} if "data" in fields else {"data": data_name(), "pool": POOL}
    return RunSpec(student=student, policy=views, recipe=recipe, seed=0, **own | fields)


def steps_of(run: RunSpec, banks: Path | None = None) -> Steps:
    """The run, ready to take steps, with the teacher of `untrained`."""
    return Steps(run, untrained(run), banks)


def stack_of_run(run: RunSpec, seeds: int) -> Stack:
    """The run with so many seeds together, ready to take steps, with the teacher of `untrained`."""
    runs = stack_of([run.model_copy(update={"seed": seed}) for seed in range(seeds)])
    return Stack.of(tasks_of(runs, untrained(run)))


def untrained(run: RunSpec) -> Network | None:
    """A teacher of random weights for a run that has one.

    Its BatchNorms know the images: without that, logits grow with the depth, beyond float16.
    """
    if run.teacher is None:
        return None
    images = load_data(run.data).train
    with seeded(0, "teacher of the benchmark"):
        backbone = create_model(run.teacher.student, len(images.classes))
    network = Network(backbone, images.mean, images.std, run.machine.precision)
    return with_batch_norm_from(network, images.images[:250]).to(run.machine.device).eval()


def bare(steps: Steps) -> Callable[[int], object]:
    """What takes a step on the tensors of one step again and again: only networks and optimiser work."""
    fixed = steps.task.batch(0)
    return lambda _: steps.optimisation.step(steps.method, fixed, 0.0)


def gigaflops_of_a_pair(run: RunSpec) -> float:
    """Floating-point operations (1e9) of a step for one image, in both networks."""
    return 2e-9 * run_cost(run).step_macs / run.images_per_step
