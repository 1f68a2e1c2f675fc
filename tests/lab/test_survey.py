"""What a run asks its teacher before the first step: of which views, what becomes of it, and that it stays the same."""

from dataclasses import replace

import pytest
import torch

from kdlib.data.images import load_data
from kdlib.lab import forecasts
from kdlib.lab.answers import remembering
from kdlib.lab.evaluate import logits_on
from kdlib.lab.recipe import Policy
from kdlib.lab.survey import BEFORE
from kdlib.lab.task import Task
from kdlib.lab.train import train
from kdlib.methods.clusters import k_means
from kdlib.methods.energy import energy
from kdlib.randomness import uniforms
from kdlib.views.crops import crop_flip
from kdlib.views.policy import PICK
from tests.lab.halting import train_to

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def student(make_spec):
    """student(method, **options of he_da): a run of 40 images with a teacher; without options its views are weak2."""

    def make(method: str = "kd", seed: int = 0, options: dict | None = None, **he_da):
        policy = Policy(name="he_da", options=he_da) if he_da else Policy(name="weak2")
        spec = make_spec(method=method, policy="weak2", teacher=make_spec(seed=7), seed=seed, options=options or {})
        return spec.model_copy(update={"policy": policy})

    return make


def energies_of(task: Task, seed: int = 0) -> torch.Tensor:
    """Of the first crop of weak views, in an epoch before the first, image by image."""
    images = load_data(task.spec.data).train.images
    crops = crop_flip(images, uniforms(seed, "original crop", BEFORE, len(images), 3))
    return energy(logits_on(task.method.teacher, crops[task.ids]))


# --- limits of Energy KD


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_limits_are_those_of_one_plain_crop_of_each_training_image(student, teacher, share):
    task = Task.of(student("energy_kd", options={"share": share}), teacher)
    energies, (low, high) = energies_of(task), task.limits
    assert len(energies) == 40
    assert int((energies < low).sum()) == int((energies > high).sum()) == int(40 * share)
    assert task.batch(0).limits == task.batch(7).limits == task.limits


def test_runs_without_a_survey_ask_nothing(student, teacher, asked):
    for spec in (student(), student(view="jda", by="random")):
        task = Task.of(spec, teacher)
        assert not asked and task.limits is None and not spec.surveys
        assert forecasts.run_extras(spec).surveyed_views == 0


@pytest.mark.parametrize(
    ("method", "he_da"), [("energy_kd", {}), ("kd", {"by": "highest"}), ("energy_kd", {"by": "lowest"})]
)
def test_the_teacher_is_asked_once_about_each_image_and_it_is_counted(student, teacher, asked, method, he_da):
    spec = student(method, **he_da)
    Task.of(spec, teacher)
    assert sum(asked) == 40 == forecasts.run_extras(spec).surveyed_views and spec.surveys
    cost = forecasts.run_cost(spec)
    assert cost.run_macs == cost.steps * cost.step_macs + 40 * cost.teacher_macs


# --- which images are chosen


@pytest.mark.parametrize("by", ["highest", "lowest"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_exactly_the_images_of_highest_or_lowest_energy_are_chosen(student, teacher, by, share):
    task = Task.of(student(view="jda", by=by, share=share), teacher)
    order = energies_of(task).argsort(descending=by == "highest", stable=True)
    expected = set(task.ids[order[: round(40 * share)]].tolist())
    assert set(task.ids[task.known[PICK][task.ids, 0] < share].tolist()) == expected


def test_the_random_order_is_another_in_each_run_and_one_for_the_whole_run(student, teacher):
    """As the teacher's order is, so that the two differ in nothing but which images they begin with."""
    chosen = []
    for seed in (0, 0, 1):
        task = Task.of(student(view="jda", by="random", seed=seed), teacher)
        chosen.append(set(task.ids[task.known[PICK][task.ids, 0] < 0.5].tolist()))
        assert len(chosen[-1]) == 20
    assert chosen[0] == chosen[1] != chosen[2]
    energetic = Task.of(student(view="jda", by="highest"), teacher)
    assert chosen[0] != set(energetic.ids[energetic.known[PICK][energetic.ids, 0] < 0.5].tolist())


@pytest.mark.parametrize("view", ["jda", "cutmix"])
def test_in_every_epoch_the_same_images_are_augmented(student, teacher, view):
    """Their second views are those of a run where all are, and the others' those of weak2; first views are shared."""
    some, every, plain = (Task.of(student(view=view, share=share), teacher) for share in (0.5, 1.0, 0.0))
    seen = []
    for step in range(some.steps):
        ids, _ = some.order.at(step)
        here = some.known[PICK][ids, 0] < 0.5
        views = some.batch(step).views
        assert torch.equal(views[here], every.batch(step).views[here])
        assert torch.equal(views[~here], plain.batch(step).views[~here])
        seen += list(zip(ids.tolist(), here.tolist(), strict=True))
    assert len(seen) == 2 * 40 and len(set(seen)) == 40


@pytest.mark.parametrize("by", ["highest", "random"])
def test_none_is_weak2_and_all_is_the_augmentation_with_their_bits(student, make_spec, teacher, tmp_path, by):
    for share, name in ((0.0, "weak2"), (1.0, "jda")):
        ours = train(student(view="jda", by=by, share=share), tmp_path / f"{name} ours", teacher)
        same = student().model_copy(update={"policy": Policy(name=name)})
        assert ours["bits"] == train(same, tmp_path / name, teacher)["bits"]


# --- it stays the same


CASES = [("energy_kd", {}), ("energy_kd", {"rule": "shuffled"}), ("kd", {"view": "cutmix"}), ("ccd", {"view": "jda"})]
CASES += [("ccd", {"weight": "cluster"}), ("energy_dkd", {}), ("four_term", {"view": "cutmix"})]


@pytest.mark.parametrize(("method", "fields"), CASES, ids=str)
def test_a_resumed_run_has_the_same_bits_and_with_kept_answers_too(
    student, teacher, tmp_path, monkeypatch, method, fields
):
    spec = student(method, **fields) if "view" in fields else student(method, options=fields)
    whole = train(spec, tmp_path / "whole", teacher)
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    train_to(4, spec, tmp_path / "parts", teacher)
    resumed = train(spec, tmp_path / "parts", teacher)
    assert (resumed["bits"], resumed["metrics"]) == (whole["bits"], whole["metrics"])
    monkeypatch.setenv("KDLIB_ANSWERS", str(tmp_path / "answers"))
    for name in ("makes", "reads"):
        assert train(spec, tmp_path / name, teacher)["bits"] == whole["bits"]


def test_kept_answers_of_other_choices_are_others(student, teacher, tmp_path):
    root = tmp_path / "answers"
    for number, by in enumerate(("highest", "lowest", "random"), start=1):
        task = remembering(Task.of(student(view="jda", by=by), teacher), root)
        assert len(list(root.glob("*/answers.npy"))) == number
        assert torch.equal(replace(task, answers=None).batch(3).views, task.batch(3).views)


@pytest.mark.parametrize("method", ["energy_kd", "energy_dkd"])
def test_shares_and_pulls_are_in_the_result(student, teacher, tmp_path, method):
    metrics = train(student(method, options={"share": 0.2}), tmp_path, teacher)["metrics"]
    shares = [metrics[f"mean_share_{group}"] for group in ("low", "middle", "high") if group != "middle"]
    assert metrics["mean_share_middle"] == pytest.approx(1 - sum(shares))
    assert all(0 < share < 0.6 for share in shares)
    assert all(metrics[f"mean_pull_{group}"] > 0 for group in ("low", "middle", "high"))


# --- clusters of CCD


def test_centres_are_those_of_one_plain_crop_of_each_training_image(student, teacher, asked):
    task = Task.of(student("ccd", options={"weight": "cluster"}, view="jda", by="random"), teacher)
    assert sum(asked) == 40 and task.spec.surveys
    images = load_data(task.spec.data).train.images
    crops = crop_flip(images, uniforms(0, "original crop", BEFORE, len(images), 3))
    centres = k_means(logits_on(task.method.teacher, crops[task.ids]), 10)
    assert task.limits == task.batch(7).limits == tuple(centres.flatten().tolist())


def test_ccd_with_another_weight_asks_nothing(student, teacher, asked):
    for weight in ("cosine", "shuffled"):
        task = Task.of(student("ccd", options={"weight": weight}), teacher)
        assert not asked and task.limits is None and not task.spec.surveys


def test_a_check_that_is_shuffled_drops_as_many_views(student, teacher, tmp_path):
    means = []
    for weight in ("cluster", "cluster_shuffled"):
        spec = student("ccd", options={"weight": weight}, view="jda", share=1.0, by="random")
        means.append(train(spec, tmp_path / weight, teacher)["metrics"]["mean_w"])
    assert means[0] == pytest.approx(means[1]) and 0.1 < means[0] < 1
