"""Small networks in float32: how near a step comes to the rate of matrix products, and where the rest of its time goes.

Measured on one thread, in processes of their own: with the instructions that this machine has, and with AVX2 alone,
which older ones have.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdlib.chapters.benchmark.breakdown import shares_of
from kdlib.chapters.benchmark.rates import products, rate
from kdlib.chapters.benchmark.records import Small
from kdlib.chapters.benchmark.runs import alone, bare, gigaflops_of_a_pair, steps_of
from kdlib.lab.clock import Tell, in_turn, nobody
from kdlib.lab.measures.timing import Steps
from kdlib.lab.recipe import Machine

IMAGES = 16  # of a step, each as a pair of views, as in profile quick
NETWORKS = ("resnet8", "resnet14", "resnet8_tiny", "resnet14_tiny")  # the last two are those of profile quick
SIDE = 1024  # of the matrices
REPEATS = 4  # of each arm in a round
#: What a process is told of the instructions that it may use -> variables of torch, oneDNN and MKL.
INSTRUCTIONS: Mapping[str, Mapping[str, str]] = {
    "its own": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


def small_networks(rounds: int, tell: Tell = nobody) -> list[Small]:
    """Each network with each set of instructions; a machine without AVX-512 has AVX2 alone, and is measured once."""
    found: list[Small] = []
    for place, variables in enumerate(INSTRUCTIONS.values()):
        if found and found[0].instructions in INSTRUCTIONS:
            break
        context = multiprocessing.get_context("spawn")
        with environment(variables), ProcessPoolExecutor(1, mp_context=context) as pool:
            found += pool.submit(in_this_process, rounds).result()
        tell((place + 1) / len(INSTRUCTIONS))
    return found


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Inside, processes that are begun find these variables too."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def in_this_process(rounds: int) -> list[Small]:
    """All networks, with the instructions that this process may use."""
    torch.set_num_threads(1)
    return [small(name, rounds) for name in NETWORKS]


def small(name: str, rounds: int) -> Small:
    """A network: GFLOP/s of its step on fixed tensors, of its convolutions alone, and of matrix products; seconds of a
    step of one image, as a share of those of the step; shares of time by kind of operation."""
    machine = Machine(device="cpu", precision="float32", threads=1)
    steps, single = (steps_of(alone(name, images=count, machine=machine)) for count in (IMAGES, 1))
    work = gigaflops_of_a_pair(steps.task.spec) * IMAGES
    convolve, done = convolutions(steps)
    arms = {
        "step": rate(work, bare(steps), REPEATS),
        "convolutions": rate(done, convolve, REPEATS),
        "products": products("float32", SIDE),
    }
    rates = in_turn(arms | {"single": rate(1.0, bare(single), REPEATS)}, rounds)
    least = [step / (work * one) for step, one in zip(rates["step"], rates.pop("single"), strict=True)]
    return Small(
        network=name, images=IMAGES, instructions=torch.backends.cpu.get_cpu_capability(), rates=rates, least=least,
        shares=shares_of(steps, views=False),
    )  # fmt: skip


def convolutions(steps: Steps) -> tuple[Callable[[int], object], float]:
    """What computes all convolutions of a step, forward and backward, one after the other and nothing else; and their
    floating-point operations (1e9). The gradient of the images is not needed, and not computed."""
    seen: list[tuple[nn.Conv2d, Tensor, Tensor]] = []
    student = steps.method.student

    def see(layer: nn.Conv2d, given: tuple[Tensor, ...], made: Tensor) -> None:
        seen.append((layer, given[0].detach().clone(), torch.randn_like(made)))

    hooks = [m.register_forward_hook(see) for m in student.backbone.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        student(steps.task.batch(0).views.flatten(0, 1))
    for hook in hooks:
        hook.remove()

    def convolve(_: int) -> None:
        with torch.no_grad():
            for layer, given, _ in seen:
                layer(given)
            for place, (layer, given, gradient) in enumerate(seen):
                torch.ops.aten.convolution_backward(
                    gradient, given, layer.weight, None, layer.stride, layer.padding, layer.dilation, False, [0, 0],
                    layer.groups, [place > 0, True, False],
                )  # fmt: skip

    macs = [made.numel() * layer.weight[0].numel() for layer, _, made in seen]
    return convolve, 2e-9 * (3 * sum(macs) - macs[0])
