"""The benchmark: ratios of rates that were measured in one run, on one machine, in turn.

`python -m kdlib bench` prints a table and writes JSON. Absolute rates are those of one machine on one day; the ratios
are what is compared.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from kdlib.bench import plain
from kdlib.clock import summary
from kdlib.data import BUNDLED, ImageSet, available, load_data
from kdlib.measures.timing import Steps
from kdlib.models import create_model
from kdlib.networks import Network
from kdlib.pictures import views_of
from kdlib.specs import Machine, Policy, Recipe, RunSpec
from kdlib.tables import run_cost
from kdlib.views.policies import create_policy

PAIRS = {"wrn": ("wrn_40_2", "wrn_16_2"), "resnet": ("resnet56", "resnet8")}
IMAGES = 64  # pairs of a step
Rates = dict[str, dict[str, float]]  # arm -> median and quartiles of its rate


def data_name() -> str:
    """CIFAR-100 where it is, else the bundled images: both are 32 pixels wide."""
    return "cifar100" if available("cifar100") else BUNDLED


def in_turn(arms: Mapping[str, Callable[[], float]], rounds: int) -> Rates:
    """Each arm measures its own rate, round after round; the first round is not counted."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds + 1):
        for name, arm in arms.items():
            rate = arm()
            if number:
                found[name].append(rate)
    return {name: summary(rates) for name, rates in found.items()}


def rate(work: float, task: Callable[[], object], repeats: int = 1) -> float:
    """Work per second of `repeats` calls that do `work` each."""
    started = time.perf_counter()
    for _ in range(repeats):
        task()
    return repeats * work / (time.perf_counter() - started)


def matrix_products(rounds: int, size: int = 2048) -> Rates:
    """FLOP/s of a square matrix product in float32 and bfloat16, with the threads that are set."""
    arms = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(size, size).to(dtype)
        arms[str(dtype).removeprefix("torch.")] = lambda a=a: rate(2 * size**3, lambda: a @ a, 3)
    return in_turn(arms, rounds)


def augmentation(rounds: int, images: int = 512) -> Rates:
    """JDA views per second on one core: kdlib on batches, and PIL image by image."""
    some = load_data(data_name()).train.images[:images]
    pictures, policy = plain.Pairs(_subset(images)), create_policy("jda").transform
    numbers = torch.rand(images, policy.draws, generator=torch.Generator().manual_seed(0))

    def by_pil() -> None:
        for picture in pictures.pictures:
            plain.augment(picture, pictures.draws)

    def batched() -> None:
        for first in range(0, images, 128):
            policy(some[first : first + 128], numbers[first : first + 128])

    return in_turn({"kdlib": lambda: rate(images, batched), "PIL": lambda: rate(images, by_pil)}, rounds)


def _subset(count: int) -> ImageSet:
    train = load_data(data_name()).train
    return replace(train, images=train.images[:count], labels=train.labels[:count])


def run_of(pair: str, threads: int = 1, images: int = IMAGES) -> RunSpec:
    """KD + JDA of a pair of networks: the run whose steps are timed. Its teacher is never trained."""
    teacher, student = PAIRS[pair]
    machine = Machine.of("cpu", threads)
    recipe = Recipe(views_per_step=2 * images, views_per_image=2, learning_rate=0.01, weight_decay=1e-4)
    shared = {"data": data_name(), "recipe": recipe, "seed": 0, "machine": machine}
    first = RunSpec(student=teacher, method="ce", policy=Policy(name="weak1"), **shared)
    return RunSpec(student=student, method="kd", policy=Policy(name="jda"), teacher=first, **shared)


def steps_of(run: RunSpec) -> Steps:
    """The run, ready to take steps, with a teacher of random weights."""
    images = load_data(run.data).train
    backbone = create_model(run.teacher.student, len(images.classes))
    return Steps(run, Network(backbone, images.mean, images.std, run.machine.precision))


def whole_steps(pair: str, rounds: int, steps: int = 4) -> Rates:
    """Image pairs per second of the whole step: the plain program, kdlib, and kdlib's networks on fixed tensors."""
    run = run_of(pair)
    fast, bare = steps_of(run), steps_of(run)
    fixed, numbers = bare.task.batch(0), count()
    return in_turn(
        {
            "plain": lambda: _plain_rate(run, steps),
            "kdlib": lambda: rate(IMAGES, lambda: fast.take(next(numbers)), steps),
            "bare": lambda: rate(IMAGES, lambda: bare.optimisation.step(bare.method, fixed, 0.0), steps),
        },
        rounds,
    )


def _plain_rate(run: RunSpec, steps: int) -> float:
    """The plain program's rate once the batches that its workers made ahead are used up."""
    classes = len(load_data(run.data).train.classes)
    teacher, student = create_model(run.teacher.student, classes).eval(), create_model(run.student, classes)
    optimiser = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    source = plain.batches(plain.Pairs(_subset(20 * IMAGES)), IMAGES)

    def take() -> Tensor:
        return plain.step(teacher, student, optimiser, next(source))

    for _ in range(5):  # two workers are two batches ahead each
        take()
    found = rate(IMAGES, take, steps)
    source.close()
    return found


def parallel_runs(rounds: int, steps: int = 20) -> Rates:
    """Image pairs per second of ResNet-8 runs: two with one thread side by side, and one after another with two."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:

        def side_by_side() -> float:
            return sum(future.result() for future in [pool.submit(_thread_rate, 1, steps) for _ in range(2)])

        def in_sequence() -> float:
            return pool.submit(_thread_rate, 2, steps).result()

        return in_turn({"two side by side": side_by_side, "two in turn": in_sequence}, rounds)


def _thread_rate(threads: int, steps: int) -> float:
    torch.set_num_threads(threads)
    run, numbers = steps_of(run_of("resnet", threads=threads)), count()
    run.take(next(numbers))
    return rate(IMAGES, lambda: run.take(next(numbers)), steps)


def memory() -> dict[str, float]:
    """Megabytes of a process that has imported kdlib, and at most during ten steps of a ResNet-8 run."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        before, after = pool.submit(_memory_of_a_run).result()
    return {"after import": before, "at most in a run": after}


def peak_megabytes() -> float:
    """The most memory that this process has held. Linux only: `getrusage` would count that of its parent too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def _memory_of_a_run() -> tuple[float, float]:
    before = peak_megabytes()
    torch.set_num_threads(1)
    run = steps_of(run_of("resnet"))
    for number in range(10):
        run.take(number)
    return before, peak_megabytes()


def batch_sizes(rounds: int, sizes: tuple[int, ...] = (16, 32, 64, 128, 256)) -> Rates:
    """Views per second of the JDA policy at several batch sizes: cost grows with the work or slower."""
    images = load_data(data_name()).train.images
    policy = create_policy("jda")
    arms = {str(n): lambda n=n: rate(2 * n, lambda: views_of(policy, images[:n]), 2048 // n) for n in sizes}
    return in_turn(arms, rounds)


def flops_of_a_pair(pair: str) -> float:
    """Floating-point operations of a step for one image pair, of both networks."""
    return 2 * run_cost(run_of(pair)).step_macs / IMAGES
