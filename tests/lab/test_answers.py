"""Kept answers of teachers: they change no bit, are read by the arms of one seed, and by no others."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file

from kdlib.data import paths
from kdlib.data.images import load_data
from kdlib.lab import distributed
from kdlib.lab.answers import answers_key, evaluated_answers, remembering
from kdlib.lab.evaluate import logits_on
from kdlib.lab.measurements import TimingSpec
from kdlib.lab.measures import measure
from kdlib.lab.recipe import Policy
from kdlib.lab.specs import RECIPE_VERSION, RunSpec
from kdlib.lab.task import Task
from kdlib.lab.train import train
from kdlib.methods import METHODS, Definition, KDOptions, Step, Term
from tests.lab.halting import train_to

LOGITS_ONLY = [name for name, d in METHODS.items() if d.logits_only]
STEPS, VIEWS = 10, 16  # of a run, and of one of its steps
TESTS = 60  # images of the tiny test set, on which a run compares student and teacher


@pytest.fixture(autouse=True)
def root(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where answers are kept, once `keeping` says so."""
    monkeypatch.setenv("KDLIB_BANKS", str(isolated / "banks"))
    return isolated / "answers"


@pytest.fixture
def keeping(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDLIB_ANSWERS", str(root))
    return root


@pytest.fixture
def student(make_spec):
    """student(**fields): a run of KD on two plain crops."""

    def make(method: str = "kd", policy: str = "weak2", **fields) -> RunSpec:
        return make_spec(method=method, policy=policy, **{"teacher": make_spec(seed=7)} | fields)

    return make


def kept(root: Path, dimensions: int = 4) -> list[Path]:
    """The folders of answers to the views of steps (dimensions = 2: to the images that runs are measured on).

    Nothing but these is there, and the files of locks.
    """
    folders = [path for path in root.iterdir() if path.suffix != ".lock"] if root.exists() else []
    shapes = {path: np.load(path / "answers.npy", mmap_mode="r").shape for path in folders}
    assert all(len(shape) in (2, 4) for shape in shapes.values())
    return [path for path, shape in shapes.items() if len(shape) == dimensions]


def same(one: dict, other: dict) -> bool:
    return all(one[name] == other[name] for name in ("bits", "metrics", "evaluations"))


# --- they change nothing


@pytest.mark.parametrize(
    ("method", "policy"),
    [("kd", "weak2"), ("ccd", "jda"), ("dkd", "weak1"), ("kd", "cutmix"), ("four_term", "share"), ("tekap", "weak2"),
     ("crld", "crld"), ("dist", "cutmix"), ("ls", "rot4")],
)  # fmt: skip
def test_a_run_has_exactly_the_bits_that_it_has_without(student, teacher, tmp_path, root, monkeypatch, method, policy):
    spec = student(method, policy, seed=1)
    without = train(spec, tmp_path / "without", teacher)
    assert not root.exists()
    monkeypatch.setenv("KDLIB_ANSWERS", str(root))
    makes, reads = (train(spec, tmp_path / name, teacher) for name in ("makes", "reads"))
    assert same(without, makes) and same(without, reads)
    assert len(kept(root)) == 1
    weights = [load_file(tmp_path / name / "weights.safetensors") for name in ("without", "makes", "reads")]
    assert all(torch.equal(weights[0][name], w[name]) for w in weights[1:] for name in w)


def test_so_it_has_in_another_precision(student, make_spec, teacher, tmp_path, root, monkeypatch):
    machine = make_spec().machine.model_copy(update={"precision": "bfloat16"})
    spec = student("ccd", "jda", machine=machine, recipe={"views_per_image": 1, "evaluations": 1})
    teacher.precision = torch.bfloat16
    without = train(spec, tmp_path / "without", teacher)
    monkeypatch.setenv("KDLIB_ANSWERS", str(root))
    assert same(without, train(spec, tmp_path / "with", teacher)) and len(kept(root)) == 1


def test_a_run_may_begin_with_them_and_end_without(student, teacher, tmp_path, root, monkeypatch):
    spec = student("ccd", "jda")
    whole = train(spec, tmp_path / "whole", teacher)
    monkeypatch.setenv("KDLIB_ANSWERS", str(root))
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    train_to(6, spec, tmp_path / "parts", teacher)
    monkeypatch.delenv("KDLIB_ANSWERS")
    assert same(whole, train(spec, tmp_path / "parts", teacher))


@pytest.mark.parametrize("policy", ["weak2", "cutmix"])
def test_they_are_what_the_teacher_says_in_each_step(student, teacher, root, policy):
    plain = Task.of(student(policy=policy), teacher)
    task = remembering(plain, root)
    assert plain.answers is None
    assert task.answers.shape == (STEPS, VIEWS // 2, 2, 10) and task.answers.dtype == torch.float32
    for number in range(STEPS):
        step, fresh = task.batch(number), plain.batch(number)
        for name in Step._fields:
            one, other = getattr(step, name), getattr(fresh, name)
            if name != "answers":
                assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
        with torch.no_grad():
            expected = plain.method.teacher(fresh.views.flatten(0, 1)).logits
        assert torch.equal(step.answers.flatten(0, 1), expected)


@pytest.mark.parametrize("method", LOGITS_ONLY)
def test_what_reads_logits_alone_has_the_same_loss_and_gradient_with_the_logits_alone(student, teacher, method):
    policy = "jda" if METHODS[method].views else "weak1"
    task = Task.of(student(method, policy), teacher)
    step, found = task.batch(2), []
    with torch.no_grad():
        answers = task.method.teacher(step.views.flatten(0, 1)).logits.unflatten(0, step.views.shape[:2])
    for given in (step, step._replace(answers=answers)):
        task.method.zero_grad()
        terms, records = task.method.eval()(given)
        sum(term.value * term.weight for term in terms.values()).backward()
        gradients = [p.grad for p in task.method.student.parameters()]
        found.append([*(t.value.detach() for t in terms.values()), *records.values(), *gradients])
    assert len(found[0]) == len(found[1]) and all(map(torch.equal, *found))


# --- who reads them


def test_the_arms_of_one_seed_ask_once(student, teacher, asked, keeping, tmp_path):
    first = student("kd", recipe={"learning_rate": 0.01})
    train(first, tmp_path / "first", teacher)
    assert sum(asked) == STEPS * VIEWS + TESTS
    arms = (student("ccd"), student("dkd"), student("four_term"), student("ccd", options={"weight": "one"}))
    for number, spec in enumerate((*arms, student(student="resnet14"), first)):
        asked.clear()
        train(spec, tmp_path / str(number), teacher)
        assert asked == []  # nor for the comparison on the test set
    (folder,), (measured,) = kept(keeping), kept(keeping, dimensions=2)
    assert [path.name for path in (*folder.glob("*.npy"), *measured.glob("*.npy"))] == ["answers.npy"] * 2
    assert np.load(folder / "answers.npy", mmap_mode="r").nbytes == 4 * STEPS * VIEWS * 10


@pytest.mark.parametrize(
    "change",
    [{"method": "ccd"}, {"method": "dkd"}, {"options": {"temperature": 2.0}}, {"student": "resnet14"}, {"exact": True},
     *({"recipe": change} for change in (
         {"learning_rate": 0.3}, {"weight_decay": 0.0}, {"momentum": 0.5}, {"nesterov": False}, {"evaluations": 1},
         {"schedule": "steps", "milestones": (0.5,)}, {"clip_norm": 1.0}))],
    ids=str,
)  # fmt: skip
def test_what_only_the_student_sees_changes_no_answer(student, teacher, asked, root, change):
    first, other = (remembering(Task.of(spec, teacher), root) for spec in (student(), student(**change)))
    assert sum(asked) == STEPS * VIEWS and len(kept(root)) == 1
    assert torch.equal(first.answers, other.answers)
    assert answers_key(first) == answers_key(other) == kept(root)[0].name


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"policy": "jda"}, {"policy": "twin"}, {"teacher": {"seed": 8}}, {"fraction": 0.5}, {"pool": 60},
     {"validation": True}, {"part": "first half"}, {"machine": {"threads": 2}}, {"recipe": {"views_per_step": 8}},
     {"recipe": {"views_per_step": 32, "views_per_image": 8}}, {"recipe": {"views_per_image": 8}},
     {"version": RECIPE_VERSION + 1}],
    ids=str,
)  # fmt: skip
def test_whatever_changes_an_answer_is_kept_elsewhere(make_spec, student, teacher, root, change):
    remembering(Task.of(student(), teacher), root)
    if "teacher" in change:
        change = {"teacher": make_spec(**change["teacher"])}
    if "machine" in change:
        change = {"machine": make_spec().machine.model_copy(update=change["machine"])}
    task = remembering(Task.of(student(**change), teacher), root)
    assert len(kept(root)) == 2
    assert task.answers.shape == (task.steps, task.order.batch, task.policy.views, 10)


@pytest.mark.parametrize(
    ("one", "other"),
    [({"fraction": 0.25}, {"fraction": 0.5, "recipe": {"views_per_image": 2}}),
     ({"part": "first half"}, {"part": "second half"}), ({"pool": 60}, {"pool": 80}), ({}, {"validation": True})],
    ids=str,
)  # fmt: skip
def test_equally_many_images_are_not_the_same_images(student, teacher, root, one, other):
    first, second = (remembering(Task.of(student(**fields), teacher), root) for fields in (one, other))
    assert first.answers.shape == second.answers.shape
    assert len(kept(root)) == 2


def test_options_of_the_policy_and_other_images_are_kept_elsewhere(student, teacher, root):
    tasks = [
        Task.of(student().model_copy(update={"policy": Policy(name="jda", options={"p": p})}), teacher)
        for p in (0.1, 0.5)
    ]
    tasks.append(replace(tasks[0], train=replace(tasks[0].train, fingerprint="f" * 16)))
    for number, task in enumerate(tasks):
        remembering(task, root)
        assert len(kept(root)) == number + 1


def test_methods_that_spread_the_views_have_their_own(student, teacher, root, monkeypatch):
    """A method of one's own may see each view in four orientations, and yet need only logits."""

    def loss(batch, options):
        return {"ce": Term(batch.cross_entropy, 1.0)}, {}

    mine = Definition(loss, KDOptions, "a test", "x", spread="turns", logits_only=True)
    monkeypatch.setitem(METHODS, "mine", mine)
    plain = student()
    turned = student("mine", recipe={"views_per_step": 64, "views_per_image": 16})  # the same images, step by step
    for spec, views in ((plain, 2), (turned, 8)):
        task = remembering(Task.of(spec, teacher), root)
        assert task.steps == STEPS and task.order.batch == 8
        assert task.answers.shape == (STEPS, 8, views, 10)
    assert len(kept(root)) == 2


# --- on the images that runs are measured on


def test_those_of_the_test_images_are_the_teachers_logits(student, teacher, asked, root):
    task = Task.of(student(), teacher)
    expected = logits_on(teacher.frozen(), task.images)
    assert torch.equal(evaluated_answers(task, None), expected) and not root.exists()
    asked.clear()
    for _ in range(2):
        found = evaluated_answers(task, root)
        assert torch.equal(found, expected) and found.dtype == torch.float32
    assert asked == [TESTS] and len(kept(root, dimensions=2)) == 1


@pytest.mark.parametrize(
    ("change", "made"),
    [({"method": "spkd"}, 1), ({"policy": "jda"}, 1), ({"seed": 1}, 1), ({"fraction": 1.0}, 1), ({"bank": 2}, 1),
     ({"recipe": {"micro_batches": 2}}, 1), ({"student": "resnet14"}, 1),
     ({"validation": True}, 2), ({"version": RECIPE_VERSION + 1}, 2), ({"teacher": {"seed": 8}}, 2),
     ({"machine": {"threads": 2}}, 2)],
    ids=str,
)  # fmt: skip
def test_they_are_shared_by_all_runs_of_a_teacher(make_spec, student, teacher, root, change, made):
    if "teacher" in change:
        change = {"teacher": make_spec(**change["teacher"])}
    if "machine" in change:
        change = {"machine": make_spec().machine.model_copy(update=change["machine"])}
    for spec in (student(), student(**change)):
        task = Task.of(spec, teacher)
        assert torch.equal(evaluated_answers(task, root), logits_on(task.method.teacher, task.images))
    assert len(kept(root, dimensions=2)) == made


def test_other_test_images_have_their_own(make_spec, student, teacher, tiny, root, tmp_path):
    """A folder of one's own gets new test images, and keeps those that it trains on."""
    own = tmp_path / "own"
    shutil.copytree(tiny.removeprefix("folder:"), own)
    fields = {"data": f"folder:{own}", "teacher": make_spec(data=f"folder:{own}", seed=7)}
    found = []
    for _ in range(2):
        task = Task.of(student(**fields), teacher)
        found.append(evaluated_answers(task, root))
        assert torch.equal(found[-1], logits_on(task.method.teacher, task.images))
        for path in (own / "test").rglob("*.png"):
            ImageOps.mirror(Image.open(path)).save(path)
        load_data.cache_clear()
    assert not torch.equal(*found)


# --- where nothing is kept


def test_nothing_is_kept_where_nobody_asks(student, teacher, asked, tmp_path, root, monkeypatch):
    assert paths.answers_root() is None
    train(student(), tmp_path, teacher)
    assert sum(asked) == STEPS * VIEWS + TESTS
    monkeypatch.setenv("KDLIB_ANSWERS", "")
    assert paths.answers_root() is None
    task = Task.of(student(), teacher)
    assert remembering(task, paths.answers_root()) is task
    monkeypatch.setenv("KDLIB_ANSWERS", str(root))
    assert paths.answers_root() == root.resolve() and not root.exists()


@pytest.mark.parametrize("method", [name for name, d in METHODS.items() if not d.logits_only and not d.taught_by])
def test_methods_that_read_more_or_have_no_teacher_keep_nothing(student, make_spec, teacher, root, method):
    definition = METHODS[method]
    options = {"negatives": 5} if method == "crd" else {}
    spec = student(method, options=options, teacher=make_spec(seed=7) if definition.needs_teacher else None)
    task = Task.of(spec, teacher if definition.needs_teacher else None)
    assert remembering(task, root) is task and task.batch(0).answers is None and not root.exists()


@pytest.mark.parametrize("method", ["sskd", "hsakd"])
def test_methods_whose_teacher_has_a_head_keep_nothing(student, make_spec, root, method):
    above = student(METHODS[method].taught_by[0])
    first = Task.of(above, Task.of(make_spec(seed=7), None).method.student)
    task = Task.of(student(method, teacher=above), first.method.student)
    assert remembering(task, root) is task and not root.exists()


def test_runs_with_a_bank_in_parts_or_in_processes_keep_no_steps(student, teacher, keeping, tmp_path, monkeypatch):
    for number, spec in enumerate((student(bank=1), student(recipe={"micro_batches": 2}))):
        result = train(spec, tmp_path / str(number), teacher)
        assert result["metrics"]["steps"] == STEPS
    task = Task.of(student(), teacher)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    assert remembering(task, keeping) is task
    assert kept(keeping) == [] and len(kept(keeping, dimensions=2)) == 1


def test_clocks_time_the_teacher_too(student, teacher, asked, keeping, tmp_path):
    spec = student()
    train(spec, tmp_path, teacher)  # keeps its answers, which a clock must not read
    asked.clear()
    timing = TimingSpec(data=spec.data, runs={"kd": spec}, steps=2, machine=spec.machine)
    measure(timing, teacher)
    assert len(asked) >= 2 and set(asked) == {VIEWS}
    assert len(kept(keeping)) == 1


def test_nothing_is_left_when_keeping_fails(student, teacher, asked, root):
    def fail(module, inputs, output):
        if len(asked) == 4:
            raise RuntimeError("the teacher is tired")

    handle = teacher.backbone.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="tired"):
        remembering(Task.of(student(), teacher), root)
    assert kept(root) == []
    handle.remove()
    assert remembering(Task.of(student(), teacher), root).answers.isfinite().all()


def test_too_little_room_is_said_before_any_work(student, teacher, asked, root, monkeypatch):
    needed = 4 * STEPS * VIEWS * 10
    free = [needed - 1, needed]
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free[0]))
    with pytest.raises(OSError, match=r"^keeping answers needs .* GB in .*, where .* are free$"):
        remembering(Task.of(student(), teacher), root)
    assert asked == [] and kept(root) == []
    free.pop(0)
    remembering(Task.of(student(), teacher), root)


def test_the_tiny_set_is_as_large_as_these_tests_say(student, teacher):
    task = Task.of(student(), teacher)
    assert (task.steps, task.order.batch * task.policy.views, len(load_data(task.spec.data).test)) == (
        STEPS, VIEWS, TESTS,
    )  # fmt: skip
