"""Steps as a function of tensors that stay: they are those of a run that is not captured, to the bit, for every method.

A CPU has no graph: it calls again what a GPU replays. What a graph cannot hold, a number that is read on the host or a
shape that depends on numbers, is looked for among the operations of a step.
"""

import copy
import warnings

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdlib.lab import captured
from kdlib.lab.captured import WARM_UP, captured_run, obstacle_to
from kdlib.lab.machine import resolve_capture
from kdlib.lab.optimisation import Optimisation
from kdlib.lab.recipe import Machine
from kdlib.lab.specs import RunSpec
from kdlib.lab.stacked import Stack, captured_stack, tasks_of, train_stack
from kdlib.lab.stacks import stack_of
from kdlib.lab.stopping import OutOfTimeError, Stop
from kdlib.lab.task import Task
from kdlib.lab.train import train
from kdlib.methods import METHODS, Definition, NoOptions, Term, policies_of
from kdlib.views.policies import POLICIES

pytestmark = pytest.mark.usefixtures("isolated")
CAPTURED = [name for name, definition in METHODS.items() if definition.numbers is not None]
WITHIN = ("weak1", "weak2", "twin", "jda", "rot2", "rot4")  # the graph their views are made
STEPS = 7  # of 8 images: they cross the end of epochs of 40 images


@pytest.fixture
def task_of(make_spec, teacher):
    """task_of(method, policy, **fields): a task of its own, with the teacher and the head that the method needs."""

    def make(method: str = "kd", policy: str = "jda", **fields) -> Task:
        definition, above, taught = METHODS[method], make_spec(seed=7), copy.deepcopy(teacher)
        if definition.taught_by:
            above = make_spec(method=definition.taught_by[0], teacher=above)
            taught = Task.of(above, taught).method.student
        views = policies_of(method)[policy]
        recipe = {"views_per_step": 8 * views, "views_per_image": 4 * views} | fields.pop("recipe", {})
        given = {"recipe": recipe, "student": "resnet8_tiny" if definition.trains_student else "resnet8"} | fields
        needed = {"teacher": above} if definition.needs_teacher else {}
        spec = make_spec(method=method, policy=policy, **needed, **given)
        return Task.of(spec, taught if definition.needs_teacher else None)

    return make


def policy_for(method: str) -> str:
    return next(name for name in ("jda", *POLICIES) if name in policies_of(method))


def state_of(task: Task, optimisation: Optimisation) -> dict[str, Tensor | float]:
    """All that a checkpoint keeps of both, by name."""
    kept = optimisation.optimiser.state_dict()
    moving = {f"momentum {k}": own["momentum_buffer"] for k, own in kept["state"].items() if own}
    return task.method.own_state() | moving | {"rate": kept["param_groups"][0]["lr"]}


def same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[name])), name


def as_ever(task: Task, steps: int) -> tuple[list, dict]:
    """The scalars of each step that is not captured, and what it comes to."""
    task.method.train()
    optimisation, found = Optimisation.of(task), []
    for number in range(steps):
        found.append(optimisation.step(task.method, task.batch(number), number / steps))
        task.method.after_step()
    return found, state_of(task, optimisation)


def compare(ever: Task, task: Task, steps: int = STEPS) -> None:
    expected, last = as_ever(ever, steps)
    task.method.train()
    optimisation = Optimisation.of(task)
    run, places = captured_run(task, optimisation), set()
    for number in range(steps):
        for own, other in zip(run.step(number, number / steps), expected[number], strict=True):
            same(own, {name: value.detach() for name, value in other.items()})
        places.add(tuple((name, value.data_ptr(), value.shape) for name, value in run.tensors.items()))
    assert len(places) == 1  # all tensors stayed where they were, in the shape that they had
    same(state_of(task, optimisation), last)
    assert ever.epoch(steps - 1) > 1 and steps > WARM_UP


@pytest.mark.parametrize("method", CAPTURED)
def test_steps_are_those_of_a_run_that_is_not_captured(task_of, method):
    policy = policy_for(method)
    compare(task_of(method, policy), task_of(method, policy))


@pytest.mark.parametrize("policy", policies_of("kd"))
def test_under_every_policy(task_of, policy):
    task = task_of("kd", policy)
    compare(task_of("kd", policy), task)
    assert (captured.steady_policy(task) is not None) == (policy in WITHIN)


RECIPES = [
    {"clip_norm": 0.5}, {"micro_batches": 2}, {"nesterov": False}, {"nesterov": False, "momentum": 0.0},
    {"weight_decay": 0.0}, {"schedule": "steps", "milestones": (0.3, 0.6)},
]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_under_every_recipe(task_of, recipe):
    compare(*(task_of("ccd", "jda", recipe=dict(recipe)) for _ in range(2)))


def test_in_bfloat16_and_from_a_view_bank(task_of, tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_BANKS", str(tmp_path))
    mixed = {"machine": Machine(device="cpu", precision="bfloat16")}
    compare(task_of("kd", "jda", **mixed), task_of("kd", "jda", **mixed))
    compare(task_of("kd", "jda", bank=2), task_of("kd", "jda", bank=2))


@pytest.mark.parametrize("weight", ["shuffled", "cluster"])
def test_controls_of_ccd(task_of, weight):
    compare(*(task_of("ccd", "jda", options={"weight": weight}) for _ in range(2)))


def test_a_weight_that_rises_by_the_epoch_is_captured_anew(task_of, monkeypatch):
    """DKD's rises over the first epochs and then stays: each value takes its own first steps as ever."""
    fields = {"options": {"warm_up": 0.25}, "recipe": {"views_per_image": 16}}  # e_0 = 2 of 8 epochs
    task, warm = task_of("dkd", "jda", **fields), []
    compare(task_of("dkd", "jda", **fields), task, steps=20)
    run = captured_run(task, Optimisation.of(task))
    for number in range(20):
        run.step(number, 0.0)
        warm.append(run.warm)
    assert warm == [1, 2, 3, 3, 3] + [1, 2, 3] + 12 * [3]


def test_a_loss_that_reads_more_than_it_says_stumbles(task_of, monkeypatch):
    def loss(batch, options):
        return {"ce": Term(batch.cross_entropy * batch.step.epoch, 1.0)}, {}

    monkeypatch.setitem(METHODS, "mine", Definition(loss, NoOptions, "a test", "x", needs_teacher=False))
    task = task_of("mine", "weak1")
    with pytest.raises(TypeError, match="NoneType"):
        captured_run(task, Optimisation.of(task)).step(0, 0.0)


# --- what a graph cannot hold

READ = ("local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "bincount")


class Steady(TorchDispatchMode):
    """Names of operations that wait for a GPU, take a constant from the host, or whose shape depends on numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().split("::")[1].split(".")[0].strip("_")
        masks = args[1] if name in ("index", "index_put", "index_put_impl", "unsafe_index") else ()
        masked = any(mask is not None and mask.dtype == torch.bool for mask in masks)
        repeated = function.name() == "aten::repeat_interleave.Tensor"
        if masked or repeated or name.startswith(READ):
            self.found.append(function.name())
        return function(*args, **(kwargs or {}))


def unsteady(work) -> list[str]:
    """What of its operations a graph cannot hold."""
    with Steady() as seen:
        work()
    return seen.found


def of_a_step(task: Task) -> list[str]:
    task.method.train()
    run = captured_run(task, Optimisation.of(task))
    for number in range(WARM_UP):
        run.step(number, 0.0)
    return unsteady(run._compute)


def test_the_search_finds_what_it_looks_for():
    x = torch.arange(4.0)
    for work in (
        lambda: x.sum().item(), lambda: x[x > 1], lambda: x.nonzero(), lambda: bool(x.any()),
        lambda: torch.tensor([1.0]) + x, lambda: x.repeat_interleave(x.long()), lambda: x.long().bincount(),
        lambda: x.unique(), lambda: x.clone().index_put_((x > 1,), x.sum()),
    ):  # fmt: skip
        assert unsteady(work), work
    assert unsteady(lambda: torch.where(x > 1, x, 0)[x.long().argsort()].repeat_interleave(2)) == []


@pytest.mark.parametrize("method", CAPTURED)
def test_no_step_reads_a_number_or_has_a_shape_that_depends_on_one(task_of, method):
    assert of_a_step(task_of(method, policy_for(method))) == []


@pytest.mark.parametrize("policy", WITHIN)
def test_nor_do_views_that_are_made_within(task_of, policy):
    assert of_a_step(task_of("kd", policy)) == []


def test_views_before_the_graph_would_not_do_within(task_of):
    task = task_of("kd", "crld")
    assert "aten::nonzero" in unsteady(lambda: task.batch(0))


@pytest.mark.parametrize("weight", ["shuffled", "cluster_shuffled"])
def test_nor_do_controls_of_ccd(task_of, weight):
    assert of_a_step(task_of("ccd", "jda", options={"weight": weight})) == []


# --- whole runs


@pytest.fixture
def forced(monkeypatch):
    """Runs on a CPU take the way of those that are captured."""
    monkeypatch.setattr(captured, "obstacle_to", lambda task: None)
    monkeypatch.setenv("KDLIB_CAPTURE", "1")


def test_a_run_that_stops_in_the_middle_goes_on_either_way(make_spec, teacher, tmp_path, monkeypatch, forced):
    """Its checkpoint does not tell how its steps were made; bits and metrics are those of the run as ever."""
    spec = make_spec(method="ccd", policy="jda", teacher=make_spec(seed=7), recipe={"views_per_image": 8})
    monkeypatch.setenv("KDLIB_CAPTURE", "0")
    whole = train(spec, tmp_path / "whole", teacher)
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)

    def stop(done: int, steps: int) -> None:
        if done in (5, 13):
            raise KeyboardInterrupt

    for value in ("1", "0", "1"):
        monkeypatch.setenv("KDLIB_CAPTURE", value)
        try:
            found = train(spec, tmp_path / "parts", teacher, stop)
        except KeyboardInterrupt:
            found = None
    assert found is not None
    whole.pop("seconds"), found.pop("seconds")
    assert found == whole


def test_a_run_that_diverges_is_seen(make_spec, tmp_path, forced):
    spec = make_spec(recipe={"views_per_image": 8, "learning_rate": 1e30})
    with pytest.raises(FloatingPointError, match="try a smaller learning_rate"):
        train(spec, tmp_path, None)


def stack(make_spec, **fields) -> list[RunSpec]:
    given = {"method": "kd", "policy": "jda", "teacher": make_spec(seed=7), "recipe": {"views_per_image": 8}} | fields
    return stack_of([make_spec(seed=seed, student="resnet8_tiny", **given) for seed in (0, 2, 5)])


@pytest.mark.parametrize("fields", [{}, {"method": "dkd"}, {"policy": "cutout"}, {"policy": "share"}], ids=str)
def test_seeds_that_are_trained_together(make_spec, teacher, fields):
    runs = stack(make_spec, **fields)
    ever, other = (Stack.of(tasks_of(runs, copy.deepcopy(teacher))) for _ in range(2))
    steps = captured_stack(other)
    for number in range(STEPS):
        same(
            steps.step(number, number / STEPS)[0], {n: v.detach() for n, v in ever.step(number, number / STEPS).items()}
        )
    same(dict(other.weights), dict(ever.weights))
    same(dict(other.statistics), dict(ever.statistics))
    assert unsteady(steps._compute) == []


def test_a_stack_stops_and_goes_on(make_spec, teacher, tmp_path, monkeypatch, forced):
    run = stack(make_spec)[0]
    monkeypatch.setenv("KDLIB_CAPTURE", "0")
    expected = train_stack(run, [tmp_path / "whole" / str(i) for i in range(3)], teacher)
    monkeypatch.setenv("KDLIB_CAPTURE", "1")
    parts = [tmp_path / "parts" / str(i) for i in range(3)]
    with pytest.raises(OutOfTimeError):
        train_stack(run, parts, teacher, stop=Stop(0.0))
    assert [r["bits"] for r in train_stack(run, parts, teacher)] == [r["bits"] for r in expected]


# --- where it is asked for


def test_what_cannot_be_captured_says_why(task_of, monkeypatch):
    def on(device: str, method: str = "kd", precision: str = "float32") -> str | None:
        machine = Machine(device=device, precision=precision)
        task = task_of(method, policy_for(method), options={"negatives": 3} if method == "crd" else {})
        spec = task.spec.model_copy(update={"machine": machine})
        object.__setattr__(task, "spec", spec)
        return obstacle_to(task)

    assert on("cuda") is None
    assert on("cpu") == "a CPU has no graphs"
    assert "float16 asks" in on("cuda", precision="float16")
    for name in sorted(METHODS.keys() - set(CAPTURED)):
        assert on("cuda", name) == f"method {name!r} does more in a step than a graph repeats"
    monkeypatch.setattr("kdlib.lab.distributed.world", lambda: 2)
    assert on("cuda") == "several processes share each step"


def test_it_is_asked_for_by_the_environment_and_said_in_one_line(make_spec, tmp_path, monkeypatch):
    assert not resolve_capture()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(make_spec(), tmp_path / "0", None)
    monkeypatch.setenv("KDLIB_CAPTURE", "1")
    with pytest.warns(
        UserWarning, match=r"^KDLIB_CAPTURE = 1: the steps of run \w{16} are not captured: a CPU"
    ) as said:
        train(make_spec(), tmp_path / "1", None)
    assert len(said) == 1 and "\n" not in str(said[0].message)
    monkeypatch.setenv("KDLIB_CAPTURE", "yes")
    with pytest.raises(ValueError, match="^KDLIB_CAPTURE = 'yes' is neither yes nor no; allowed are 1 and 0$"):
        train(make_spec(), tmp_path / "2", None)
    assert not (tmp_path / "2").exists()
