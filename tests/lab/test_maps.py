"""Maps that a run asks a network for: of which images and network, what they cost, and that they stay the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from kdlib.data.images import BUNDLED, load_data
from kdlib.lab import forecasts
from kdlib.lab.recipe import Policy
from kdlib.lab.store import Store
from kdlib.lab.survey import maps
from kdlib.lab.task import Task
from kdlib.lab.train import train
from kdlib.study.setting import Setting
from kdlib.views.attention import ATTENTION, PLACE, PLACES, response
from tests.lab.halting import train_to

pytestmark = pytest.mark.usefixtures("isolated")
POLICY = {"crop": "attention_crop", "drop": "attention_drop"}


@pytest.fixture
def student(make_spec):
    """student(view, method, **options of the policy): a run of 40 images with a teacher."""

    def make(view: str = "drop", method: str = "kd", seed: int = 0, **options):
        policy = Policy(name=POLICY[view], options=options)
        spec = make_spec(method=method, policy="weak2", teacher=make_spec(seed=7), seed=seed)
        return spec.model_copy(update={"policy": policy})

    return make


def test_maps_are_the_teachers_last_stage_on_each_plain_training_image(student, teacher):
    task = Task.of(student(), teacher)
    images = load_data(task.spec.data).train.images
    found = task.known[ATTENTION]
    others = torch.ones(len(images), dtype=torch.bool)
    others[task.ids] = False
    assert found.shape == (len(images), 64) and found.dtype == torch.float16 and (found[others] == 0).all()
    with torch.no_grad():
        features = teacher(images[task.ids]).stages[-1].double().numpy()
    for own, values in zip(found[task.ids], features, strict=True):
        squares = (values**2).sum(0).ravel()
        assert np.allclose(own, (squares - squares.min()) / np.ptp(squares), atol=1e-3)
    draws, _ = task.drawn(task.ids[:5], torch.zeros(5, dtype=torch.int64))
    assert torch.equal(draws[ATTENTION], found[task.ids[:5]].float())


def test_a_teacher_that_looks_at_nothing_gives_weak2(student, make_spec, teacher):
    """Its features are zero wherever it looks, so the box is the whole image."""
    nn.init.zeros_(teacher.backbone.stages[-1][-1].bn2.weight)  # what the last block adds
    for parameter in teacher.backbone.stages[-1][0].parameters():
        nn.init.zeros_(parameter)
    crop, plain = Task.of(student("crop"), teacher), Task.of(make_spec(policy="weak2"), None)
    assert (crop.known[ATTENTION] == 0).all()
    assert torch.equal(crop.batch(1).views, plain.batch(1).views)


def test_features_that_are_not_finite_are_refused(student, teacher):
    teacher.backbone.conv1.weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="^the features of the teacher's last stage are not finite"):
        Task.of(student(), teacher)


@pytest.mark.parametrize(
    ("method", "by", "own", "all_passes"),
    [("kd", "teacher", 40, 1), ("kd", "fresh", 40, 1), ("kd", "untrained", 0, 1), ("energy_kd", "teacher", 80, 2),
     ("kd", "centre", 0, 0)],
)  # fmt: skip
def test_the_teacher_is_asked_once_about_each_image_and_it_is_counted(
    student, teacher, asked, method, by, own, all_passes
):
    """A network with random weights costs as much as the teacher, which is not asked then."""
    spec = student("drop", method, by=by)
    Task.of(spec, teacher)
    assert sum(asked) == own and spec.passes == all_passes
    cost = forecasts.run_cost(spec)
    assert cost.run_macs == cost.steps * cost.step_macs + all_passes * 40 * cost.teacher_macs


def test_a_network_with_random_weights_is_another_for_each_seed(student, teacher):
    found = [Task.of(student(by="untrained", seed=seed), teacher).known[ATTENTION] for seed in (0, 0, 1)]
    own = Task.of(student(), teacher).known[ATTENTION]
    assert torch.equal(found[0], found[1])
    both = (found[0].amax(1) == 1) & (found[2].amax(1) == 1)  # images that the runs of both seeds train on
    assert (found[0].amax(1) == 1).sum() == 40 and both.any()
    for other in (own, found[2]):
        assert (found[0][both] != other[both]).any(1).all()


@pytest.mark.parametrize("view", ["crop", "drop"])
def test_a_random_place_is_kept_for_a_whole_run_or_new_in_each_epoch(student, teacher, view):
    def second(by: str, seed: int, epoch: int) -> torch.Tensor:
        """What becomes of the images before they are cropped."""
        task = Task.of(student(view, by=by, seed=seed), teacher)
        draws, _ = task.drawn(task.ids, torch.full_like(task.ids, epoch))
        return task.policy.sources[1](task.raw(task.ids), draws, None)

    assert torch.equal(second("random", 0, 0), second("random", 0, 5))
    assert not torch.equal(second("fresh", 0, 0), second("fresh", 0, 5))
    assert torch.equal(second("fresh", 0, 2), second("fresh", 0, 2))
    places = [Task.of(student(view, by="random", seed=seed), teacher).known[PLACE] for seed in (0, 1)]
    assert not torch.equal(*places)


@pytest.mark.parametrize("view", ["crop", "drop"])
def test_sides_of_a_comparison_differ_in_their_second_views_alone(student, teacher, view):
    steps = {by: Task.of(student(view, by=by), teacher).batch(2) for by in PLACES}
    for by, step in steps.items():
        assert torch.equal(step.views[:, 0], steps["teacher"].views[:, 0])
        assert by == "teacher" or not torch.equal(step.views[:, 1], steps["teacher"].views[:, 1])


def test_without_a_hole_it_is_weak2_with_its_bits(student, make_spec, teacher, tmp_path):
    plain = make_spec(method="kd", policy="weak2", teacher=make_spec(seed=7))
    expected = train(plain, tmp_path / "plain", teacher)["bits"]
    assert train(student(share=0), tmp_path / "ours", teacher)["bits"] == expected


@pytest.mark.parametrize(("view", "by"), [("drop", "random"), ("crop", "untrained")])
def test_a_resumed_run_has_the_same_bits_and_with_kept_answers_too(student, teacher, tmp_path, monkeypatch, view, by):
    spec = student(view, by=by)
    whole = train(spec, tmp_path / "whole", teacher)
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    train_to(4, spec, tmp_path / "parts", teacher)
    resumed = train(spec, tmp_path / "parts", teacher)
    assert (resumed["bits"], resumed["metrics"]) == (whole["bits"], whole["metrics"])
    monkeypatch.setenv("KDLIB_ANSWERS", str(tmp_path / "answers"))
    assert train(spec, tmp_path / "makes", teacher)["bits"] == whole["bits"]


def test_the_map_of_a_mirrored_image_is_nearly_the_mirrored_map():
    """Of a trained teacher; a map of another image is not. Strides of 2 are what keeps it from being exact."""
    images, some = load_data(BUNDLED).test, torch.arange(200)
    teacher = Store("quick").network(Setting.of("quick", device="cpu").teacher(), "float32", False)
    sides = (images, replace(images, images=images.images.flip(3)))
    one, other = (response(maps(teacher, side, some)[some].float(), 32, 32) for side in sides)
    pairs = zip(one.flip(2).flatten(1), other.flatten(1), other.flatten(1).roll(1, 0), strict=True)
    alike, strange = zip(*((np.corrcoef(a, b)[0, 1], np.corrcoef(a, c)[0, 1]) for a, b, c in pairs), strict=True)
    assert np.median(alike) > 0.8 > np.median(strange)
