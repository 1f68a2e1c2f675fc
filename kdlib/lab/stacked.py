"""Several seeds of an arm, trained in lock step: one step of all of them costs a GPU hardly more launches than one of
one, where a run alone cannot fill it.

Weights and statistics of all students lie in one tensor each, with the seeds in front (torch.func), and each student's
own are rows of those. Draws, order and initial weights of a seed are those of its run alone, and so is every formula;
sums are taken in another order, so numbers agree to rounding and not to the bit. A seed's run names its stack in
`Machine.stacked`.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kdlib.lab import distributed, soundness
from kdlib.lab import train as training
from kdlib.lab.captured import Captured, numbers_of, raw, steady_policy, told_to, wanted
from kdlib.lab.loop import State, go_through, stops_of
from kdlib.lab.optimisation import Optimisation
from kdlib.lab.progress import Progress
from kdlib.lab.soundness import Watch
from kdlib.lab.specs import RunSpec
from kdlib.lab.stacks import members
from kdlib.lab.stopping import NEVER, Stop
from kdlib.lab.task import Task
from kdlib.methods import Step, total
from kdlib.methods.base import Batch
from kdlib.models import Output
from kdlib.models.network import Network
from kdlib.randomness import own_tables

FIELDS = ("views", "labels", "keys", "shares", "partners")  # of a step that each seed has for itself, on the device


@dataclass(frozen=True)
class Stack:
    """Tasks of several seeds, K, whose students share their memory."""

    tasks: Sequence[Task]
    weights: Mapping[str, Tensor]  # [K, ...], of all students
    statistics: Mapping[str, Tensor]  # [K, ...], of their BatchNorms
    form: nn.Module  # the backbone without numbers
    optimisation: Optimisation

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> "Stack":
        """Moves the students of tasks into one stack. Raises ValueError if their numbers of images differ."""
        counts = [len(task.ids) for task in tasks]
        if len(set(counts)) > 1:
            raise ValueError(f"the seeds of a stack have {counts} training images; allowed is one number")
        students = [task.method.train().student.backbone for task in tasks]
        weights, statistics = stack_module_state(students)
        form = copy.deepcopy(students[0]).to("meta")
        for i, student in enumerate(students):
            for name, own in (*student.named_parameters(), *student.named_buffers()):
                own.data = (weights if name in weights else statistics)[name].data[i]
        return cls(tasks, weights, statistics, form, Optimisation.over(list(weights.values()), tasks[0].spec))

    def step(self, number: int, done: float) -> dict[str, Tensor]:
        """Step 0, 1, 2, ..., when the share `done` of the run is behind; loss, terms and records, each float [K]."""
        self.optimisation.begin(done)
        scalars = self.gradients(together(self.tasks, number))
        self.optimisation.move()
        return scalars

    def gradients(self, batch: Step) -> dict[str, Tensor]:
        """Those of a step `together`, clipped if the recipe says so; loss, terms and records, each float [K]."""
        scalars = self.losses(batch)
        scalars["loss"].sum().backward()  # no seed's loss depends on another's weights
        if (norm := self.optimisation.recipe.clip_norm) is not None:
            clip_each([weight.grad for weight in self.weights.values()], norm)
        return scalars

    def losses(self, batch: Step) -> dict[str, Tensor]:
        """Loss, terms and records of a step `together`, each float [K]; moves the statistics of the students."""
        method = self.tasks[0].method
        flat = batch.views.flatten(0, 2)
        rows = (len(self.tasks), -1)
        answers = None
        if method.teacher is not None:
            with torch.no_grad():
                answers = method.teacher.logits(flat).unflatten(0, rows)
        images = method.student.normalised(flat).unflatten(0, rows)
        given = {name: value for name in FIELDS if (value := getattr(batch, name)) is not None}

        def one(weights: dict, statistics: dict, images: Tensor, answers: Tensor | None, own: dict) -> dict:
            with method.student.autocast(images):
                logits = functional_call(self.form, (weights, statistics), (images,)).logits
            teacher = None if answers is None else Output(answers)
            seen = Batch(batch._replace(**own), Output(logits.float()), teacher)
            terms, records = method.definition.loss(seen, method.options)
            return {"loss": total(terms)} | {name: term.value for name, term in terms.items()} | records

        dims = (0, 0, 0, None if answers is None else 0, 0)
        with warnings.catch_warnings():  # kl_div is computed seed by seed, which is known, and little beside the rest
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            return vmap(one, dims)(dict(self.weights), dict(self.statistics), images, answers, given)

    @property
    def as_task(self) -> Task:
        """The stack for `kdlib.lab.train.save` and `resume`: the first task, with the state of all students."""
        return replace(self.tasks[0], method=_States(self.tasks))  # type: ignore[arg-type]  # of a Method what they use


class _States:
    """What a checkpoint keeps of the students of a stack."""

    def __init__(self, tasks: Sequence[Task]):
        self.methods = [task.method for task in tasks]

    def own_state(self) -> dict[str, Tensor]:
        states = enumerate(method.own_state() for method in self.methods)
        return {f"{i}.{name}": value for i, state in states for name, value in state.items()}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Fills the rows of the stack, which the students' own tensors are."""
        for i, method in enumerate(self.methods):
            start = f"{i}."
            method.load_own_state({n.removeprefix(start): v for n, v in state.items() if n.startswith(start)})


def together(tasks: Sequence[Task], number: int) -> Step:
    """The steps of all seeds as one: its tensors have the seeds in front, [K, ...], but `index`, which is the first's.

    Views are made of all images at once, except by policies that treat the images of a batch as one.
    """
    first = tasks[0]
    if first.policy.by_batch:
        steps = [task.batch(number) for task in tasks]
        parts = {name: [getattr(step, name) for step in steps] for name in FIELDS}
        return steps[0]._replace(**{n: torch.stack(p) for n, p in parts.items() if p[0] is not None})
    fields, ids, draws, partners = drawn_together(tasks, number)
    made = first.made(ids, draws, partners).items()
    return Step(**fields, **{n: None if value is None else value.unflatten(0, (len(tasks), -1)) for n, value in made})


def drawn_together(
    tasks: Sequence[Task], number: int
) -> tuple[dict[str, Any], Tensor, dict[str, Tensor], Tensor | None]:
    """What the views of all seeds are made of, one seed after the other (see `Task.drawn`): ids, draws and partners;
    before them the other fields of the step, its tensors [K, ...] but `index`, which is the first's."""
    first, orders = tasks[0], [task.order.at(number) for task in tasks]
    ids, device, rows = torch.cat([ids for ids, _ in orders]), tasks[0].targets.device, (len(tasks), -1)
    drawn = [task.drawn(*order) for task, order in zip(tasks, orders, strict=True)]
    draws = {role: torch.cat([draws[role] for draws, _ in drawn]) for role in drawn[0][0]}
    partners = torch.cat([partners for _, partners in drawn]) if first.policy.mixes else None
    keys = [task.draws({"method": 1}, *order)["method"] for task, order in zip(tasks, orders, strict=True)]
    fields = {
        "labels": first.targets[ids.to(device, non_blocking=True)].unflatten(0, rows),
        "keys": torch.cat(keys).squeeze(1).to(device, non_blocking=True).unflatten(0, rows),
        "index": torch.searchsorted(first.ids, orders[0][0]), "epoch": first.epoch(number), "epochs": first.epochs,
    }  # fmt: skip
    return fields, ids, draws, partners


def clip_each(gradients: Sequence[Tensor], norm: float) -> None:
    """Scales the gradients [K, ...] of each seed down to a norm, in place, as `clip_grad_norm_` of torch does."""
    parts = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients]
    share = (norm / (torch.linalg.vector_norm(torch.stack(parts), dim=0) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(share.view(-1, *[1] * (gradient.ndim - 1)))


def tasks_of(runs: Sequence[RunSpec], teacher: Network | None) -> list[Task]:
    """Their tasks, with the images and the teacher once."""
    tasks: list[Task] = []
    for run in runs:
        task = replace(Task.of(run, teacher), tables=own_tables())
        if tasks:
            task = replace(task, pixels=tasks[0].pixels, targets=tasks[0].targets)
            task.method.teacher = tasks[0].method.teacher
        tasks.append(task)
    return tasks


def train_stack(
    spec: RunSpec,
    folders: Sequence[Path],
    teacher: Network | None,
    progress: Progress | None = None,
    stop: Stop = NEVER,
) -> list[dict]:
    """Trains the runs of a stack, from one of them, to their end, or on from the checkpoint in the first folder.

    folders: of each run, by seed, for its weights. Returns what `kdlib.lab.train.train` does, of each; raises what it
    raises, also where one seed alone fails, and ValueError under torchrun.
    """
    if distributed.world() > 1:
        raise ValueError(f"run {spec.key} is one of a stack, which {distributed.world()} processes cannot share")
    stack = Stack.of(tasks_of(members(spec), teacher))
    state = training.resume(stack.as_task, stack.optimisation, folders[0])
    state.evaluations = state.evaluations or [[] for _ in stack.tasks]  # of each seed
    run = StackTraining(stack, spec, state, folders[0])
    go_through(run, progress, stop)
    found = zip(stack.tasks, folders, strict=True)
    return [training.finish(task, of_seed(state, i), folder) for i, (task, folder) in enumerate(found)]


@dataclass
class StackTraining:
    """The runs of a stack in the loop, see `kdlib.lab.loop`."""

    stack: Stack
    spec: RunSpec
    state: State
    folder: Path

    def __post_init__(self) -> None:
        self.key, self.steps = self.spec.key, self.stack.tasks[0].steps
        self.stops, self.watch = stops_of(self.steps, self.spec.recipe.evaluations), Watch()
        self.captured = captured_stack(self.stack) if wanted(self.stack.tasks[0]) else None

    def advance(self) -> list[dict[str, Tensor]]:
        done = self.state.step
        if self.captured is None:
            return [self.stack.step(done, done / self.steps)]
        return self.captured.step(done, done / self.steps)

    def check(self) -> None:
        check(self.watch, self.stack.tasks)

    def evaluate(self) -> None:
        for i, task in enumerate(self.stack.tasks):
            self.state.evaluations[i].append(training.evaluation(task, of_seed(self.state, i)))

    def save(self) -> None:
        training.save(self.stack.as_task, self.stack.optimisation, self.state, self.folder)


def captured_stack(stack: Stack) -> Captured:
    """The steps of all seeds, see `kdlib.lab.captured`."""
    first, policy = stack.tasks[0], steady_policy(stack.tasks[0])

    def inputs(number: int) -> dict[str, Any]:
        if policy is None:
            return told_to(first, together(stack.tasks, number)._asdict())
        fields, ids, draws, _ = drawn_together(stack.tasks, number)
        return told_to(first, fields | raw(first, ids, draws))

    return Captured(stack.optimisation, inputs, numbers_of(first), lambda step: [stack.gradients(step)], policy)


def of_seed(state: State, i: int) -> State:
    """The state of one seed's run; its seconds are its share of the stack's."""
    sums = {name: value[i] for name, value in state.sums.items()}
    evaluations = state.evaluations[i]
    return State(state.step, state.seconds / len(state.evaluations), sums, evaluations)


def check(watch: Watch, tasks: Sequence[Task]) -> None:
    """As `kdlib.lab.soundness.check`, for each seed."""
    rows, watch.rows = watch.rows, []
    for i, task in enumerate(tasks):
        own = [(step, {name: value[i] for name, value in scalars.items()}) for step, scalars in rows]
        soundness.check(Watch(own), task)
