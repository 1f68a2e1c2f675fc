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
from kdlib.lab.captured import WARM_UP, captured_run
from kdlib.lab.clock import Tell, in_turn, nobody
from kdlib.lab.measures.timing import Steps
from kdlib.lab.specs import RunSpec
from kdlib.lab.stacked import captured_stack
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
    "captured": ("step captured as a graph, against one that is not", None, "captured", "kdlib"),
    "captured bare": ("step captured as a graph, against one on fixed tensors", 0.85, "captured", "fixed tensors"),
    "captured products": ("step captured as a graph, against matrix products", None, "captured step", "products"),
}


def measure(device: str, rounds: int, steps: int = 20, tell: Tell = nobody, graphs: bool = True) -> list[Comparison]:
    """Of each pair of networks the ratios of `COMPARED`, the rate of JDA, and seeds together against one alone.

    steps: of each arm in a round. graphs: whether captured steps are measured too.
    """
    views = in_turn({"JDA views": _views(device)}, rounds)
    found = [Comparison.of("views", "JDA", "views/s", views)]
    for place, (pair, title) in enumerate(PAIRS.items()):
        rates = _rates(run_of(pair, IMAGES, device=device), rounds, steps, graphs)
        for name, (words, target, *arms) in COMPARED.items():
            if not set(arms) <= set(rates):
                continue
            unit = "GFLOP/s" if name == "products" else "pairs/s"
            chosen = {arm: rates[arm] for arm in arms}
            found.append(Comparison.of(f"{pair} {name}", f"{title}: {words}", unit, chosen, target=target))
        tell((place + 1) / len(PAIRS))
    return [*found, *_stacked(device, rounds, steps, graphs)]


def lines(found: list[Comparison]) -> list[str]:
    """A line for each comparison: the ratio, or the rate; its quartiles, its target, and the rates behind it."""
    shown = []
    for c in found:
        medians = ", ".join(f"{arm} {sorted(values)[len(values) // 2]:,.4g}" for arm, values in c.rates.items())
        target = "" if c.target is None else f", target {c.target:g}{'' if c.met else ': missed'}"
        value = f"{c.value.median:.4g} [{c.value.first_quartile:.4g}, {c.value.third_quartile:.4g}]"
        shown.append(f"{c.title}: {value}{target} ({medians} {c.unit})")
    return shown


def _rates(run: RunSpec, rounds: int, steps: int, graphs: bool) -> Rates:
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
        if graphs:
            arms["captured"] = rate(IMAGES, captured(steps_of(run)), steps, device)
        found = in_turn(arms, rounds)
    shares = {"whole step": "kdlib"} | ({"captured step": "captured"} if graphs else {})
    return found | {name: [work * pairs for pairs in found[arm]] for name, arm in shares.items()}


def captured(steps: Steps) -> Callable[[int], object]:
    """What takes a step of a run as a graph, see `kdlib.lab.captured`; the first ones are not captured."""
    graph = captured_run(steps.task, steps.optimisation)
    return _warm(lambda number: graph.step(number, 0.0))


def _warm(take: Callable[[int], object]) -> Callable[[int], object]:
    for number in range(WARM_UP + 1):
        take(number)
    return take


def _stacked(device: str, rounds: int, steps: int, graphs: bool) -> list[Comparison]:
    """Pairs per second, of all seeds together, of a stack and of its first run alone, both captured too."""
    run = run_of("small", IMAGES, device=device)
    stack, together, alone = stack_of_run(run, SEEDS), f"{SEEDS} seeds together", "one alone"
    taken = {together: (SEEDS, lambda number: stack.step(number, 0.0)), alone: (1, steps_of(run).take)}
    compared = {"small stacked": (together, 4.0, together, alone)}
    if graphs:
        graph, both = captured_stack(stack_of_run(run, SEEDS)), (f"{together}, captured", f"{alone}, captured")
        taken |= {
            both[0]: (SEEDS, _warm(lambda number: graph.step(number, 0.0))),
            both[1]: (1, captured(steps_of(run))),
        }
        compared |= {"small stacked captured": (both[0], None, *both), "small both": (both[0], None, both[0], alone)}
    rates = in_turn({n: rate(seeds * IMAGES, take, steps, device) for n, (seeds, take) in taken.items()}, rounds)
    return [
        Comparison.of(
            name, f"{PAIRS['small']}: {first}, against {arms[1]}", "pairs/s", {arm: rates[arm] for arm in arms},
            target=target,
        )
        for name, (first, target, *arms) in compared.items()
    ]  # fmt: skip


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
