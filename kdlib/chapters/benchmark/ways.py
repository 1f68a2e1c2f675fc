"""What a choice by measurement would bring: whole steps with other memory formats, threads and parts of a batch.

kdlib chooses by rule: a run has the same bits on all machines of one kind, which a clock read at its start would
end. So what a choice would bring is measured here, and the rule is kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdlib.chapters.benchmark.rates import rate
from kdlib.chapters.benchmark.records import Choice
from kdlib.chapters.benchmark.runs import IMAGES, run_of, steps_of
from kdlib.lab.clock import Tell, in_turn, nobody
from kdlib.lab.machine import threads
from kdlib.models import Output
from kdlib.models.network import Network

#: Pair of networks -> its title, images of a step, and steps of each way in a round.
PAIRS = {
    "wrn": ("WRN-40-2 to WRN-16-2", IMAGES, 1),
    "resnet": ("ResNet-56 to ResNet-8", IMAGES, 2),
    "small": ("ResNet-20 to ResNet-8, 16 images", 16, 6),
}
FORMATS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
THREADS = (1, 2)
PARTS = (1, 2)  # in which the views of a step are given to the teacher


def choices(rounds: int, tell: Tell = nobody) -> list[Choice]:
    """Of each pair of networks, all ways."""
    found = []
    for place, (pair, (title, images, steps)) in enumerate(PAIRS.items()):
        ways = {
            way(name, count, parts): _arm(pair, images, steps, kind, count, parts)
            for name, kind in FORMATS.items()
            for count in THREADS
            for parts in PARTS
        }
        rates = in_turn(ways, rounds, tell=lambda share, place=place: tell((place + share) / len(PAIRS)))
        found.append(Choice(title=title, rule=way(next(iter(FORMATS)), 1, 1), rates=rates))
    return found


def way(name: str, count: int, parts: int) -> str:
    """A way in words."""
    said = f"{name}, {count} thread{'s' * (count > 1)}"
    return said if parts == 1 else f"{said}, teacher in {parts} parts"


def _arm(
    pair: str, images: int, steps: int, kind: torch.memory_format, count: int, parts: int
) -> Callable[[int], float]:
    """Pairs per second and thread."""
    run = steps_of(run_of(pair, images))
    method = run.method
    for network in (method.teacher, method.student):
        in_format(network, kind)
    if parts > 1:
        method.teacher = InParts(method.teacher, parts)
    measured = rate(images / count, run.take, steps)

    def with_threads(number: int) -> float:
        with threads(count):
            return measured(number)

    return with_threads


def in_format(network: Network, kind: torch.memory_format) -> None:
    """Has the backbone compute in a memory format, whatever that of its images is."""
    network.backbone.to(memory_format=kind)
    network.backbone.register_forward_pre_hook(lambda _, given: (given[0].contiguous(memory_format=kind),))


class InParts(nn.Module):
    """A teacher that is given its views in equal parts, one after another, and says its logits alone."""

    def __init__(self, teacher: Network, parts: int):
        super().__init__()
        self.teacher, self.parts = teacher, parts

    def forward(self, views: Tensor) -> Output:
        """The logits of all views."""
        return Output(torch.cat([self.teacher.logits(part) for part in views.chunk(self.parts)]))
