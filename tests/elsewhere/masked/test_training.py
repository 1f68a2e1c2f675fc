"""Runs of masked views: equal work, what each arm is shown, and the same bits after a stop."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from kdlib.elsewhere.masked import training
from kdlib.elsewhere.masked.losses import feature_loss
from kdlib.elsewhere.masked.masks import greyed, scaled
from kdlib.elsewhere.masked.teaching import Teaching
from kdlib.elsewhere.masked.training import Masked
from kdlib.elsewhere.rates import rate
from kdlib.lab.learning import fit
from kdlib.lab.results import WEIGHTS
from kdlib.lab.runs import execute, missing, needed
from kdlib.lab.stopping import Stop, StoppedError
from kdlib.lab.store import Store

from .conftest import teacher_of

pytestmark = pytest.mark.usefixtures("isolated")


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    states = (network.state_dict() for network in (first, second))
    return all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


def first_views(made: Masked) -> training.Seen:
    return made.seen(*made.orders[0].at(0))


@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_stopped_student_goes_on_to_the_same_bits(tmp_path, student_of, taught, at):
    """In the first stage, where the second begins, and in it."""
    spec, request = student_of(view="jda"), tmp_path / "request"
    whole = fit(spec, tmp_path / "whole", [taught])
    assert whole["metrics"]["steps"] == 6 == sum(spec.stages)

    def progress(step: int, steps: int) -> None:
        if step == at:
            request.write_text("15")

    with pytest.raises(StoppedError, match=f"stopped at step {at} of 6"):
        fit(spec, tmp_path / "stopped", [taught], progress, Stop(request=request))
    torch.manual_seed(at)
    resumed = fit(spec, tmp_path / "stopped", [taught])
    assert resumed["bits"] == whole["bits"] and resumed["metrics"] == whole["metrics"]


@pytest.mark.parametrize("at", [2, 3])
def test_a_stopped_teacher_goes_on_to_the_same_bits(tmp_path, at):
    spec, request = teacher_of(), tmp_path / "request"
    whole = fit(spec, tmp_path / "whole", [None])

    def progress(step: int, steps: int) -> None:
        if step == at:
            request.write_text("15")

    with pytest.raises(StoppedError, match=f"stopped at step {at} of 6"):
        fit(spec, tmp_path / "stopped", [None], progress, Stop(request=request))
    assert fit(spec, tmp_path / "stopped", [None])["bits"] == whole["bits"]
    assert set(whole["metrics"]) >= {"top1", "mean_drawing", "mean_labels", "views", "macs"}


def test_the_loss_of_features_is_that_of_masked_tokens(student_of, taught):
    """By hand: the teacher is shown all of the view, the student its kept cells."""
    made = Masked(student_of(), taught)
    ids, epochs = made.orders[0].at(1)
    views = made.material.crops(3, ids, epochs)
    kept = made.kept(ids, epochs)
    vit = copy.deepcopy(made.teacher)
    tokens = vit.backbone.tokens(vit.normalised(views))
    predicted = copy.deepcopy(made.module).train().predicted(views, kept)
    wanted = feature_loss(predicted, tokens, ~scaled(kept, 8).flatten(1))
    made.module.train()
    assert made.losses(0, 1).item() == wanted.item() and kept.flatten(1).sum(1).tolist() == [8] * 20


def test_what_each_arm_is_shown(student_of, taught, plain):
    arms = {
        "sparse": {}, "all": {"tokens": "all"}, "grey": {"fill": "grey"}, "teacher": {"teacher_sees": "kept cells"},
        "plain": plain, "jda": {"view": "jda"}, "plain jda": {**plain, "view": "jda"},
    }  # fmt: skip
    made = {name: Masked(student_of(**fields), taught) for name, fields in arms.items()}
    seen = {name: first_views(one) for name, one in made.items()}
    views, cells = seen["plain"].student, made["sparse"].kept(*made["sparse"].orders[0].at(0))
    hidden = ~scaled(cells, 8).flatten(1)
    for name in ("sparse", "all", "teacher"):
        assert torch.equal(seen[name].student, views) and torch.equal(seen[name].kept, cells)
    for name in ("sparse", "grey", "teacher", "jda"):
        assert torch.equal(seen[name].taught, hidden)
    for name in ("all", "plain", "plain jda"):
        assert seen[name].taught.all()
    assert torch.equal(seen["grey"].student, greyed(views, cells)) and seen["grey"].kept is None
    assert torch.equal(seen["teacher"].teacher, greyed(views, cells))
    for name in ("sparse", "all", "grey", "plain"):
        assert torch.equal(seen[name].teacher, views)
    assert seen["plain"].kept is None and torch.equal(seen["jda"].kept, cells)
    assert torch.equal(seen["jda"].student, seen["plain jda"].student)
    assert torch.equal(seen["jda"].teacher, seen["jda"].student) and not torch.equal(seen["jda"].student, views)
    assert all(same(one.module, made["sparse"].module) for one in made.values())


def test_arms_share_weights_order_masks_and_fine_tuning(student_of, taught, floor):
    first, other, alone = (
        Masked(student_of(**fields), None if fields.get("teacher", 1) is None else taught)
        for fields in ({}, {"ratio": 0.75}, floor)
    )
    assert same(first.network, alone.network) and same(first.module, other.module)
    for step in range(3):
        assert torch.equal(first.orders[0].at(step)[0], other.orders[0].at(step)[0])
        ids, epochs = first.orders[1].at(step)
        for one in (other, alone):
            assert torch.equal(ids, one.orders[1].at(step)[0])
            assert torch.equal(one.of_labels(ids, epochs), first.of_labels(ids, epochs))  # as they begin
    ids, epochs = first.orders[0].at(0)
    assert (other.kept(ids, epochs) <= first.kept(ids, epochs)).all()
    assert alone.stages == (0, 3) and first.stages == (3, 3) == other.stages
    later = first.kept(ids, epochs + 1)
    assert not torch.equal(later, first.kept(ids, epochs))


@pytest.mark.parametrize("fill", ["sparse", "grey"])
def test_a_mask_that_hides_nothing_is_the_zero_point_bit_for_bit(student_of, taught, plain, monkeypatch, fill):
    zero, made = Masked(student_of(**plain), taught), Masked(student_of(tokens="all", fill=fill), taught)
    monkeypatch.setattr(made, "kept", lambda ids, epochs: torch.ones(len(ids), 1, 4, 4, dtype=torch.bool))
    for step in range(6):
        losses = [one.step(step)["loss"] for one in (zero, made)]
        assert torch.equal(*losses)
    assert same(zero.network, made.network)


def test_fine_tuning_is_cross_entropy_of_a_dense_network_from_few_labels(student_of, taught):
    made = Masked(student_of(), taught)
    labels = made.material.train.labels
    assert len(made.labelled) == 30 and set(made.labelled.tolist()) <= set(made.material.ids.tolist())
    assert labels[made.labelled].bincount().tolist() == [3] * 10
    ids, epochs = made.orders[1].at(0)
    assert set(ids.tolist()) <= set(made.labelled.tolist())
    crops = made.material.crops(3, ids, epochs, "tuning crop")
    network = copy.deepcopy(made.module.network).train()
    wanted = F.cross_entropy(network(crops).logits, labels[ids])
    made.module.train()
    assert made.losses(1, 0).item() == wanted.item()


def test_each_stage_trains_its_own_parts(student_of, taught):
    made = Masked(student_of(), taught)
    before = copy.deepcopy(made.module)
    teacher = copy.deepcopy(made.teacher)
    for step in range(3):
        made.step(step)
    assert torch.equal(before.network.backbone.fc.weight, made.module.network.backbone.fc.weight)
    assert not torch.equal(before.decoder.empty, made.module.decoder.empty)
    between = copy.deepcopy(made.module)
    for step in range(3, 6):
        made.step(step)
    assert same(between.decoder, made.module.decoder) and same(teacher, made.teacher)
    assert not torch.equal(between.network.backbone.conv1.weight, made.module.network.backbone.conv1.weight)
    assert not torch.equal(between.network.backbone.fc.weight, made.module.network.backbone.fc.weight)


def test_a_stage_begins_with_a_fresh_optimiser(student_of, taught, floor):
    """A student that is handed the weights after the first stage goes the same way as one that was trained to them."""
    made = Masked(student_of(), taught)
    for step in range(3):
        made.step(step)
    handed = Masked(student_of(**floor), None)
    state = {name: value for name, value in made.module.state_dict().items() if name.startswith("network")}
    handed.module.load_state_dict(state, strict=False)
    made.step(3), handed.step(0)
    assert same(made.network, handed.network)


def test_a_teacher_is_run_first_and_its_student_is_stored(student_of, plain):
    spec = student_of(**plain)
    assert needed([spec]) == [spec.teacher, spec] == missing([spec], Store("smoke"))
    execute(spec.teacher, "smoke")
    found = execute(spec, "smoke")
    store = Store("smoke")
    assert missing([spec], store) == [] and store.get(spec).spec == spec
    metrics = found.metrics
    assert (metrics["images"], metrics["labelled"], metrics["kept"]) == (60, 30, 1.0)
    assert (metrics["views"], metrics["steps"], metrics["macs"]) == (120, 6, spec.macs)
    assert {"top1", "nll", "ece", "mean_features", "mean_labels"} <= set(metrics)
    names = set(load_file(store.folder(spec) / WEIGHTS))
    assert names == set(Masked(spec, store.state(spec.teacher)).network.state_dict())  # encoder and classifier alone
    assert store.get(spec.teacher).metrics["top1"] >= 0


def test_recorded_means_are_those_of_the_stages(tmp_path, student_of, taught):
    metrics = fit(student_of(), tmp_path / "run", [taught])["metrics"]
    made = Masked(student_of(), taught)
    losses = [made.step(step)["loss"].item() for step in range(6)]
    assert metrics["mean_features"] == pytest.approx(sum(losses[:3]) / 3)
    assert metrics["mean_labels"] == pytest.approx(sum(losses[3:]) / 3)


def test_a_teacher_learns_patches_first_and_labels_then():
    made = Teaching(teacher_of(), None)
    before = copy.deepcopy(made.module)
    for step in range(3):
        made.step(step)
    assert torch.equal(before.vit.fc.weight, made.teacher.backbone.fc.weight)
    assert not torch.equal(before.draw.weight, made.module.draw.weight)
    between = copy.deepcopy(made.module)
    for step in range(3, 6):
        made.step(step)
    assert torch.equal(between.draw.weight, made.module.draw.weight)
    assert not torch.equal(between.vit.fc.weight, made.teacher.backbone.fc.weight)


def test_in_lower_precision_the_losses_are_near(student_of, taught):
    low = student_of().machine.model_copy(update={"precision": "bfloat16"})
    made = [Masked(student_of(machine=machine), taught) for machine in (student_of().machine, low)]
    values = [[one.losses(stage, 0) for stage in (0, 1)] for one in made]
    assert all(value.dtype == torch.float32 for row in values for value in row)
    assert [v.item() for v in values[0]] == pytest.approx([v.item() for v in values[1]], rel=0.05)


def test_the_rate_rises_and_falls_to_zero():
    rates = [rate(k, 200) for k in range(200)]
    assert max(rates) == rates[9] == 1 and rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0 <= rates[-1] < 1e-3 and rate(0, 1) == 1


def test_weights_go_where_they_belong(tmp_path: Path, taught, student_of):
    made = Masked(student_of(), taught)
    assert all(torch.equal(value, taught[name]) for name, value in made.teacher.state_dict().items())
    assert not any(part.requires_grad for part in made.teacher.parameters()) and not made.teacher.training
