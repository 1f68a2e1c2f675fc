"""Runs of detectors of turned boxes: what they are, and how they learn."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from kdlib.elsewhere.boxes.pictures import SIDE, BoxData, Fixed
from kdlib.elsewhere.detecting import Detecting, DetectorSpec, size
from kdlib.elsewhere.oriented.detector import TurnedDetector, TurnedFound, TurnedSaid, find_turned
from kdlib.elsewhere.oriented.load import check_turned_name, check_turned_there, count_classes, load_turned
from kdlib.elsewhere.oriented.losses import ANGLE, TeacherWeights, label_losses, targets, teacher_losses
from kdlib.elsewhere.oriented.precision import angle_errors, average_precisions
from kdlib.elsewhere.oriented.views import Turning, roles, two_views
from kdlib.records import Number


class OrientedSpec(DetectorSpec):
    """The training of a detector of turned boxes."""

    #: tells it from specs of other kinds
    kind: Literal["oriented"] = "oriented"
    #: turned-scenes or dota:FOLDER, see `kdlib.elsewhere.oriented.load`
    data: str
    #: null, or the run that it learns from
    teacher: "OrientedSpec | None" = None
    #: what is done to the second view
    second: Turning = "weak2"
    #: of the decoupled divergence of angles
    akd_weight: Number = Field(ANGLE, ge=0)
    #: within it, of the bins that are not near the label's
    beta: Number = Field(4.0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_turned_name(self.data)
        return self

    @property
    def _size(self) -> tuple[int, int]:
        return size(self.width, count_classes(self.data), TurnedDetector)

    def check(self) -> None:
        check_turned_there(self.data)


class Oriented(Detecting):
    """The training of a detector of turned boxes, see `OrientedSpec`. taught: the weights of the teacher."""

    def made(self, spec: OrientedSpec, classes: int) -> TurnedDetector:
        return TurnedDetector(spec.width, classes)

    def loaded(self) -> BoxData:
        return load_turned(self.spec.data, self.spec.window, self.spec.scenes)

    def roles(self) -> dict[str, int]:
        return roles()

    def changed(self, images: Tensor, boxes: Any, draws: Mapping[str, Tensor]) -> list[tuple[Tensor, Any]]:
        return two_views(images, boxes, self.spec.second, draws)

    def terms(self, own: Any, teacher: Any, boxes: Any, labels: bool) -> dict[str, Tensor]:
        asked = targets(boxes, SIDE)
        found = label_losses(own, asked, SIDE) if labels else {}
        if teacher is not None:
            spec = self.spec
            weights = TeacherWeights(spec.kd_weight, spec.ld_weight, spec.akd_weight, spec.beta)
            found |= teacher_losses(own, teacher, asked, weights, spec.form)
        return found

    def finding(self, said: TurnedSaid) -> list[TurnedFound]:
        return find_turned(said, SIDE)

    def scores(self, test: Fixed) -> dict[str, Any]:
        """ap50, ap75 and ap, see `average_precisions`."""
        return average_precisions(self.found(test), test.boxes)

    def measure(self) -> dict[str, Any]:
        """Average precision on the other tests too, and on all of them how far angles are off; a median of no object is
        left out."""
        scores = super().measure()
        for number, (name, test) in enumerate(self.data.tests.items()):
            errors = {
                key: value for key, value in angle_errors(self.found(test), test.boxes).items() if value is not None
            }
            scores |= {f"{name}: {key}" if number else key: value for key, value in errors.items()}
        return scores
