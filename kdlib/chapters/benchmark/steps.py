"""Views and whole steps per second: kdlib with fresh views and with a view bank, and what they are measured by."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from kdlib.chapters.benchmark import plain
from kdlib.chapters.benchmark.rates import Rates, products, rate
from kdlib.chapters.benchmark.runs import (
    IMAGES,
    SETS,
    alone,
    bare,
    gigaflops_of_a_pair,
    run_of,
    some_images,
    steps_of,
    untrained,
)
from kdlib.lab.clock import Tell, in_turn, nobody
from kdlib.lab.specs import RunSpec
from kdlib.models.network import Network
from kdlib.randomness import uniforms
from kdlib.views.policies import create_policy

STEPS = 4  # of each arm in a round


def augmentation(rounds: int, tell: Tell = nobody, images: int = 512, batch: int = 128) -> Rates:
    """JDA views per second, without crops: kdlib on batches, and PIL image by image."""
    some = some_images(images)
    pairs, policy = plain.Pairs(some), create_policy("jda").transform
    numbers = uniforms(0, "augmented ops", 0, images, policy.draws)

    def by_pil(_: int) -> None:
        for picture in pairs.pictures:
            plain.augment(picture, pairs.draws)

    def batched(_: int) -> None:
        for part, drawn in zip(some.images.split(batch), numbers.split(batch), strict=True):
            policy(part, drawn)

    return in_turn({"kdlib": rate(images, batched), "PIL": rate(images, by_pil)}, rounds, tell=tell)


def wide_steps(rounds: int, tell: Tell = nobody) -> Rates:
    """Image pairs per second of WRN-40-2 to WRN-16-2: the plain program, and kdlib with fresh views, with a view bank,
    with networks and optimiser alone, and with the student alone; GFLOP/s of kdlib and of matrix products, and both in
    float32 as well."""
    run, exact = run_of("wrn"), run_of("wrn", exact=True)
    work = gigaflops_of_a_pair(run)
    with TemporaryDirectory() as folder:
        arms = {
            "plain program": lambda _: _plain_rate(run),
            "kdlib": rate(IMAGES, steps_of(run).take, STEPS),
            "fixed tensors": rate(IMAGES, bare(steps_of(run)), STEPS),
            "view bank": rate(IMAGES, steps_of(run_of("wrn", bank=SETS), Path(folder)).take, STEPS),
            "student alone": rate(IMAGES, bare(steps_of(alone(run.student))), STEPS),
            "products": products(run.machine.precision),
        }
        if exact.machine != run.machine:
            arms["float32 step"] = rate(IMAGES * work, steps_of(exact).take, STEPS)
            arms["float32 products"] = products("float32")
        found = in_turn(arms, rounds, tell=tell)
    return found | {"whole step": [work * pairs for pairs in found["kdlib"]]}


def small_steps(rounds: int, tell: Tell = nobody) -> Rates:
    """Image pairs per second of ResNet-56 to ResNet-8, with fresh views, with a view bank, and of the student alone;
    views per second of the teacher alone, with and without folded BatchNorms."""
    with TemporaryDirectory() as folder:
        run = run_of("resnet")
        teacher = untrained(run)
        arms = {
            "kdlib": rate(IMAGES, steps_of(run).take, STEPS),
            "view bank": rate(IMAGES, steps_of(run_of("resnet", bank=SETS), Path(folder)).take, STEPS),
            "student alone": rate(IMAGES, bare(steps_of(alone(run.student))), STEPS),
            "folded teacher": _asked(teacher.frozen()),
            "teacher": _asked(teacher),
        }
        return in_turn(arms, rounds, tell=tell)


def _asked(teacher: Network) -> Callable[[int], float]:
    """An arm: views per second to which a teacher answers."""
    views = some_images(2 * IMAGES).images

    def ask(_: int) -> None:
        with torch.no_grad():
            teacher.logits(views)

    return rate(len(views), ask, STEPS)


def _plain_rate(run: RunSpec) -> float:
    """The plain program's rate; it is started for each round, for its workers would slow the others."""
    with plain.program(run, 20 * IMAGES, IMAGES) as take:
        return rate(IMAGES, take, STEPS)(0)
