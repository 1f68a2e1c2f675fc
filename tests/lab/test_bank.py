"""View banks: the pixels of fresh runs and the teacher's answers to them, made once, shared by runs, or refused."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from kdlib.data import paths
from kdlib.data.images import load_data
from kdlib.data.sampling import training_ids
from kdlib.lab import distributed
from kdlib.lab.bank import SEED, Bank, bank_key, bytes_per_image, mapped, open_bank
from kdlib.lab.measures.timing import Steps
from kdlib.lab.recipe import Policy
from kdlib.lab.specs import RECIPE_VERSION, RunSpec
from kdlib.lab.task import Task, cropped_for
from kdlib.lab.train import train
from kdlib.methods import METHODS, Definition, KDOptions, Term, total
from kdlib.models.network import Network
from kdlib.views.policies import POLICIES, create_policy

IMAGES = 160  # of the tiny training set
NOT_STORABLE = ["cutmix", "share", "he_da", "attention_crop", "attention_drop"]
STORABLE = [name for name in POLICIES if name not in NOT_STORABLE]

# Opens the bank of the spec in a file, and says how many views its teacher was asked about.
CHILD = """
import sys
from pathlib import Path
import torch
from kdlib.lab.specs import RunSpec
from kdlib.lab.task import Task
torch.set_num_threads(1)
spec, asked = RunSpec.model_validate_json(Path(sys.argv[1]).read_text()), []
teacher = Task.of(spec.teacher, None).method.student.eval()
teacher.backbone.register_forward_hook(lambda module, inputs, output: asked.append(len(inputs[0])))
print(len(Task.of(spec, teacher).bank.ids), sum(asked))
"""


@pytest.fixture(autouse=True)
def root(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the banks of a test are."""
    monkeypatch.setenv("KDLIB_BANKS", str(isolated / "banks"))
    return isolated / "banks"


@pytest.fixture
def banked(make_spec):
    """banked(**fields): a run of KD with a bank of two sets of single views."""

    def make(method: str = "kd", policy: str = "weak1", bank: int | None = 2, **fields) -> RunSpec:
        return make_spec(method=method, policy=policy, **{"teacher": make_spec(seed=7), "bank": bank} | fields)

    return make


def folders(root: Path) -> list[Path]:
    """Everything in the folder of banks but the files of locks."""
    return [path for path in root.iterdir() if path.suffix != ".lock"] if root.exists() else []


def opened(spec: RunSpec, teacher: Network) -> Bank:
    return Task.of(spec, teacher).bank


# --- what it holds


@pytest.mark.parametrize("policy", STORABLE)
def test_set_j_is_what_a_run_of_the_banks_seed_sees_in_epoch_j(banked, teacher, policy):
    """Bit for bit, all views of an image side by side."""
    spec = banked(policy=policy, seed=3)
    views = spec.policy.views
    whole = banked(policy=policy, bank=None, seed=SEED, fraction=1.0, recipe={"views_per_image": 2 * views})
    bank, fresh = opened(spec, teacher), Task.of(whole, teacher)
    assert bank.views.shape == (IMAGES, 2, views, 3, 32, 32) and bank.views.dtype == torch.uint8
    assert torch.equal(bank.ids, fresh.ids)
    seen = 0
    for number in range(fresh.steps):
        step, (_, epochs) = fresh.batch(number), fresh.order.at(number)
        assert torch.equal(bank.views[step.index, epochs], step.views)
        seen += len(epochs)
    assert seen == 2 * IMAGES


def test_sets_differ_where_views_are_random(banked, teacher):
    views = opened(banked(policy="weak2", bank=3), teacher).views.flatten(3)
    for one, other in ((views[:, 0], views[:, 1]), (views[:, 1], views[:, 2]), (views[:, :, 0], views[:, :, 1])):
        assert (one != other).any(-1).double().mean() > 0.9


@pytest.mark.parametrize("policy", ["weak1", "jda"])
def test_answers_are_the_teachers_logits_on_the_stored_pixels(banked, teacher, policy):
    """One view after another through the teacher itself, in double precision, against float16."""
    bank, data = opened(banked(policy=policy), teacher), load_data(banked().data).train
    assert bank.answers.shape == (*bank.views.shape[:3], 10) and bank.answers.dtype == torch.float16
    mean, std = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in (data.mean, data.std))
    network = teacher.backbone.double()
    pairs = list(zip(bank.views.flatten(0, 2), bank.answers.flatten(0, 2), strict=True))
    for view, answer in pairs[::7]:
        with torch.no_grad():
            logits = network((view.double() / 255 - mean)[None] / std).logits[0]
        torch.testing.assert_close(answer.double(), logits, rtol=2**-11, atol=1e-5)


def test_answers_are_those_of_the_precision_of_the_run(banked, make_spec, teacher):
    machine = make_spec().machine.model_copy(update={"precision": "bfloat16"})
    exact = opened(banked(), teacher).answers
    coarse_teacher = Network(teacher.backbone, (0.2,) * 3, (0.3,) * 3, "bfloat16").eval()
    coarse_teacher.scale, coarse_teacher.shift = teacher.scale, teacher.shift
    coarse = opened(banked(machine=machine), coarse_teacher).answers
    assert not torch.equal(exact, coarse)
    torch.testing.assert_close(coarse, exact, rtol=0, atol=0.05 * exact.abs().max().item())


def test_epoch_e_takes_set_e_modulo_v(banked, teacher):
    task = Task.of(banked(bank=3, seed=2, recipe={"views_per_image": 8}), teacher)
    row, epoch_of = {image: i for i, image in enumerate(task.bank.ids.tolist())}, {}
    for number in range(task.steps):
        step = task.batch(number)
        for i, image in enumerate(task.order.at(number)[0].tolist()):
            epoch = epoch_of[image] = epoch_of.get(image, -1) + 1
            assert torch.equal(step.views[i], task.bank.views[row[image], epoch % 3])
            assert torch.equal(step.answers[i], task.bank.answers[row[image], epoch % 3])
    assert len(epoch_of) == 40 and set(epoch_of.values()) == {7}


def test_images_are_found_by_their_ids():
    views = torch.arange(3 * 2).view(3, 2, 1, 1, 1, 1).to(torch.uint8)
    bank = Bank(torch.tensor([3, 5, 9]), views, views[..., 0, 0].half() * 10)
    found, answers = bank.at(torch.tensor([9, 3, 5, 9]), torch.tensor([0, 1, 2, 3]))
    assert found.flatten().tolist() == [4, 1, 2, 5]
    assert answers.flatten().tolist() == [40, 10, 20, 50]
    assert found.shape == (4, 1, 1, 1, 1) and answers.shape == (4, 1, 1)


def test_everything_but_the_views_is_that_of_a_fresh_run(banked, teacher):
    stored, fresh = (Task.of(banked(bank=bank, seed=4), teacher) for bank in (2, None))
    for number in range(stored.steps):
        one, other = stored.batch(number), fresh.batch(number)
        for name in ("labels", "keys", "index"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        assert (one.seed, one.epoch, one.epochs) == (other.seed, other.epoch, other.epochs)
        assert (one.shares, one.partners, other.answers) == (None, None, None)


@pytest.mark.parametrize("fields", [{}, {"pool": 60}, {"validation": True}, {"part": "second half"}])
def test_it_covers_the_images_of_every_seed_and_fraction(banked, teacher, fields):
    bank = opened(banked(bank=1, **fields), teacher)
    labels = load_data(banked().data).train.labels
    drawn = [training_ids(labels, seed, share, fields.get("pool"), fields.get("validation", False),
                          fields.get("part", "all")) for seed in range(4) for share in (0.3, 1.0)]  # fmt: skip
    assert torch.isin(torch.cat(drawn), bank.ids).all()
    assert torch.equal(bank.ids, drawn[1])
    assert len(bank.views) == len(bank.answers) == len(bank.ids)


def test_resized_crops_have_the_size_that_the_data_ask_for(banked, teacher, root):
    spec, images = banked(policy="weak2"), replace(load_data(banked().data).train, view_size=28)
    bank = open_bank(spec, teacher.frozen(), images, cropped_for(images, spec.view_policy()), root)
    assert bank.views.shape == (IMAGES, 2, 2, 3, 28, 28)
    with torch.no_grad():
        logits = teacher.logits(bank.views[::9].flatten(0, 2))
    torch.testing.assert_close(bank.answers[::9].flatten(0, 2).float(), logits, rtol=2**-10, atol=1e-5)


def test_images_that_are_not_square_are_stored_or_refused_with_a_reason(make_spec, banked, tmp_path, generator, root):
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(8):
                pixels = generator.integers(0, 256, (32, 40, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / label / f"{i}.png")
    fields = {"data": f"folder:{tmp_path}", "fraction": 1.0}
    above = make_spec(seed=7, **fields)
    network = Task.of(above, None).method.student.eval()
    assert Task.of(banked(bank=None, teacher=above, **fields), network).batch(0).views.shape[-2:] == (32, 40)
    try:
        assert opened(banked(teacher=above, **fields), network).views.shape[-2:] == (32, 40)
    except ValueError as error:
        assert "square" in str(error)


# --- made once


def test_runs_of_any_seed_fraction_method_and_student_share_it(banked, teacher, asked, root):
    first = opened(banked(policy="weak2"), teacher)
    assert sum(asked) == IMAGES * 2 * 2
    changes = ({"seed": 1}, {"fraction": 0.5}, {"method": "ccd"}, {"options": {"temperature": 1.0}},
               {"student": "resnet14"}, {"recipe": {"views_per_step": 8, "views_per_image": 6}}, {"exact": True},
               {"recipe": {"micro_batches": 2}})  # fmt: skip
    for change in changes:
        again = opened(banked(policy="weak2", **change), teacher)
        for name in ("ids", "views", "answers"):
            assert torch.equal(getattr(first, name), getattr(again, name))
    assert sum(asked) == IMAGES * 2 * 2 and len(folders(root)) == 1


@pytest.mark.parametrize(
    "change",
    [{"teacher": {"seed": 8}}, {"policy": "weak2"}, {"policy": "rot2"}, {"bank": 1}, {"bank": 3}, {"pool": 60},
     {"machine": {"threads": 2}}, {"validation": True}, {"part": "first half"}, {"part": "second half"}],
    ids=str,
)  # fmt: skip
def test_whatever_changes_it_makes_another(make_spec, banked, teacher, asked, root, change):
    opened(banked(), teacher)
    if "teacher" in change:
        change = {"teacher": make_spec(**change["teacher"])}
    if "machine" in change:
        change = {"machine": make_spec().machine.model_copy(update=change["machine"])}
    before = sum(asked)
    other = opened(banked(**change), teacher)
    assert len(folders(root)) == 2
    assert sum(asked) - before == other.answers[..., 0].numel()


def test_options_of_the_policy_make_another(banked, make_spec, teacher, root):
    for p in (0.0, 0.5):
        opened(banked().model_copy(update={"policy": Policy(name="jda", options={"p": p}), "bank": 1}), teacher)
    assert len(folders(root)) == 2


def test_other_images_make_another(banked, teacher, root):
    spec, images = banked(), load_data(banked().data).train
    others = replace(images, images=images.images.flip(-1), fingerprint="f" * 16)
    for data, made in ((images, 1), (others, 2), (images, 2)):
        open_bank(spec, teacher.frozen(), data, spec.view_policy(), root)
        assert len(folders(root)) == made


def test_methods_that_spread_the_views_do_not_share_it(banked, teacher, root, monkeypatch):
    """A method of one's own may see each view in four orientations, and yet need only logits."""

    def loss(batch, options):
        return {"ce": Term(batch.cross_entropy, 1.0)}, {}

    mine = Definition(loss, KDOptions, "a test", "x", spread="turns", logits_only=True)
    monkeypatch.setitem(METHODS, "mine", mine)
    assert opened(banked(), teacher).views.shape[2] == 1
    assert opened(banked(method="mine"), teacher).views.shape[2] == 4
    assert len(folders(root)) == 2


def test_two_callers_at_once_make_one(banked, teacher, asked, root):
    spec, images, network = banked(), load_data(banked().data).train, teacher.frozen()
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(open_bank, spec, network, images, spec.view_policy(), root) for _ in range(2)]
        one, other = (call.result() for call in calls)
    assert sum(asked) == IMAGES * 2
    assert torch.equal(one.answers, other.answers)


def test_another_process_reads_it(banked, teacher, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(banked().model_dump_json())
    opened(banked(), teacher)
    command = [sys.executable, "-c", CHILD, str(spec)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == [str(IMAGES), "0"]


def test_it_is_in_the_folder_that_is_asked_for(banked, teacher, tmp_path, root, monkeypatch):
    assert Steps(banked(), teacher, tmp_path / "mine").task.bank is not None
    assert len(folders(tmp_path / "mine")) == 1 and not root.exists()
    assert paths.bank_root() == root.resolve()
    monkeypatch.delenv("KDLIB_BANKS")
    assert paths.bank_root() == paths.cache_root() / "banks"


def test_its_files_are_what_is_said_of_them_and_are_not_written_to(banked, teacher, root):
    bank = opened(banked(policy="weak2"), teacher)
    stored = sum(np.load(path, mmap_mode="r").nbytes for path in root.rglob("*.npy"))
    assert stored == IMAGES * bytes_per_image(2, 2, 32, 10) == bank.views.nbytes + bank.answers.nbytes
    before = {path: path.read_bytes() for path in root.rglob("*.npy")}
    assert len(before) == 2
    bank.views.zero_()
    assert {path: path.read_bytes() for path in root.rglob("*.npy")} == before
    assert (opened(banked(policy="weak2"), teacher).views != 0).any()


def test_a_mapped_array_keeps_shape_type_and_values(tmp_path):
    array = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", array)
    found = mapped(tmp_path / "a.npy")
    assert found.dtype == torch.float16 and found.shape == (2, 3, 4) and np.array_equal(found.numpy(), array)


# --- what goes wrong


def test_nothing_is_left_when_making_fails(banked, teacher, asked, root):
    def fail(module, inputs, output):
        if len(asked) == 3:
            raise RuntimeError("the teacher is tired")

    handle = teacher.backbone.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="tired"):
        opened(banked(), teacher)
    assert len(asked) == 3 and folders(root) == []
    handle.remove()
    assert len(opened(banked(), teacher).ids) == IMAGES


def test_what_a_killed_process_left_is_made_anew(banked, teacher, asked, root):
    half = root / f".{bank_key(banked(), load_data(banked().data).train)}.part"
    half.mkdir(parents=True)
    for name in ("answers.npy", "views.npy", "other.npy"):
        (half / name).write_bytes(b"half")
    bank = opened(banked(), teacher)
    (folder,) = folders(root)
    assert half.name == f".{folder.name}.part" and sum(asked) == bank.answers[..., 0].numel() == IMAGES * 2
    assert sorted(path.name for path in folder.iterdir()) == ["answers.npy", "sums.json", "views.npy"]


def test_too_little_room_is_said_before_any_work(banked, teacher, asked, root, monkeypatch):
    needed = IMAGES * bytes_per_image(2, 1, 32, 10)
    free = [needed - 1, needed]
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free[0]))
    with pytest.raises(OSError, match=r"^bank = 2 needs .* GB in .*, where .* are free$"):
        opened(banked(), teacher)
    assert asked == [] and folders(root) == []
    free.pop(0)
    opened(banked(), teacher)


FINITE = r"teacher's logits are not finite: it cannot teach"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (7e4, r"teacher's logits .*float16 .*65,504.*without a bank$"),
        (float("inf"), FINITE),
        (float("nan"), FINITE),
    ],
)
def test_answers_beyond_float16_are_refused(banked, teacher, root, value, said):
    with torch.no_grad():
        teacher.backbone.fc.bias[3] = value
    with pytest.raises(FloatingPointError, match=said) as refusal:
        opened(banked(), teacher)
    assert "\n" not in str(refusal.value) and folders(root) == []


def test_answers_just_within_float16_are_kept(banked, teacher):
    with torch.no_grad():
        teacher.backbone.fc.bias.fill_(65_000)
    assert opened(banked(bank=1), teacher).answers.isfinite().all()


@pytest.mark.parametrize("method", [name for name, d in METHODS.items() if d.logits_only])
def test_methods_that_read_logits_alone_take_it(banked, method):
    policy = "weak2" if METHODS[method].views else "weak1"
    assert banked(method=method, policy=policy).bank == 2


@pytest.mark.parametrize("method", [name for name, d in METHODS.items() if not d.logits_only])
def test_other_methods_are_refused(banked, make_spec, method):
    definition, above = METHODS[method], make_spec(seed=7)
    if definition.taught_by:
        above = make_spec(method=definition.taught_by[0], teacher=above)
    fields = {"teacher": above if definition.needs_teacher else None, "policy": "weak2"}
    assert banked(method=method, bank=None, **fields).bank is None
    why = "reads more of its teacher" if definition.needs_teacher else "has no teacher"
    able = ", ".join(name for name, d in METHODS.items() if d.logits_only)
    with pytest.raises(ValueError, match=f"bank = 2 .*method '{method}' {why}; allowed are {able}$") as refusal:
        banked(method=method, **fields)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("policy", NOT_STORABLE)
def test_policies_whose_views_depend_on_more_than_their_image_are_refused(banked, policy):
    with pytest.raises(ValueError, match=f"bank = 2 needs views of one image each; .*policy '{policy}'") as refusal:
        banked(policy=policy)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_a_bank_has_a_whole_number_of_sets(banked, value):
    with pytest.raises(ValueError, match=f"^bank = {value!r} "):
        banked(bank=value)


# --- runs that use it


def test_a_run_with_a_bank_trains_and_resumes_to_equal_bits(banked, teacher, tmp_path, monkeypatch, root):
    spec = banked(method="ccd", policy="jda", recipe={"evaluations": 2})
    whole = train(spec, tmp_path / "whole", teacher)
    assert np.isfinite(whole["metrics"]["mean_loss"]) and whole["metrics"]["kl_to_teacher"] >= 0
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)

    def stop(done: int, steps: int) -> None:
        if done in (2, 5):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(spec, tmp_path / "parts", teacher, stop)
    (folder,) = folders(root)
    folder.rename(tmp_path / "gone")  # a bank that was deleted is made again, the same
    seen = []
    resumed = train(spec, tmp_path / "parts", teacher, lambda done, steps: seen.append(done))
    assert seen == [6, 7, 8, 9, 10]
    assert (resumed["bits"], resumed["metrics"]) == (whole["bits"], whole["metrics"])
    one, other = (load_file(tmp_path / part / "weights.safetensors") for part in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_steps_ask_the_teacher_nothing(banked, teacher, asked):
    for bank, views in ((2, 0), (None, 16)):
        steps = Steps(banked(bank=bank), teacher)
        asked.clear()
        for number in range(3):
            steps.take(number)
        assert sum(asked) == 3 * views


def test_a_whole_run_asks_only_to_make_the_bank_and_to_compare_on_the_test_set(banked, teacher, asked, tmp_path):
    spec = banked()
    tests = len(load_data(spec.data).test)
    for expected in (IMAGES * 2 + tests, tests):
        asked.clear()
        train(spec, tmp_path / str(expected), teacher)
        assert sum(asked) == expected


@pytest.mark.parametrize(
    ("method", "policy"), [("kd", "weak1"), ("ccd", "jda"), ("dkd", "rot4"), ("four_term", "twin")]
)
def test_its_loss_is_that_of_fresh_views_up_to_the_rounding_of_answers(banked, teacher, method, policy):
    """A run of the bank's own seed, with a set for each epoch."""
    views = create_policy(policy).views
    fields = {"method": method, "policy": policy, "seed": SEED, "recipe": {"views_per_image": 4 * views}}
    stored, fresh = (Task.of(banked(bank=bank, **fields), teacher) for bank in (4, None))
    for number in (0, stored.steps - 1):
        assert torch.equal(stored.batch(number).views, fresh.batch(number).views)
        one, other = (task.method.eval()(task.batch(number)) for task in (stored, fresh))
        assert total(one[0]).item() == pytest.approx(total(other[0]).item(), rel=2e-3)
        for name, value in other[1].items():
            assert one[1][name].item() == pytest.approx(value.item(), rel=2e-3)


def test_another_seed_sees_the_same_views_in_another_order(banked, teacher):
    def seen(seed: int) -> list[bytes]:
        task = Task.of(banked(bank=1, seed=seed, fraction=1.0, recipe={"views_per_image": 1}), teacher)
        return [view.numpy().tobytes() for step in range(task.steps) for view in task.batch(step).views]

    one, other = seen(0), seen(1)
    assert one != other and sorted(one) == sorted(other)


def test_parts_of_a_step_and_processes_share_the_answers_as_they_share_the_views(banked, teacher, monkeypatch):
    task = Task.of(banked(policy="jda"), teacher)
    whole = task.batch(3)
    for name in ("views", "answers"):
        assert torch.equal(torch.cat([getattr(part, name) for part in whole.split(4)]), getattr(whole, name))
    monkeypatch.setattr(distributed, "world", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        part = task.batch(3)
        assert torch.equal(part.views, whole.views[rank::2]) and torch.equal(part.answers, whole.answers[rank::2])


def test_a_run_in_micro_batches_uses_it(banked, teacher, asked, tmp_path):
    result = train(banked(policy="jda", recipe={"micro_batches": 4}), tmp_path, teacher)
    assert np.isfinite(result["metrics"]["mean_loss"])
    assert sum(asked) == IMAGES * 2 * 2 + len(load_data(banked().data).test)


@pytest.mark.parametrize(
    ("policy", "bank", "views_per_image", "expected"),
    [("weak1", 3, 8, 3), ("weak1", 8, 8, 8), ("weak1", 9, 8, 8), ("jda", 3, 8, 6), ("jda", 5, 8, 8),
     ("twin", 3, 8, 3), ("twin", 5, 8, 4), ("weak1", None, 8, 8)],
)  # fmt: skip
def test_distinct_views_are_those_of_the_sets_that_are_seen(banked, teacher, policy, bank, views_per_image, expected):
    """By counting: what differs in place, in bytes or in number, is another view."""
    spec = banked(policy=policy, bank=bank, fraction=0.07, recipe={"views_per_image": views_per_image})
    task = Task.of(spec, teacher)
    assert task.distinct_views == expected
    seen = {image: set() for image in task.ids.tolist()}
    for number in range(task.steps):
        for image, views in zip(task.order.at(number)[0].tolist(), task.batch(number).views, strict=True):
            seen[image] |= {view.numpy().tobytes() for view in views}
    assert max(map(len, seen.values())) == expected


def test_a_run_counts_its_distinct_views(banked, teacher, tmp_path):
    metrics = train(banked(policy="weak2", bank=1), tmp_path, teacher)["metrics"]
    assert (metrics["epochs"], metrics["distinct_views"]) == (2, 2)


def test_a_bank_of_an_older_recipe_is_not_taken(banked):
    images = load_data(banked().data).train
    older = RunSpec(**(banked().model_dump() | {"version": RECIPE_VERSION - 1}))
    assert bank_key(older, images) != bank_key(banked(), images)
