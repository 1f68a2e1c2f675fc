"""Average precision of turned boxes: of upright ones that of torchmetrics, and what a turn does to it."""

import pytest
import torch

from kdlib.elsewhere.boxes import precision as upright_precision
from kdlib.elsewhere.boxes.detector import Found
from kdlib.elsewhere.boxes.tensors import Boxes, clipped
from kdlib.elsewhere.oriented.boxes import TurnedBoxes
from kdlib.elsewhere.oriented.detector import TurnedFound
from kdlib.elsewhere.oriented.geometry import from_corners, turned, upright
from kdlib.elsewhere.oriented.precision import angle_errors, average_precisions

pytestmark = pytest.mark.usefixtures("isolated")
SIDE = 144


def parts(random_turned, images: int = 12, angles: bool = True) -> list[tuple[torch.Tensor, torch.Tensor]]:
    found = []
    for k in range(images):
        boxes = random_turned(1 + k % 5, seed=k)
        boxes[:, 4] *= angles
        found.append((boxes, torch.arange(len(boxes)) % 2))
    return found


def guesses(some, noise: float, extra: int = 2) -> list[TurnedFound]:
    """Each box, moved and resized, and others that are noise."""
    random, found = torch.Generator().manual_seed(7), []
    for boxes, labels in some:
        moved = torch.cat([boxes, boxes[:1].repeat(extra, 1)]).clone()
        moved[:, :4] += noise * torch.randn(len(moved), 4, generator=random)
        moved[:, 2:4] = moved[:, 2:4].clamp_min(1)
        kinds = torch.cat([labels, torch.randint(0, 2, (extra,), generator=random)])
        found.append(TurnedFound(moved, torch.rand(len(moved), generator=random), kinds))
    return found


@pytest.mark.parametrize("noise", [0.0, 2.0, 5.0])
def test_of_upright_boxes_it_is_that_of_torchmetrics(random_turned, noise: float) -> None:
    some = parts(random_turned, angles=False)
    found, boxes = guesses(some, noise), TurnedBoxes.stack(some)
    plain = [Found(upright(one.boxes), one.scores, one.labels) for one in found]
    expected = upright_precision.average_precisions(plain, Boxes.stack([(upright(b), labels) for b, labels in some]))
    assert average_precisions(found, boxes) == pytest.approx(expected, abs=1e-4)
    assert 10 < expected["ap50"] < 100


def test_hidden_upright_objects_count_as_with_torchmetrics(random_turned) -> None:
    some = [(boxes + torch.tensor([40.0, 0, 0, 0, 0]), labels) for boxes, labels in parts(random_turned, angles=False)]
    plain = clipped(Boxes.stack([(upright(b), labels) for b, labels in some]), SIDE)
    assert plain.ignored.any() and plain.kept.any()
    own = TurnedBoxes(plain.corners, plain.labels, plain.shares, torch.zeros_like(plain.shares))
    seen = zip(plain.corners, plain.labels, strict=True)
    found = guesses([(from_corners(corners, torch.zeros(len(corners))), labels) for corners, labels in seen], 3.0)
    expected = upright_precision.average_precisions(
        [Found(upright(one.boxes), one.scores, one.labels) for one in found], plain
    )
    assert average_precisions(found, own) == pytest.approx(expected, abs=1e-4)


def test_turning_image_and_answers_alike_changes_nothing_and_answers_alone_much(random_turned) -> None:
    some = parts(random_turned)
    found = guesses(some, 2.0)
    before = average_precisions(found, TurnedBoxes.stack(some))
    both = [one._replace(boxes=turned(one.boxes, 37.0, SIDE)) for one in found]
    moved = TurnedBoxes.stack([(turned(boxes, 37.0, SIDE), labels) for boxes, labels in some])
    assert average_precisions(both, moved) == pytest.approx(before, abs=1e-3)
    wrong = [one._replace(boxes=one.boxes + torch.tensor([0, 0, 0, 0, 45.0])) for one in found]
    assert average_precisions(wrong, TurnedBoxes.stack(some))["ap75"] < before["ap75"] / 2


def test_perfect_answers_have_all(random_turned) -> None:
    some = parts(random_turned)
    perfect = average_precisions(guesses(some, 0.0, extra=0), TurnedBoxes.stack(some))
    assert perfect == pytest.approx({"ap50": 100, "ap75": 100, "ap": 100})
    half_turn = [one._replace(boxes=one.boxes + torch.tensor([0, 0, 0, 0, 180.0])) for one in guesses(some, 0.0, 0)]
    assert average_precisions(half_turn, TurnedBoxes.stack(some))["ap"] == pytest.approx(100)


def test_angle_errors_are_of_all_that_is_found_whatever_its_angle(random_turned) -> None:
    some = parts(random_turned)
    boxes, exact = TurnedBoxes.stack(some), guesses(some, 0.0, extra=0)
    count = int(boxes.kept.sum())
    assert angle_errors(exact, boxes)["angle_error"] == 0 and angle_errors(exact, boxes)["matched"] == count
    for off, said in ((7.0, 7.0), (90.0, 90.0), (-170.0, 10.0), (180.0, 0.0)):
        other = [one._replace(boxes=one.boxes + torch.tensor([0, 0, 0, 0, off])) for one in exact]
        errors = angle_errors(other, boxes)
        assert errors["angle_error"] == pytest.approx(said, abs=1e-3) and errors["matched"] == count


def test_objects_without_a_clear_angle_are_set_apart() -> None:
    own = torch.tensor([[40.0, 40, 30, 28, 0], [100, 100, 30, 10, 0]])  # nearly square, and long
    answer = own + torch.tensor([[0, 0, 0, 0, 80.0], [0, 0, 0, 0, 4]])
    found = [TurnedFound(answer, torch.tensor([0.9, 0.8]), torch.tensor([0, 0]))]
    errors = angle_errors(found, TurnedBoxes.stack([(own, torch.tensor([0, 0]))]))
    assert errors == {"angle_error": 42, "clear_angle_error": 4, "matched": 2, "clear_matched": 1}


def test_an_object_is_matched_once_with_the_best_answer_of_its_class() -> None:
    own = torch.tensor([[40.0, 40, 30, 10, 0]])
    answers = torch.tensor([[40.0, 40, 30, 10, 20], [40, 40, 30, 10, 5], [40, 40, 30, 10, 60]])
    found = [TurnedFound(answers, torch.tensor([0.5, 0.9, 0.95]), torch.tensor([0, 0, 1]))]
    errors = angle_errors(found, TurnedBoxes.stack([(own, torch.tensor([0]))]))
    assert errors["angle_error"] == 5 and errors["matched"] == 1
    none = [TurnedFound(answers[:0], torch.zeros(0), torch.zeros(0, dtype=torch.int64))]
    assert angle_errors(none, TurnedBoxes.stack([(own, torch.tensor([0]))]))["angle_error"] is None


def test_nothing_to_be_found_and_other_images_are_refused(random_turned) -> None:
    none = TurnedBoxes.stack([(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))])
    some = guesses(parts(random_turned, 1), 0)
    for grade in (average_precisions, angle_errors):
        with pytest.raises(ValueError, match="^boxes have nothing that is to be found"):
            grade(some, none)
        with pytest.raises(ValueError, match="^found = 2 images do not go with boxes of 1"):
            grade(some * 2, none)
