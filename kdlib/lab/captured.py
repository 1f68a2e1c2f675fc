"""The step of a run as a CUDA graph: hundreds of kernels, which one call launches, where launching them one by one
takes longer than computing them.

A graph repeats the same kernels on the same memory. So a step is made a function of tensors that stay where they are:
what was drawn, and the raw images, are prepared as ever and copied into them, and views, teacher, student, loss,
gradients and momentum follow in fixed shapes. Only the last line of SGD, p - lr d, comes after the graph, in the one
launch that it would take to tell the graph the learning rate: so it is torch's own, with a number that no graph holds.

Kernels, and their order, are those of a step that is not captured, but for JDA, whose other form gives the same pixels
(`kdlib.views.jda.JDA.steady`). So the bits of a run are to be the same, its key is the same, and a checkpoint does not
tell. No GPU has run this so far: tests hold all but the graph on a CPU, where the same function is called instead of
replayed, and `make gpu` holds the rest.

Policies whose shapes depend on their draws make their views before the graph. What cannot be captured at all is said by
`obstacle_to`, and trained as ever.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import nan
from typing import Any

import torch
from torch import Tensor

from kdlib.lab import distributed
from kdlib.lab.machine import resolve_capture
from kdlib.lab.optimisation import Optimisation
from kdlib.lab.task import Task
from kdlib.methods import Step
from kdlib.methods.base import no_numbers
from kdlib.views.policy import ViewPolicy

WARM_UP = 3  # steps, as ever, before one is captured: libraries choose their algorithms, the optimiser makes its state
IMAGES, DRAWN = "images", "draws of "  # what views are made of within the graph, beside the fields of a step


class Captured:
    """Steps of a run: the first few as ever, the next one captured, the others replayed; on a CPU called again."""

    def __init__(
        self,
        optimisation: Optimisation,
        inputs: Callable[[int], dict[str, Any]],
        numbers: Callable[[int], tuple[float, ...]],
        gradients: Callable[[Step], list[dict[str, Tensor]]],
        policy: ViewPolicy | None,
    ):
        """inputs: number of a step -> its fields, and, where a policy is given, IMAGES and DRAWN in place of views.
        numbers: number of a step -> see `Definition.numbers`. gradients: makes those of a step."""
        self.optimisation, self.inputs, self.numbers, self.gradients = optimisation, inputs, numbers, gradients
        self.policy = policy.in_steady_shapes() if policy else None
        self.device = optimisation.weights[0].device
        self.stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        self.tensors: dict[str, Tensor] = {}
        self.fixed: dict[str, Any] = {}
        self.known: tuple[float, ...] | None = None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.warm = 0

    def step(self, number: int, done: float) -> list[dict[str, Tensor]]:
        """Step 0, 1, 2, ... when the share `done` of the run is behind; scalars as `Optimisation.step` gives them."""
        self._fill(self.inputs(number), self.numbers(number))
        if self.warm < WARM_UP:
            self.warm += 1
            with beside(self.stream):
                self.optimisation.begin(done)
                scalars = self.gradients(self._made())
                self.optimisation.move()
            return scalars
        if self.stream is None:
            self.kept = self._compute()
        elif self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.kept = self._compute()
        if self.graph is not None:
            self.graph.replay()
        scalars, weights, ways = self.kept
        self.optimisation.tell(done)
        self.optimisation.go(weights, ways)
        return [{name: value.clone() for name, value in own.items()} for own in scalars]

    def _fill(self, fields: Mapping[str, Any], numbers: tuple[float, ...]) -> None:
        """Copies the tensors of a step into those that stay. All else is what it was when `numbers` were others: then a
        graph is of no use any more."""
        given = {name: value for name, value in fields.items() if isinstance(value, Tensor)}
        if numbers != self.known:
            if self.graph is not None:
                torch.cuda.synchronize()
            self.known, self.graph, self.warm = numbers, None, 0
            self.fixed = {name: value for name, value in fields.items() if name not in given}
        if not self.tensors:
            self.tensors = {name: torch.empty_like(value, device=self.device) for name, value in given.items()}
        for name, value in given.items():
            self.tensors[name].copy_(value, non_blocking=True)

    def _compute(self) -> tuple[list[dict[str, Tensor]], list[Tensor], list[Tensor]]:
        """What is captured: scalars, the weights that have a gradient, and the way that SGD goes with each of them."""
        self.optimisation.optimiser.zero_grad(set_to_none=True)
        scalars = self.gradients(self._made())
        detached = [{name: value.detach() for name, value in own.items()} for own in scalars]
        return detached, *self.optimisation.ways()

    def _made(self) -> Step:
        """The step that the tensors say."""
        fields = self.fixed | self.tensors
        if self.policy is not None:
            draws = {name.removeprefix(DRAWN): fields.pop(name) for name in self.tensors if name.startswith(DRAWN)}
            fields["views"] = self.policy(fields.pop(IMAGES), draws).unflatten(0, fields["labels"].shape)
        return Step(**fields)


@contextmanager
def beside(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Inside, a GPU works in this stream, after what was asked of it before; what follows waits for it."""
    if stream is None:
        yield
        return
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


def obstacle_to(task: Task) -> str | None:
    """Why no step of a run can be captured, or None."""
    machine, name = task.spec.machine, task.spec.method
    obstacles = {
        "a CPU has no graphs": machine.device != "cuda",
        "float16 asks after each step whether a gradient is infinite": machine.precision == "float16",
        "several processes share each step": distributed.world() > 1,
        f"method {name!r} does more in a step than a graph repeats": task.method.definition.numbers is None,
    }
    return next((why for why, there in obstacles.items() if there), None)


def wanted(task: Task) -> bool:
    """Whether the steps of a run are asked for as a graph, see `resolve_capture`, and can be; if not, says why."""
    why = obstacle_to(task) if resolve_capture() else ""
    if why:
        warnings.warn(f"KDLIB_CAPTURE = 1: the steps of run {task.spec.key} are not captured: {why}", stacklevel=2)
    return why is None


def captured_run(task: Task, optimisation: Optimisation) -> Captured:
    """The steps of a run."""
    policy = steady_policy(task)

    def inputs(number: int) -> dict[str, Any]:
        if policy is None:
            return told_to(task, task.batch(number)._asdict())
        ids, epochs = task.shown(number)
        return told_to(task, task.told(number, ids, epochs) | raw(task, ids, task.drawn(ids, epochs)[0]))

    return Captured(
        optimisation, inputs, numbers_of(task), lambda step: optimisation.gradients(task.method, step), policy
    )


def steady_policy(task: Task) -> ViewPolicy | None:
    """The policy of views that can be made within a graph, from raw images that lie on the device; else None."""
    on_device = task.pixels.device == task.targets.device
    return task.policy if task.policy.steady and task.bank is None and on_device else None


def raw(task: Task, ids: Tensor, draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What views are made of, by the names under which a graph finds it."""
    return {IMAGES: task.raw(ids)} | {DRAWN + role: rows for role, rows in draws.items()}


def numbers_of(task: Task) -> Callable[[int], tuple[float, ...]]:
    """Number of a step -> what the loss makes of its other numbers, see `Definition.numbers`."""
    method = task.method
    return lambda number: method.definition.numbers(task.epoch(number), task.epochs, method.options)


def told_to(task: Task, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a step without numbers that a graph would repeat: a loss that reads one stumbles over None."""
    unread = task.method.definition.numbers is no_numbers
    hidden = {"index": None, "seed": nan} | ({"epoch": None, "epochs": None} if unread else {})
    return {**fields, **hidden}
