"""How fast a GPU trains: whole steps against networks alone, a plain program, and matrix products.

It needs the core's requirements alone: torch's own image has them, and nothing can be installed on some machines.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from kdlib.chapters.benchmark import plain
from kdlib.chapters.benchmark.rates import Rates, products, rate
from kdlib.chapters.benchmark.records import Comparison
from kdlib.chapters.benchmark.runs import bare, gigaflops_of_a_pair, run_of, some_images, stack_of_run, steps_of
from kdlib.lab.clock import Tell, in_turn, nobody
from kdlib.lab.specs import RunSpec
from kdlib.views.jda import jda

IMAGES = 128  # of a step, each as a pair of views
VIEWS = 1024  # images that are augmented at once
WORKERS = 8  # of the plain program
SIDE = 4096  # of the matrices
SEEDS = 8  # that are trained together
PAIRS = {"wrn": "WRN-40-2 to WRN-16-2", "resnet": "ResNet-56 to ResNet-8", "small": "ResNet-20 to ResNet-8"}

#: Name -> (what is compared in words, target) of each pair of networks, and the arms.
COMPARED = {
    "bare": ("whole step, against one on fixed tensors", 0.85, "kdlib", "fixed tensors"),
    "plain": ("whole step, against the plain program", 10.0, "kdlib", "plain program"),
    "products": ("whole step, against matrix products", None, "whole step", "products"),
}


def measure(device: str, rounds: int, steps: int = 20, tell: Tell = nobody) -> list[Comparison]:
    """Of each pair of networks the ratios of `COMPARED`, the rate of JDA, and seeds together against one alone.

    steps: of each arm in a round.
    """
    views = in_turn({"JDA views": _views(device)}, rounds)
    found = [Comparison.of("views", "JDA", "views/s", views)]
    for place, (pair, title) in enumerate(PAIRS.items()):
        rates = _rates(run_of(pair, IMAGES, device=device), rounds, steps)
        for name, (words, target, *arms) in COMPARED.items():
            unit = "GFLOP/s" if name == "products" else "pairs/s"
            chosen = {arm: rates[arm] for arm in arms}
            found.append(Comparison.of(f"{pair} {name}", f"{title}: {words}", unit, chosen, target=target))
        tell((place + 1) / len(PAIRS))
    return [*found, _stacked(device, rounds, steps)]


def lines(found: list[Comparison]) -> list[str]:
    """A line for each comparison: the ratio, or the rate; its quartiles, its target, and the rates behind it."""
    shown = []
    for c in found:
        medians = ", ".join(f"{arm} {sorted(values)[len(values) // 2]:,.4g}" for arm, values in c.rates.items())
        target = "" if c.target is None else f", target {c.target:g}{'' if c.met else ': missed'}"
        value = f"{c.value.median:.4g} [{c.value.first_quartile:.4g}, {c.value.third_quartile:.4g}]"
        shown.append(f"{c.title}: {value}{target} ({medians} {c.unit})")
    return shown


def _rates(run: RunSpec, rounds: int, steps: int) -> Rates:
    """The plain program computes as a GPU's default was for long: in float32 with TF32 products."""
    device, work = run.machine.device, gigaflops_of_a_pair(run)
    with plain.program(run, 1000, IMAGES, WORKERS) as take:

        def take_in_tf32(number: int) -> None:
            with tf32():
                take(number)

        arms = {
            "plain program": rate(IMAGES, take_in_tf32, steps, device),
            "kdlib": rate(IMAGES, steps_of(run).take, steps, device),
            "fixed tensors": rate(IMAGES, bare(steps_of(run)), steps, device),
            "products": products(run.machine.precision, SIDE, device),
        }
        found = in_turn(arms, rounds)
    return found | {"whole step": [work * pairs for pairs in found["kdlib"]]}


def _stacked(device: str, rounds: int, steps: int) -> Comparison:
    """Pairs per second, of all seeds together, of a stack and of its first run alone."""
    run = run_of("small", IMAGES, device=device)
    stack = stack_of_run(run, SEEDS)
    together = f"{SEEDS} seeds together"
    arms = {
        together: rate(SEEDS * IMAGES, lambda number: stack.step(number, 0.0), steps, device),
        "one alone": rate(IMAGES, steps_of(run).take, steps, device),
    }
    title = f"{PAIRS['small']}: {SEEDS} seeds together, against one alone"
    return Comparison.of("small stacked", title, "pairs/s", in_turn(arms, rounds), target=4.0)


@contextmanager
def tf32() -> Iterator[None]:
    """Inside, products of float32 on a GPU have ten bits of mantissa."""
    places = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


def _views(device: str) -> Callable[[int], float]:
    """An arm: augmented views per second of a batch on the device, with draws that lie on the CPU."""
    images, transform = some_images(1000).images.repeat(2, 1, 1, 1)[:VIEWS].to(device), jda()
    uniforms = torch.rand(VIEWS, transform.draws)
    return rate(VIEWS, lambda _: transform(images, uniforms), 10, device)
