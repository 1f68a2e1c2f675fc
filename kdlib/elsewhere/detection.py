"""Detection: a small detector of upright boxes learns to find them from labels and from a wider one."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor

from kdlib.elsewhere.boxes.detector import Detector, Found, Last, Said, find
from kdlib.elsewhere.boxes.load import check_boxes_name, check_boxes_there, count_classes, load_boxes
from kdlib.elsewhere.boxes.losses import label_losses, targets, teacher_losses
from kdlib.elsewhere.boxes.pictures import SIDE, BoxData, Fixed
from kdlib.elsewhere.boxes.precision import average_precisions
from kdlib.elsewhere.boxes.relations import Gate, Gated, descriptions, gate_macs, places_of, relation_losses
from kdlib.elsewhere.boxes.tensors import Boxes
from kdlib.elsewhere.boxes.thresholds import at_home_and_elsewhere, ranked
from kdlib.elsewhere.boxes.views import Second, roles, two_views
from kdlib.elsewhere.detecting import Detecting, DetectorSpec, size
from kdlib.lab.cost import BYTES
from kdlib.records import Number

TAUGHT = ("kd", "ld", "self", "mutual")  # the terms of what a teacher says


class DetectionSpec(DetectorSpec):
    """The training of a detector of upright boxes."""

    #: tells it from specs of other kinds
    kind: Literal["detection"] = "detection"
    #: scenes, trees, voc:FOLDER or coco:FILE, see `kdlib.elsewhere.boxes.load`
    data: str
    #: null, or the run that it learns from
    teacher: "DetectionSpec | None" = None
    #: what is done to the second view
    second: Second = "weak2"
    #: of the relations between places, see `kdlib.elsewhere.boxes.relations`
    relation_weight: Number = Field(0.0, ge=0)
    #: what weighs all that the teacher says, see `kdlib.elsewhere.boxes.relations.Gated`
    gate: Gate = "none"
    #: the block before the head, see `Detector`
    last: Last = "dilated"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_boxes_name(self.data)
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that the keys of runs without the three are what they were before these were there."""
        unused = {"relation_weight": 0.0, "gate": "none", "last": "dilated"}
        return {name: value for name, value in handler(self).items() if name not in unused or value != unused[name]}

    @property
    def macs(self) -> int:
        return super().macs + self.views * (self.gate != "none") * gate_macs(self.width, count_classes(self.data))

    @property
    def kept_bytes(self) -> int:
        return BYTES * self.steps if self.gate != "none" else 0  # the gate's averages

    @property
    def _size(self) -> tuple[int, int]:
        return size(self.width, count_classes(self.data), Detector, self.last)

    def check(self) -> None:
        check_boxes_there(self.data)


class Detection(Detecting):
    """The training of a detector of upright boxes, see `DetectionSpec`. taught: the weights of the teacher."""

    def __init__(self, spec: DetectionSpec, taught: Mapping[str, Tensor] | None):
        super().__init__(spec, taught)
        self.gated = spec.gate != "none" and self.teacher is not None
        if self.gated:
            self.module = Gated(self.detector, spec.gate, spec.steps, spec.seed)

    def made(self, spec: DetectionSpec, classes: int) -> Detector:
        return Detector(spec.width, classes, spec.last)

    def loaded(self) -> BoxData:
        return load_boxes(self.spec.data, self.spec.window, self.spec.scenes)

    def roles(self) -> dict[str, int]:
        return roles()

    def changed(self, images: Tensor, boxes: Boxes, draws: Mapping[str, Tensor]) -> list[tuple[Tensor, Boxes]]:
        return two_views(images, boxes, self.spec.second, draws)

    def terms(self, own: Said, teacher: Said | None, boxes: Boxes, labels: bool) -> dict[str, Tensor]:
        asked = targets(boxes, SIDE)
        found = label_losses(own, asked, SIDE) if labels else {}
        if teacher is not None:
            weights = (self.spec.kd_weight, self.spec.ld_weight)
            found |= teacher_losses(own, teacher, asked, weights, self.spec.form)
            if self.spec.relation_weight:
                places = places_of(asked, teacher)
                parts = relation_losses(descriptions(own, places), descriptions(teacher, places))
                found |= {
                    name: self.spec.relation_weight * part for name, part in zip(("self", "mutual"), parts, strict=True)
                }
        return found

    def added(self, terms: dict[str, Tensor], number: int) -> Tensor:
        if not self.gated:
            return super().added(terms, number)
        main, auxiliary = (sum(v for n, v in terms.items() if (n in TAUGHT) == taught) for taught in (False, True))
        terms["gate"] = self.module.update(main, auxiliary, self.detector.gated, number)
        return main + terms["gate"] * auxiliary

    def finding(self, said: Said) -> list[Found]:
        return find(said, SIDE)

    def scores(self, test: Fixed) -> dict[str, float]:
        """ap50, ap75 and ap, see `average_precisions`."""
        return average_precisions(self.found(test), test.boxes)

    def measure(self) -> dict[str, Any]:
        """What a frozen threshold is worth too, see `kdlib.elsewhere.boxes.thresholds`."""
        answers = {name: ranked(self.found(test), test.boxes) for name, test in self.data.tests.items()}
        return super().measure() | at_home_and_elsewhere(answers)


SPEC, learner = DetectionSpec, Detection
