"""Whole steps of training per second: kdlib with fresh views and with a view bank, and what they are measured by."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from kdlib.chapters.benchmark import plain
from kdlib.chapters.benchmark.rates import Rates, in_turn, products, rate
from kdlib.chapters.benchmark.runs import IMAGES, SETS, alone, gigaflops_of_a_pair, run_of, some_images, steps_of
from kdlib.data.images import load_data
from kdlib.lab.clock import Tell, nobody
from kdlib.lab.measures.timing import Steps
from kdlib.lab.specs import RunSpec
from kdlib.models import create_model

STEPS = 4  # of each arm in a round


def wide_steps(rounds: int, tell: Tell = nobody) -> Rates:
    """Image pairs per second of WRN-40-2 to WRN-16-2: the plain program, and kdlib with fresh views, with a view bank,
    with networks and optimiser alone, and with the student alone; GFLOP/s of kdlib and of matrix products, and both in
    float32 as well."""
    run, exact = run_of("wrn"), run_of("wrn", exact=True)
    work = gigaflops_of_a_pair(run)
    with TemporaryDirectory() as folder:
        arms = {
            "plain program": lambda _: _plain_rate(run),
            "kdlib": _taking(steps_of(run)),
            "fixed tensors": _bare(steps_of(run)),
            "view bank": _taking(steps_of(run_of("wrn", bank=SETS), Path(folder))),
            "student alone": _bare(steps_of(alone(run.student))),
            "products": products(run.machine.precision),
        }
        if exact.machine != run.machine:
            arms |= {"float32 step": _taking(steps_of(exact), work), "float32 products": products("float32")}
        found = in_turn(arms, rounds, tell)
    return found | {"whole step": [work * pairs for pairs in found["kdlib"]]}


def small_steps(rounds: int, tell: Tell = nobody) -> Rates:
    """Image pairs per second of ResNet-56 to ResNet-8, with fresh views, with a view bank, and of the student alone."""
    with TemporaryDirectory() as folder:
        run = run_of("resnet")
        arms = {
            "kdlib": _taking(steps_of(run)),
            "view bank": _taking(steps_of(run_of("resnet", bank=SETS), Path(folder))),
            "student alone": _bare(steps_of(alone(run.student))),
        }
        return in_turn(arms, rounds, tell)


def _taking(steps: Steps, work: float = 1.0) -> Callable[[int], float]:
    """An arm: image pairs per second, times their work, of a run that goes on from round to round."""
    return lambda number: rate(IMAGES * work, lambda k: steps.take(STEPS * number + k), STEPS)


def _bare(steps: Steps) -> Callable[[int], float]:
    """An arm: the same on the tensors of one step again and again, so that only networks and optimiser work."""
    fixed = steps.task.batch(0)
    return lambda _: rate(IMAGES, lambda _: steps.optimisation.step(steps.method, fixed, 0.0), STEPS)


def _plain_rate(run: RunSpec) -> float:
    """The plain program's rate once the batches that its workers made ahead are used up."""
    classes = len(load_data(run.data).train.classes)
    teacher, student = create_model(run.teacher.student, classes).eval(), create_model(run.student, classes)
    optimiser = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    source = plain.batches(plain.Pairs(some_images(20 * IMAGES)), IMAGES)

    def take(_: int) -> Tensor:
        return plain.step(teacher, student, optimiser, next(source))

    for number in range(5):  # two workers are two batches ahead each
        take(number)
    found = rate(IMAGES, take, STEPS)
    source.close()
    return found
