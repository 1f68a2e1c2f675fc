"""Numbers that papers and released programs give: what is trained by default has them."""

import numpy as np
import pytest
import torch

from kdlib.elsewhere.boxes.detector import Detector
from kdlib.elsewhere.boxes.relations import Gated
from kdlib.elsewhere.detection import Detection, DetectionSpec
from kdlib.elsewhere.translation import SPEC, learner, training
from kdlib.elsewhere.translation.losses import label_loss
from kdlib.elsewhere.translation.parallel import GRAMMAR
from kdlib.elsewhere.translation.spec import Terms

from ..conftest import MACHINE

pytestmark = pytest.mark.usefixtures("isolated")
SMALL = {
    "data": GRAMMAR, "pieces": 400, "pairs": 6, "tested": 2, "width": 16, "layers": 1, "heads": 2, "epochs": 1,
    "pairs_per_step": 6, "warm_up": 4, "seed": 0, "machine": MACHINE,
}  # fmt: skip


def test_knn_kd_looks_up_64_states_at_temperature_100() -> None:
    assert (Terms().k, Terms().tau) == (64, 100)


def test_a_tenth_of_each_label_is_spread_over_the_vocabulary() -> None:
    scores = torch.randn(2, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[4, 5, 6], [7, 4, 5]])  # no padding
    log_p = scores.log_softmax(-1).numpy()
    spread = 0.9 * np.eye(8)[labels] + 0.1 / 8
    expected = -(spread * log_p).sum(-1).mean()
    assert label_loss(scores, labels, SPEC(**SMALL).smoothing).item() == pytest.approx(expected, rel=1e-12)


def test_a_teacher_writes_with_a_beam_of_4(monkeypatch: pytest.MonkeyPatch) -> None:
    beams, given = [], training.translate

    def translate(network, sources, beam=1):
        beams.append(beam)
        return given(network, sources, beam)

    monkeypatch.setattr(training, "translate", translate)
    teacher = SPEC(**SMALL | {"seed": 1})
    known = learner(teacher, None).module.state_dict()
    learner(SPEC(**SMALL, teacher=teacher, terms=Terms(sequences=True)), known)
    assert beams == [4]


def test_a_gate_keeps_nine_tenths_of_what_it_was() -> None:
    detector = Detector(4, 2)
    weight = detector.gated
    main = (weight * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))).sum()
    gate = Gated(detector, "agreement", 3, 0)
    found = [gate.update(main, sign * main, weight, step).item() for step, sign in enumerate((1, -1, 1))]
    assert found == pytest.approx([1, 0.9, 0.91])


@pytest.mark.parametrize(("factor", "clipped"), [(1e4, True), (1e-4, False)])
def test_gradients_of_a_detector_have_a_norm_of_10_at_most(factor: float, clipped: bool) -> None:
    spec = DetectionSpec(
        data="scenes", scenes=(12, 4), width=4, steps=2, images_per_step=4, evaluations=1, seed=0, machine=MACHINE
    )
    one = Detection(spec, None)
    added = one.added
    one.added = lambda terms, number: factor * added(terms, number)
    one.step(0)
    norm = torch.stack([p.grad.norm() for p in one.detector.parameters() if p.grad is not None]).norm().item()
    assert norm == pytest.approx(10, rel=1e-4) if clipped else 0 < norm < 1
