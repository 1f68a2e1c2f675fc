"""Runs whose student sees a smaller image: training, measuring, keys of kept answers, and cost know of it."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from kdlib.data.images import load_data
from kdlib.lab.answers import answers_key, evaluated_answers, question, remembering
from kdlib.lab.bank import bank_key
from kdlib.lab.cost import model_size
from kdlib.lab.evaluate import agreement, correctness_bits, logits_on, scores
from kdlib.lab.forecasts import run_cost
from kdlib.lab.recipe import Policy
from kdlib.lab.specs import RunSpec
from kdlib.lab.task import Task, check_views
from kdlib.lab.train import train
from kdlib.methods import METHODS
from kdlib.models.network import Network
from kdlib.models.resolution import Resolution
from tests.lab.halting import train_to

pytestmark = pytest.mark.usefixtures("isolated")

OFF = {"gram_weight": 0.0, "mmd_weight": 0.0, "attention_weight": 0.0}
SEEN = {"small": Resolution(2), "upsampled": Resolution(2, enlarged=True)}


@pytest.fixture
def student(make_spec):
    """student(method, **fields): a run on two plain crops under a fixed teacher."""

    def make(method: str = "resolution", policy: str = "weak2", **fields) -> RunSpec:
        taught = {"teacher": make_spec(seed=7)} if METHODS[method].needs_teacher else {}
        return make_spec(method=method, policy=policy, **taught | fields)

    return make


# --- training and measuring


@pytest.mark.parametrize("policy", ["weak2", "jda", "cutmix"])
def test_at_scale_1_without_its_terms_a_run_has_the_bits_of_kd(student, teacher, tmp_path, policy):
    kd = train(student("kd", policy), tmp_path / "kd", teacher)
    found = train(student(policy=policy, options={"scale": 1} | OFF), tmp_path / "found", teacher)
    assert all(kd[name] == found[name] for name in ("bits", "metrics", "evaluations"))
    changed = train(student(policy=policy, options=OFF), tmp_path / "changed", teacher)
    assert kd["bits"] != changed["bits"]


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("taught", ["high", "low", None])
def test_what_is_trained_is_measured_on_what_it_was_given(student, teacher, tmp_path, seen, taught):
    """Its weights in a network of our own, shown the averaged test images, have the accuracy that the run reports."""
    options = {"student_input": seen} | ({"teacher_input": taught} if taught else {})
    spec = student("resolution", options=options) if taught else student("resolution_ce", options=options)
    metrics = train(spec, tmp_path, teacher if taught else None)["metrics"]
    task = Task.of(spec, teacher if taught else None)
    backbone = task.method.student.backbone
    backbone.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    data = load_data(spec.data)
    own = Network(backbone, data.train.mean, data.train.std)
    logits = logits_on(own, SEEN[seen](task.images))
    assert metrics["correct"] == correctness_bits(logits, task.labels)
    views, labels = task.weak_views()
    assert metrics["train_top1"] == scores(logits_on(own, SEEN[seen](views)), labels)["top1"]
    if taught:
        shown = SEEN["upsampled"](task.images) if taught == "low" else task.images
        expected = agreement(logits, logits_on(teacher.frozen(), shown))
        assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_a_run_with_every_term_goes_on_from_a_checkpoint_to_the_same_bits(student, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("kdlib.lab.loop.CHECKPOINT_SECONDS", 0.0)
    spec = student(options={"attention_weight": 1.0, "discriminator_weight": 0.1})
    whole = train(spec, tmp_path / "whole", teacher)

    train_to(6, spec, tmp_path / "parts", teacher)
    assert train(spec, tmp_path / "parts", teacher)["bits"] == whole["bits"]
    assert {"mean_gram", "mean_mmd", "mean_attention", "mean_discriminator"} <= set(whole["metrics"])
    assert 0 < whole["metrics"]["mean_told_apart"] <= 1


def test_a_run_without_a_discriminator_is_that_of_before_there_was_one(student, teacher, tmp_path):
    """No key has changed, and at weight 0 none is drawn; a run with one is another."""
    plain, off = student(), student(options={"discriminator_weight": 0.0})
    assert plain == off and plain.key == off.key and "discriminator_weight" not in plain.options
    told = student(options={"discriminator_weight": 0.1})
    assert told.key != plain.key and told == RunSpec.model_validate_json(told.model_dump_json())
    assert train(plain, tmp_path / "plain", teacher)["bits"] != train(told, tmp_path / "told", teacher)["bits"]


@pytest.mark.parametrize(("zero", "options"), [("weak2", {}), ("jda", {"ops": "cifar100"})])
def test_views_of_whole_pixels_train_what_weak2_or_jda_train(student, teacher, tmp_path, zero, options):
    expected = train(student("kd", zero), tmp_path / "zero", teacher)["bits"]
    ones, coarse = (
        student("kd").model_copy(update={"policy": Policy(name="coarse", options=options | scales)})
        for scales in ({"scales": (1,)}, {})
    )
    assert train(ones, tmp_path / "ones", teacher)["bits"] == expected
    assert coarse == RunSpec.model_validate_json(coarse.model_dump_json())
    assert train(coarse, tmp_path / "coarse", teacher)["bits"] != expected


# --- what is kept of the teacher


def test_answers_to_test_images_are_shared_by_those_who_ask_the_same(student, teacher, isolated):
    root, found = isolated / "answers", {}
    for name, spec in (
        ("kd", student("kd")),
        ("high", student(options={"scale": 4})),
        ("low", student(options={"teacher_input": "low"})),
        ("low again", student(options={"teacher_input": "low", "student_input": "upsampled"})),
        ("lower", student(options={"teacher_input": "low", "scale": 4})),
        ("not low", student(options={"teacher_input": "low", "scale": 1})),
    ):
        task = Task.of(spec, teacher)
        found[name] = evaluated_answers(task, root)
        assert torch.equal(found[name], logits_on(task.method.teacher, task.images))
    assert torch.equal(found["kd"], found["high"]) and torch.equal(found["kd"], found["not low"])
    assert not torch.equal(found["kd"], found["low"]) and not torch.equal(found["low"], found["lower"])
    assert len([path for path in root.iterdir() if path.is_dir()]) == 3


def test_keys_of_steps_and_banks_tell_what_the_teacher_is_given(student, teacher, isolated, monkeypatch):
    """Of a method of one's own that reads logits alone: `resolution` reads more, and nothing of it is kept."""
    assert remembering(Task.of(student(), teacher), isolated / "answers").answers is None
    with pytest.raises(ValueError, match="bank = 2 .*method 'resolution' reads more of its teacher"):
        student(bank=2)
    monkeypatch.setitem(METHODS, "mine", replace(METHODS["resolution"], logits_only=True, memory=None))
    images, keys = load_data(student().data).train, {}
    for name, options in (("kd", None), ("high", {}), ("low", {"teacher_input": "low"}), ("small", {"scale": 4})):
        spec = student("kd") if options is None else student("mine", options=OFF | options)
        banked = student(spec.method, bank=2, options=spec.options)
        keys[name] = question(spec), answers_key(Task.of(spec, teacher)), bank_key(banked, images)
    assert keys["kd"] == keys["high"] == keys["small"]
    assert all(one != other for one, other in zip(keys["kd"], keys["low"], strict=True))


# --- cost, and what is refused


@pytest.mark.parametrize(("scale", "seen", "size"), [(2, "small", 16), (4, "small", 8), (2, "upsampled", 32)])
def test_the_student_is_counted_at_what_it_is_given(student, scale, seen, size):
    options = {"scale": scale, "student_input": seen} | OFF
    plain, cost = run_cost(student("kd")), run_cost(student(options=options))
    macs = model_size("resnet8", 10, size)[1]
    assert cost.student_macs == macs and cost.student_step_macs == 3 * macs
    assert cost.teacher_macs == plain.teacher_macs == model_size("resnet8", 10, 32)[1]
    assert plain.run_macs - cost.run_macs == 3 * cost.views * (plain.student_macs - macs)
    assert cost.training_bytes == plain.training_bytes
    alone = run_cost(student("resolution_ce", options={"scale": scale, "student_input": seen}))
    assert (alone.student_macs, alone.teacher_macs) == (macs, 0)


def test_the_maps_of_the_discrepancy_are_counted_one_of_them_frozen(student):
    plain, cost = run_cost(student(options=OFF)), run_cost(student(options=OFF | {"mmd_weight": 1.0}))
    both = 64 * (64 + 64)  # resnet8 ends in 64 channels
    assert cost.extra_parameters == both and cost.student_macs - plain.student_macs == both
    assert cost.training_bytes - plain.training_bytes == 4 * (both + 2 * 64 * 64)


def test_a_discriminator_is_counted(student):
    plain = run_cost(student(options=OFF | {"mmd_weight": 1.0}))
    cost = run_cost(student(options=OFF | {"mmd_weight": 1.0, "discriminator_weight": 0.1}))
    weights = 64 * 64 + 64 + 64 + 1
    assert cost.extra_parameters - plain.extra_parameters == weights
    assert cost.student_macs - plain.student_macs == 2 * (64 * 64 + 64)  # of the features of both networks
    assert cost.training_bytes - plain.training_bytes == 12 * weights


def test_images_too_small_for_a_student_are_refused_before_work(make_spec, tmp_path):
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(8):
                Image.effect_noise((8, 8), 60).convert("RGB").save(tmp_path / split / label / f"{number}.png")
    fields = {"data": f"folder:{tmp_path}", "student": "vgg8", "method": "resolution_ce"}
    with pytest.raises(ValueError, match=r"^student = 'vgg8' cannot take 16 views of 4x4 pixels at once") as caught:
        check_views(make_spec(**fields))
    assert "\n" not in str(caught.value)
    check_views(make_spec(**fields, options={"student_input": "upsampled"}))
