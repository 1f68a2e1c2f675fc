"""Seeds that are trained together: each is what its run alone is, to rounding; stacks resume, and are stored apart."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kdlib.lab import distributed, stacked
from kdlib.lab import train as training
from kdlib.lab.recipe import Machine
from kdlib.lab.runs import execute, repeat, run_all
from kdlib.lab.specs import RunSpec
from kdlib.lab.stacked import Stack, clip_each, tasks_of, together, train_stack
from kdlib.lab.stacks import stack_of
from kdlib.lab.stopping import OutOfTimeError, Stop
from kdlib.lab.store import Store
from kdlib.lab.task import Task
from kdlib.lab.train import Optimisation, train
from kdlib.methods import METHODS
from kdlib.methods.base import total
from kdlib.views.policies import POLICIES, create_policy

pytestmark = pytest.mark.usefixtures("isolated")
SEEDS = (0, 2, 5)
STACKABLE = [name for name, definition in METHODS.items() if definition.stacks]


def arm(make_spec: Callable[..., RunSpec], method: str = "kd", seeds: tuple = SEEDS, **fields) -> list[RunSpec]:
    """The runs of an arm, each alone; its policy is JDA, whose two views go with all of these methods but CRLD."""
    teacher = make_spec(seed=7) if METHODS[method].needs_teacher else None
    given = {"policy": "crld" if method == "crld" else "jda", "teacher": teacher} | fields
    return [make_spec(method=method, seed=seed, **given) for seed in seeds]


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch, teacher) -> Callable[[list[RunSpec]], list[Task]]:
    """doubled(runs): their tasks in float64, where rounding hides nothing; losses that ask for float32 get float64."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)

    def make(runs: list[RunSpec]) -> list[Task]:
        tasks = [Task.of(run, teacher if run.teacher else None) for run in runs]
        for task in tasks:
            task.method.double()
        return tasks

    return make


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def alone(task: Task, steps: int) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """The scalars and the gradients of each step of a run alone, which moves its student."""
    optimisation, scalars, gradients = Optimisation.of(task), [], []
    task.method.train()
    for step in range(steps):
        scalars += optimisation.step(task.method, task.batch(step), step / task.steps)
        gradients.append({n: p.grad.clone() for n, p in task.method.student.backbone.named_parameters()})
    return scalars, gradients


@pytest.mark.parametrize(("method", "norm"), [*((name, None) for name in STACKABLE), ("kd", 0.5)])
def test_each_seed_is_what_its_run_alone_is(make_spec, doubled, method: str, norm: float | None):
    """Losses, terms, records, gradients, weights and statistics of three steps, which cross the end of an epoch."""
    recipe = {"clip_norm": norm, "views_per_step": 24, "views_per_image": 12}
    runs = arm(make_spec, method, recipe=recipe, fraction=0.125, student="resnet8_tiny")
    singles, stack = doubled(runs), Stack.of(doubled(runs))
    expected = [alone(task, 3) for task in singles]
    assert singles[0].order.at(0)[1][0] == 0 and singles[0].order.at(2)[1][-1] > 0
    for step in range(3):
        scalars = stack.step(step, step / singles[0].steps)
        for i, (single, gradients) in enumerate(expected):
            assert scalars.keys() == single[step].keys()
            for name, value in single[step].items():
                near(scalars[name][i], value)
            for name, gradient in gradients[step].items():
                near(stack.weights[name].grad[i], gradient)
    for task, one in zip(stack.tasks, singles, strict=True):
        own, other = task.method.student.backbone.state_dict(), one.method.student.backbone.state_dict()
        assert own.keys() == other.keys()
        for name, value in other.items():
            near(own[name], value)
        counts = {int(value) for name, value in own.items() if name.endswith("num_batches_tracked")}
        assert counts == {3}
    first, last = (task.method.student.backbone.state_dict() for task in (stack.tasks[0], stack.tasks[-1]))
    assert all(not torch.equal(first[name], last[name]) for name in first if "running" in name)


def test_in_float32_they_agree_to_rounding(make_spec, teacher, tmp_path):
    runs = arm(make_spec, "ccd", recipe={"views_per_image": 2})
    found = train_stack(stack_of(runs)[0], [tmp_path / str(s) for s in SEEDS], teacher)
    for run, result in zip(runs, found, strict=True):
        expected = train(run, tmp_path / "alone" / str(run.seed), teacher)
        assert result["metrics"].keys() == expected["metrics"].keys()
        for name, tolerance in (("mean_loss", 1e-3), ("mean_w", 1e-3), ("nll", 0.02), ("kl_to_teacher", 0.02)):
            assert result["metrics"][name] == pytest.approx(expected["metrics"][name], rel=tolerance)
        own, other = (load_file(f / str(run.seed) / "weights.safetensors") for f in (tmp_path, tmp_path / "alone"))
        assert own.keys() == other.keys()
        assert all((own[n] - value).norm() <= 0.02 * value.norm() for n, value in other.items() if "weight" in n)
        assert [e["step"] for e in result["evaluations"]] == [e["step"] for e in expected["evaluations"]]
        assert result["fingerprint"] == expected["fingerprint"]


@pytest.mark.parametrize("policy", POLICIES)
def test_each_seed_sees_the_views_of_its_run_alone(make_spec, teacher, policy: str):
    """To the bit: draws, order, partners, chosen images, maps and labels are a seed's own."""
    runs = arm(make_spec, "kd" if policy == "jda" or create_policy(policy).by_run else "ce", policy=policy)
    teacher = teacher if runs[0].teacher else None
    tasks = tasks_of(runs, teacher)
    for number in (0, 1, 4):
        found = together(tasks, number)
        for i, run in enumerate(runs):
            expected = Task.of(run, teacher).batch(number)
            for name in stacked.FIELDS:
                value = getattr(expected, name)
                assert (getattr(found, name) is None) == (value is None)
                assert value is None or torch.equal(getattr(found, name)[i], value)
            assert (found.epoch, found.epochs) == (expected.epoch, expected.epochs)


def test_the_teacher_is_asked_once_for_all_seeds(make_spec, teacher):
    tasks = tasks_of(stack_of(arm(make_spec)), teacher)
    stack, asked = Stack.of(tasks), []
    tasks[0].method.teacher.backbone.register_forward_hook(lambda module, inputs, output: asked.append(len(inputs[0])))
    stack.step(0, 0.0)
    assert asked == [3 * 16] and len({id(task.method.teacher) for task in tasks}) == 1


def test_clipping_is_of_each_seed_alone():
    torch.manual_seed(0)
    gradients = [torch.randn(3, 4, 2, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)]
    for gradient in gradients:
        gradient[0] *= 1e-3  # a seed below the norm stays as it is
    expected = []
    for i in range(3):
        weights = [torch.nn.Parameter(torch.zeros_like(g[i])) for g in gradients]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient[i].clone()
        torch.nn.utils.clip_grad_norm_(weights, 1.5)
        expected.append([weight.grad for weight in weights])
    clip_each(gradients, 1.5)
    for i, parts in enumerate(expected):
        for gradient, part in zip(gradients, parts, strict=True):
            near(gradient[i], part)


# --- checkpoints


def folders(root: Path) -> list[Path]:
    return [root / str(seed) for seed in SEEDS]


def bits(results: list[dict]) -> list[str]:
    return [result["bits"] for result in results]


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_stack_that_was_killed_goes_on_to_the_same_bits(make_spec, teacher, tmp_path, monkeypatch, stop: int):
    spec = stack_of(arm(make_spec, recipe={"views_per_image": 2}))[0]
    whole = train_stack(spec, folders(tmp_path / "whole"), teacher)
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)

    def die(done: int, steps: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stack(spec, folders(tmp_path / "parts"), teacher, die)
    steps = []
    resumed = train_stack(spec, folders(tmp_path / "parts"), teacher, lambda done, steps_: steps.append(done))
    assert bits(resumed) == bits(whole) and len(set(bits(whole))) == 3
    assert steps == list(range(stop + 1, 6))
    assert [r["evaluations"] for r in resumed] == [w["evaluations"] for w in whole]


def test_out_of_time_leaves_a_checkpoint_that_goes_on_to_the_same_bits(make_spec, teacher, tmp_path):
    spec = stack_of(arm(make_spec))[0]
    whole = train_stack(spec, folders(tmp_path / "whole"), teacher)
    for count in (1, 2):
        with pytest.raises(OutOfTimeError, match=rf"^run {spec.key} stopped at step {count} of 10$"):
            train_stack(spec, folders(tmp_path / "parts"), teacher, stop=Stop(0.0))
    assert bits(train_stack(spec, folders(tmp_path / "parts"), teacher)) == bits(whole)


def test_a_checkpoint_of_other_seeds_is_refused(make_spec, teacher, tmp_path):
    with pytest.raises(OutOfTimeError):
        train_stack(stack_of(arm(make_spec))[0], folders(tmp_path), teacher, stop=Stop(0.0))
    other = stack_of(arm(make_spec, seeds=(0, 2, 6)))[0]
    with pytest.raises(ValueError, match=r"^key of the checkpoint .*: delete it to start anew$"):
        train_stack(other, folders(tmp_path), teacher)


def test_a_seed_that_diverges_is_named(make_spec, tmp_path, monkeypatch):
    spec = stack_of(arm(make_spec, "ce"))[0]
    tasks = stacked.tasks_of(stacked.members(spec), None)
    with torch.no_grad():
        next(tasks[1].method.student.backbone.parameters()).fill_(float("nan"))
    monkeypatch.setattr(stacked, "tasks_of", lambda runs, teacher: tasks)
    with pytest.raises(FloatingPointError, match=rf"^run {tasks[1].spec.key}: the loss is nan at step 1;") as caught:
        train_stack(spec, folders(tmp_path), None)
    assert "\n" not in str(caught.value)


def test_torchrun_cannot_share_a_stack(make_spec, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(ValueError, match="one of a stack, which 2 processes cannot share$"):
        train_stack(stack_of(arm(make_spec))[0], folders(tmp_path), teacher)


# --- the store


def test_a_stack_is_run_once_and_stored_by_seed(make_spec, immediate, monkeypatch):
    calls = []
    monkeypatch.setattr("kdlib.lab.runs.train_stack", lambda *a: (calls.append(a[0].key), train_stack(*a))[1])
    runs = stack_of(arm(make_spec))
    reports = []
    results = run_all(runs, "smoke", immediate, lambda done, count, result: reports.append((done, count)))
    assert calls == [runs[0].key] and reports == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [result.spec for result in results] == runs
    assert len({result.bits for result in results}) == 3
    store = Store("smoke")
    for run, result in zip(runs, results, strict=True):
        assert store.get(run) == result and store.weights(run) == store.folder(run) / "weights.safetensors"
        assert result.provenance["stacked"].startswith("3 seeds in one process")
        assert {p.name for p in store.folder(run).iterdir()} == {"result.json", "weights.safetensors"}
    execute(runs[1], "smoke")
    run_all(runs, "smoke", immediate)
    assert len(calls) == 1
    assert repeat(runs[2], "smoke") == results[2].bits


def test_stored_weights_are_those_that_were_measured(make_spec):
    run = stack_of(arm(make_spec, "ce"))[1]
    result = execute(run, "smoke")
    network, task = Store("smoke").network(run, "float32"), Task.of(run, None)
    assert training.scores(training.logits_on(network, task.images), task.labels)["nll"] == pytest.approx(
        result.metrics["nll"], rel=1e-5
    )


def test_a_stack_that_dies_while_it_stores_goes_on(make_spec, monkeypatch):
    """The first run's result, with which the checkpoint goes, is written last."""
    runs, put, count = stack_of(arm(make_spec, "ce")), Store.put, itertools.count()

    def fail(store: Store, result) -> None:
        if next(count) == 2:
            raise OSError("no space left on device")
        put(store, result)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", fail)
        with pytest.raises(OSError, match="no space"):
            execute(runs[2], "smoke")
    store = Store("smoke")
    assert [store.get(run) is None for run in runs] == [True, False, False]
    assert (store.folder(runs[0]) / "checkpoint.pt").exists()
    before = [store.get(run) for run in runs[1:]]
    steps: list[int] = []
    execute(runs[0], "smoke", lambda done, total: steps.append(done))
    assert steps == [] and [store.get(run) for run in runs[1:]] == before and store.get(runs[0])


def test_single_and_stacked_results_are_never_taken_for_one_another(make_spec, invented, isolated):
    single = arm(make_spec, "ce")
    runs = stack_of(single)
    for ours, others in ((single, runs), (runs, single)):
        store = Store("smoke", results=isolated / ours[0].key, runs=isolated / ours[0].key / "runs")
        for run in ours:
            store.put(invented(run, "smoke"))
        assert [store.get(run) for run in others] == [None] * 3
        store.publish()
        store = Store("smoke", results=isolated / ours[0].key, runs=isolated / "none")
        assert all(store.get(run).spec == run for run in ours)
        assert [store.get(run) for run in others] == [None] * 3


def test_what_is_published_of_single_runs_stays(make_spec, invented):
    single = arm(make_spec, "ce")
    for run in single:
        Store("smoke").put(invented(run, "smoke"))
    published = {path: path.read_bytes() for path in Store("smoke").publish()}
    run_all(stack_of(single), "smoke")
    assert len(Store("smoke").publish()) == 3
    assert {path: path.read_bytes() for path in published} == published


@pytest.mark.parametrize(
    "name", ["resnet8_tiny", "resnet8x4", "mobilenetv2", "shufflenetv1", "shufflenetv2", "vgg8", "wrn_16_1"]
)
def test_networks_of_every_family_stack(make_spec, name: str):
    runs = stack_of(arm(make_spec, "ce", seeds=(0, 1), student=name))
    stack = Stack.of(tasks_of(runs, None))
    assert stack.step(0, 0.0)["loss"].isfinite().all()


def test_bfloat16_stacks(make_spec, teacher):
    machine = Machine(device="cpu", precision="bfloat16")
    runs = arm(make_spec, machine=machine)
    task = Task.of(runs[1], teacher)
    task.method.train()
    expected = total(task.method(task.batch(0))[0]).item()
    assert Stack.of(tasks_of(stack_of(runs), teacher)).step(0, 0.0)["loss"][1].item() == pytest.approx(
        expected, rel=0.01
    )


def test_seeds_of_unequal_numbers_of_images_are_refused(make_spec):
    runs = [make_spec(seed=0), make_spec(seed=1, fraction=0.5)]
    with pytest.raises(
        ValueError, match=r"the seeds of a stack have \[40, 80\] training images; allowed is one number$"
    ):
        Stack.of([Task.of(run, None) for run in runs])
