"""Runs of detectors of turned boxes: which terms count, that they go on to the same bits, are stored and read again."""

from pathlib import Path

import pytest
import torch

from kdlib.elsewhere.boxes.pictures import SIDE
from kdlib.elsewhere.detecting import size
from kdlib.elsewhere.oriented.losses import TeacherWeights, label_losses, targets, teacher_losses
from kdlib.elsewhere.oriented.scenes import RANGES, SEEN, load_turned_scenes
from kdlib.elsewhere.oriented.training import Oriented, OrientedSpec
from kdlib.elsewhere.oriented.views import TURNINGS
from kdlib.lab.learning import fit
from kdlib.lab.recipe import Machine
from kdlib.lab.results import RESULT
from kdlib.lab.runs import missing, run_all
from kdlib.lab.stopping import Stop, StoppedError
from kdlib.lab.store import Store, read_result

pytestmark = pytest.mark.usefixtures("isolated")
MACHINE = Machine(device="cpu", precision="float32", threads=1)
STEPS = 3


def spec(**fields) -> OrientedSpec:
    given = {
        "data": "turned-scenes", "scenes": (12, 4), "width": 4, "steps": STEPS, "images_per_step": 4, "evaluations": 1,
        "seed": 0, "machine": MACHINE,
    }  # fmt: skip
    return OrientedSpec(**given | fields)


def student(**fields) -> OrientedSpec:
    return spec(**{"teacher": spec(width=6, seed=7)} | fields)


def learner(**fields) -> Oriented:
    one = student(**fields)
    return Oriented(one, Oriented(one.teacher, None).module.state_dict())


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    one, request = student(second="any-angle", seed=3), tmp_path / "request"
    known = [Oriented(one.teacher, None).module.state_dict()]
    whole = fit(one, tmp_path / "whole", known)

    def progress(step: int, steps: int) -> None:
        if step == 2:
            request.write_text("15")

    with pytest.raises(StoppedError, match=f"stopped at step 2 of {STEPS}"):
        fit(one, tmp_path / "stopped", known, progress, Stop(request=request))
    torch.manual_seed(5)
    resumed = fit(one, tmp_path / "stopped", known)
    assert resumed["bits"] == whole["bits"] and resumed["evaluations"] == whole["evaluations"]
    assert fit(student(second="any-angle", seed=4), tmp_path / "other", known)["bits"] != whole["bits"]


@pytest.mark.parametrize(("labels", "kd"), [(True, True), (True, False), (False, True)])
def test_a_step_has_the_terms_that_are_switched_on(labels: bool, kd: bool) -> None:
    """By hand: each term of each view, halved, and nothing else."""
    one = learner(second="any-angle", labels=labels, kd=kd, beta=8.0)
    views = one.views_of(0)
    pixels = torch.cat([pixels for pixels, _ in views])
    own, taught = one.module(pixels), one.teacher(pixels)
    expected: dict[str, torch.Tensor] = {}
    for k, (_, boxes) in enumerate(views):
        part, asked = slice(4 * k, 4 * k + 4), targets(boxes, SIDE)
        mine, theirs = (type(said)(*(x[part] for x in said)) for said in (own, taught))
        terms = label_losses(mine, asked, SIDE) if k == 0 or labels else {}
        weights = TeacherWeights(1.0, 0.25, 0.25, 8.0)
        terms |= teacher_losses(mine, theirs, asked, weights) if k == 0 or kd else {}
        for name, value in terms.items():
            expected[name] = expected.get(name, 0) + value / 2
    found = learner(second="any-angle", labels=labels, kd=kd, beta=8.0).losses(0)
    assert {n: v.item() for n, v in found.items()} == pytest.approx({n: v.item() for n, v in expected.items()})
    assert {"angle", "akd", "ld"} <= set(found)


def test_a_teacher_of_weight_zero_changes_no_bit() -> None:
    alone, taught = Oriented(spec(), None), learner(kd_weight=0.0, ld_weight=0.0, akd_weight=0.0)
    for step in range(2):
        alone.step(step)
        taught.step(step)
    states = [one.module.state_dict().values() for one in (alone, taught)]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_arms_of_a_seed_share_weights_order_and_crops() -> None:
    made = {second: learner(second=second) for second in TURNINGS}
    firsts = [one.views_of(1)[0][0] for one in made.values()]
    assert all(torch.equal(firsts[0], other) for other in firsts)
    seconds = [one.views_of(1)[1][0] for one in made.values()]
    assert len({pixels.numpy().tobytes() for pixels in seconds}) == len(TURNINGS)
    states = [one.module.state_dict() for one in made.values()]
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[-1].values(), strict=True))


def test_a_student_and_its_teacher_are_run_stored_and_read() -> None:
    one = student(second="rot90")
    (found,) = run_all([one], "smoke")
    store = Store("smoke")
    assert missing([one], store) == [] and store.get(one).bits == found.bits
    assert read_result(store.folder(one) / RESULT).spec == one
    metrics = found.metrics
    assert {"ap50", "matched", f"{SEEN}: ap50", f"{SEEN}: clear_matched", "mean_akd"} <= set(metrics)
    assert ("angle_error" in metrics) == (metrics["matched"] > 0)
    kept = {name: int(load_turned_scenes(12, 4).tests[name].boxes.kept.sum()) for name in RANGES}
    assert metrics["boxes"] == kept


def test_macs_are_those_of_both_networks_and_of_the_angles() -> None:
    assert student().macs == 2 * 4 * STEPS * (3 * student().view_macs + spec(width=6).view_macs)
    assert spec().view_macs == size(4, 10)[0] + 256 * 16 * 45


def test_all_that_decides_is_part_of_the_key() -> None:
    changes = [{"second": "any-angle"}, {"kd": False}, {"akd_weight": 1.0}, {"beta": 1.0}, {"teacher": None}]
    assert len({student(**change).key for change in ({}, *changes)}) == len(changes) + 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data": "trees"}, "turned = 'trees' is unknown; allowed are turned-scenes and dota:FOLDER"),
        ({"second": "geometric"}, "second = 'geometric' is not allowed"),
        ({"beta": -1.0}, "beta = -1.0"),
        ({"machine": MACHINE.model_copy(update={"precision": "float16"})}, "machine.precision = 'float16' is too coar"),
        ({"teacher": spec(data="dota:/nowhere")}, "teacher.data = 'dota:/nowhere' must be that of the student"),
    ],
)
def test_bad_fields_are_one_sentence(fields, said) -> None:
    with pytest.raises(ValueError, match=said) as error:
        spec(**fields)
    assert "\n" not in str(error.value)
