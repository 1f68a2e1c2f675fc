"""Average precision of detectors, as COCO has it, by torchmetrics."""

from collections.abc import Sequence

from kdlib.elsewhere.boxes.detector import Found
from kdlib.elsewhere.boxes.tensors import Boxes

NAMES = {"ap50": "map_50", "ap75": "map_75", "ap": "map"}  # ours -> those of torchmetrics


def average_precisions(found: Sequence[Found], boxes: Boxes) -> dict[str, float]:
    """ap50, ap75 and ap in percent: at an IoU of 0.5, of 0.75, and the mean over 0.5, 0.55, ..., 0.95.

    found: of each image; boxes: of the same images, on the CPU. What is found of objects that are hardly visible
    counts neither way. Raises ValueError where no box is to be found, or for another number of images.
    """
    from torchmetrics.detection import MeanAveragePrecision  # takes seconds to import

    check(found, boxes)
    metric = MeanAveragePrecision(box_format="xyxy", iou_type="bbox")
    metric.update(
        [{"boxes": one.corners, "scores": one.scores, "labels": one.labels} for one in found],
        [
            {"boxes": corners[asked], "labels": labels[asked], "iscrowd": ignored[asked].long()}
            for corners, labels, ignored, asked in zip(
                boxes.corners, boxes.labels, boxes.ignored, boxes.kept | boxes.ignored, strict=True
            )
        ],
    )
    values = metric.compute()
    return {ours: 100 * float(values[theirs]) for ours, theirs in NAMES.items()}


def check(found: Sequence[object], boxes: Boxes) -> None:
    """Raises ValueError where no box is to be found, or for another number of images."""
    if len(found) != len(boxes):
        raise ValueError(f"found = {len(found)} images do not go with boxes of {len(boxes)}; allowed are equally many")
    if not boxes.kept.any():
        raise ValueError("boxes have nothing that is to be found; one box is needed")
