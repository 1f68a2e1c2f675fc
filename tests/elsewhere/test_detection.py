"""Runs of detectors: which terms count, that they are resumed to the same bits, taught, stored and read again."""

from pathlib import Path

import pytest
import torch

from kdlib.elsewhere.boxes import scenes
from kdlib.elsewhere.boxes.detector import Said
from kdlib.elsewhere.boxes.losses import label_losses, targets, teacher_losses
from kdlib.elsewhere.boxes.pictures import SIDE
from kdlib.elsewhere.boxes.views import SECONDS
from kdlib.elsewhere.detecting import size
from kdlib.elsewhere.detection import Detection, DetectionSpec
from kdlib.elsewhere.rates import rate
from kdlib.lab.forecasts import work
from kdlib.lab.learning import fit
from kdlib.lab.recipe import Machine
from kdlib.lab.results import RESULT
from kdlib.lab.runs import execute, missing, needed, run_all
from kdlib.lab.stopping import Stop, StoppedError
from kdlib.lab.store import Store, read_result

pytestmark = pytest.mark.usefixtures("isolated")
MACHINE = Machine(device="cpu", precision="float32", threads=1)
STEPS = 4


def spec(**fields) -> DetectionSpec:
    given = {
        "data": "scenes", "scenes": (12, 4), "width": 4, "steps": STEPS, "images_per_step": 4, "evaluations": 2,
        "seed": 0, "machine": MACHINE,
    }  # fmt: skip
    return DetectionSpec(**given | fields)


def student(**fields) -> DetectionSpec:
    return spec(**{"teacher": spec(width=6, seed=7)} | fields)


def weights(of: DetectionSpec) -> dict[str, torch.Tensor]:
    return Detection(of, None).module.state_dict()


def learner(**fields) -> Detection:
    one = student(**fields)
    return Detection(one, weights(one.teacher))


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, at: int) -> None:
    one, request = student(second="jda", seed=3), tmp_path / "request"
    known = [weights(one.teacher)]
    whole = fit(one, tmp_path / "whole", known)

    def progress(step: int, steps: int) -> None:
        if step == at:
            request.write_text("15")

    with pytest.raises(StoppedError, match=f"stopped at step {at} of {STEPS}"):
        fit(one, tmp_path / "stopped", known, progress, Stop(request=request))
    torch.manual_seed(at)
    seen: list[int] = []
    resumed = fit(one, tmp_path / "stopped", known, lambda step, _: seen.append(step))
    assert seen == list(range(at + 1, STEPS + 1))
    assert resumed["bits"] == whole["bits"] and resumed["evaluations"] == whole["evaluations"]
    assert fit(student(second="jda", seed=4), tmp_path / "other", known)["bits"] != whole["bits"]


def test_a_step_has_the_terms_that_are_switched_on() -> None:
    """By hand: each term of each view, halved, and nothing else."""
    for labels, kd in ((True, True), (True, False), (False, True), (False, False)):
        one = learner(second="geometric", labels=labels, kd=kd)
        views = one.views_of(0)
        pixels = torch.cat([pixels for pixels, _ in views])
        own, taught = one.module(pixels), one.teacher(pixels)
        expected: dict[str, torch.Tensor] = {}
        for k, (_, boxes) in enumerate(views):
            part, asked = slice(4 * k, 4 * k + 4), targets(boxes, SIDE)
            mine, theirs = (Said(*(x[part] for x in said)) for said in (own, taught))
            terms = label_losses(mine, asked, SIDE) if k == 0 or labels else {}
            terms |= teacher_losses(mine, theirs, asked, (1.0, 0.25)) if k == 0 or kd else {}
            for name, value in terms.items():
                expected[name] = expected.get(name, 0) + value / 2
        found = learner(second="geometric", labels=labels, kd=kd).losses(0)
        assert {n: v.item() for n, v in found.items()} == pytest.approx({n: v.item() for n, v in expected.items()})


def test_without_a_teacher_it_is_a_run_of_labels() -> None:
    assert set(Detection(spec(), None).losses(0)) == {"class", "sides", "giou"}
    alone = Detection(spec(), None)
    taught = learner(kd_weight=0.0, ld_weight=0.0)
    for one in (alone, taught):
        for step in range(2):
            one.step(step)
    states = [one.module.state_dict().values() for one in (alone, taught)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_a_teacher_that_is_the_student_adds_nothing() -> None:
    one = Detection(student(teacher=spec(seed=0)), weights(spec(seed=0)))
    one.module.eval()  # a teacher's BatchNorm is
    terms = one.losses(0)
    assert terms["kd"].item() == terms["ld"].item() == 0 < terms["class"].item()


def test_arms_of_a_seed_share_weights_order_and_crops() -> None:
    made = {second: learner(second=second) for second in SECONDS}
    firsts = [one.views_of(1)[0][0] for one in made.values()]
    assert all(torch.equal(firsts[0], other) for other in firsts)
    states = [one.module.state_dict() for one in made.values()]
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[-1].values(), strict=True))
    seconds = [one.views_of(1)[1][0] for one in made.values()]
    assert len({pixels.sum().item() for pixels in seconds}) == len(SECONDS)
    assert not torch.equal(firsts[0], learner(seed=1).views_of(1)[0][0])


def test_the_teacher_is_as_it_was() -> None:
    one = learner(second="jda")
    before = {name: value.clone() for name, value in one.teacher.state_dict().items()}
    one.step(0)
    assert all(torch.equal(before[name], value) for name, value in one.teacher.state_dict().items())
    assert not one.teacher.training and one.module.training


def test_a_student_and_its_teacher_are_run_stored_and_read() -> None:
    one = student(second="jda")
    assert needed([one]) == [one.teacher, one] == missing([one], Store("smoke"))
    (found,) = run_all([one], "smoke")
    store = Store("smoke")
    assert missing([one], store) == [] and store.get(one).bits == found.bits
    assert read_result(store.folder(one) / RESULT).spec == one
    metrics = found.metrics
    assert {"ap50", "ap75", "ap", "mean_kd", "mean_ld", "boxes"} <= set(metrics)
    assert metrics["ap50"] == found.evaluations[-1]["ap50"] and len(found.evaluations) == 2
    assert (metrics["views"], metrics["steps"]) == (2 * 4 * STEPS, STEPS)
    assert {"threshold", "precision", "recall", "f1"} <= set(metrics) and "threshold_loss" not in metrics
    assert metrics["boxes"] == {"test": int(scenes.load_scenes(12, 4).tests["test"].boxes.kept.sum())}


def test_macs_are_those_of_both_networks() -> None:
    assert spec().macs == 3 * 32 * size(4, 10)[0]
    assert student().macs == 32 * (3 * size(4, 10)[0] + size(6, 10)[0])
    assert work(student()) > student().macs and student().network == "detector of width 4"


def test_all_that_decides_is_part_of_the_key() -> None:
    changes = [
        {"second": "jda"}, {"labels": False}, {"kd": False}, {"kd_weight": 2.0}, {"ld_weight": 1.0}, {"width": 8},
        {"form": "softmax"}, {"steps": 5}, {"images_per_step": 8}, {"scenes": (13, 4)}, {"learning_rate": 1e-3},
        {"teacher": None}, {"seed": 1},
    ]  # fmt: skip
    assert len({student(**change).key for change in ({}, *changes)}) == len(changes) + 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data": "cifar10"}, "boxes = 'cifar10' is unknown; allowed are scenes, trees"),
        ({"second": "strong"}, "second = 'strong' is not allowed"),
        ({"scenes": (0, 4)}, r"scenes = \[0, 4\] must be two whole numbers from 1 up"),
        ({"evaluations": 9}, "evaluations = 9 must be at most steps = 4"),
        ({"teacher": spec(data="trees")}, "teacher.data = 'trees' must be that of the student, 'scenes'"),
        ({"machine": MACHINE.model_copy(update={"precision": "float16"})}, "machine.precision = 'float16' is too coar"),
    ],
)
def test_bad_fields_are_one_sentence(fields, said) -> None:
    with pytest.raises(ValueError, match=said) as error:
        spec(**fields)
    assert "\n" not in str(error.value)


def test_data_that_are_not_there_are_named_before_any_work(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="run `python -m kdlib fetch trees`"):
        run_all([spec(data="trees")], "smoke")
    assert not list((tmp_path / "runs").rglob("checkpoint.pt"))


def test_execute_repeats_to_the_same_bits(tmp_path) -> None:
    assert execute(spec(), "smoke").bits == fit(spec(), tmp_path / "again", [None])["bits"]


def test_the_rate_rises_and_falls_to_zero() -> None:
    rates = [rate(k, 200) for k in range(200)]
    assert max(rates) == rates[9] == 1 and rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0 <= rates[-1] < 1e-3
    assert rate(0, 1) == 1


# --- relations, the gate, and the block before the head


def test_weight_zero_and_no_gate_are_the_run_without_them() -> None:
    plain, same = student(second="jda"), student(second="jda", relation_weight=0.0, gate="none", last="dilated")
    assert plain.key == same.key and not {"relation_weight", "gate", "last"} & set(plain.model_dump(mode="json"))
    gates = ({"gate": rule} for rule in ("agreement", "mean", "shuffled"))
    keys = {student(**f).key for f in ({}, {"relation_weight": 1.0}, *gates, {"last": "strided"})}
    assert len(keys) == 6 and student(gate="agreement").macs > student().macs == student(relation_weight=1.0).macs
    taught, zero = learner(), learner(relation_weight=1e-300)  # a weight at which nothing is left of the terms
    for step in range(2):
        taught.step(step)
        zero.step(step)
    states = [one.detector.state_dict().values() for one in (taught, zero)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_relations_add_two_terms() -> None:
    one = learner(relation_weight=2.0)
    terms, base = one.losses(0), learner().losses(0)
    assert set(terms) - set(base) == {"self", "mutual"} and all(terms[n] > 0 for n in ("self", "mutual"))
    half = learner(relation_weight=1.0).losses(0)
    assert terms["self"].item() == pytest.approx(2 * half["self"].item())


def test_a_gate_weighs_what_the_teacher_says_by_the_cosine_of_two_gradients() -> None:
    one, by_hand = learner(gate="agreement"), learner()
    terms = by_hand.losses(0)
    main, auxiliary = (sum(terms[n] for n in names) for names in (("class", "sides", "giou"), ("kd", "ld")))
    weight = by_hand.detector.head[2][0].weight
    grads = [torch.autograd.grad(loss, weight, retain_graph=True)[0].flatten() for loss in (main, auxiliary)]
    expected = torch.nn.functional.cosine_similarity(*grads, dim=0).clamp_min(0)
    found = one.step(0)
    assert found["gate"].item() == pytest.approx(expected.item(), abs=1e-5)
    assert found["loss"].item() == pytest.approx((main + expected * auxiliary).item(), abs=1e-5)


def test_a_gate_of_a_teacher_that_says_nothing_changes_no_bit() -> None:
    """Weights 0: the gradient of what it says is 0, and so is the gate."""
    alone, gated = Detection(spec(), None), learner(gate="agreement", kd_weight=0.0, ld_weight=0.0)
    for step in range(2):
        alone.step(step)
        assert gated.step(step)["gate"] == 0
    states = [one.detector.state_dict().values() for one in (alone, gated)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


@pytest.mark.parametrize("gate", ["agreement", "mean", "shuffled"])
def test_a_gated_run_is_resumed_with_its_averages(tmp_path: Path, gate: str) -> None:
    one, request = student(gate=gate, relation_weight=1.0), tmp_path / "request"
    known = [weights(one.teacher)]
    whole = fit(one, tmp_path / "whole", known)

    def progress(step: int, steps: int) -> None:
        if step == 2:
            request.write_text("15")

    with pytest.raises(StoppedError):
        fit(one, tmp_path / "stopped", known, progress, Stop(request=request))
    assert fit(one, tmp_path / "stopped", known)["bits"] == whole["bits"]
    assert {"mean_gate", "mean_self", "mean_mutual"} <= set(whole["metrics"])
    assert 0 <= whole["metrics"]["mean_gate"] <= 1


def test_a_strided_student_learns_from_a_dilated_teacher() -> None:
    one = learner(last="strided")
    assert one.step(0)["loss"].isfinite() and type(one.detector.blocks[2]).__name__ == "Strided"
    assert type(one.teacher.blocks[2]).__name__ == "Block"
