"""The small detector of `kdlib.elsewhere.boxes`, with an angle for each cell.

The four sides are those of the box before it is turned about its centre, as in CSL, so that they do not jump where an
angle does; the angle is a distribution over bins.
"""

from typing import NamedTuple

from torch import Tensor, nn

from kdlib.elsewhere.boxes.detector import MOST, OVERLAP, SCORE, Detector, centres, decode, distances
from kdlib.elsewhere.oriented.angles import BINS, angle_of
from kdlib.elsewhere.oriented.geometry import from_corners, keep_best

CANDIDATES = 200  # of the best scores of an image, from which boxes are chosen


class TurnedSaid(NamedTuple):
    """What a detector says of B images of P cells each; see `kdlib.elsewhere.boxes.detector.Said`."""

    #: float [B, P, C]
    classes: Tensor
    #: float [B, P, 4, 9], of the box before it is turned
    sides: Tensor
    #: float [B, P, BINS]; a probability is its softmax
    angles: Tensor


class TurnedFound(NamedTuple):
    """What is found in an image, best first."""

    #: float32 [n, 5], see `kdlib.elsewhere.oriented.geometry`
    boxes: Tensor
    #: float32 [n] in (0, 1)
    scores: Tensor
    #: int64 [n]
    labels: Tensor


class TurnedDetector(Detector):
    """views: uint8 [B, 3, H, W], sides a multiple of 8 -> `TurnedSaid` of (H / 8)(W / 8) cells, float32.

    width: channels of the first layer; the last have four times as many.

    >>> TurnedDetector(8, classes=10)(torch.zeros(2, 3, 128, 128, dtype=torch.uint8)).angles.shape
    torch.Size([2, 256, 45])
    """

    def __init__(self, width: int, classes: int):
        super().__init__(width, classes)
        self.angles = nn.Conv2d(4 * width, BINS, 1)

    def forward(self, views: Tensor) -> TurnedSaid:
        shared = self.shared(views)
        return TurnedSaid(*self.answers(shared), self.angles(shared).flatten(2).transpose(1, 2).float())


def find_turned(said: TurnedSaid, side: int, score: float = SCORE) -> list[TurnedFound]:
    """What a detector finds in each image of side x side pixels, all on the CPU.

    Of the 200 best scores those of at least `score`; of turned boxes of one class that overlap by an IoU above 0.6 the
    best one; at most 100 an image.
    """
    classes, sides, angles = (part.detach().cpu() for part in said)
    corners = decode(centres(side), distances(sides))
    boxes = from_corners(corners, angle_of(angles.argmax(-1)))
    scores, found = classes.sigmoid(), []
    for own, there in zip(scores, boxes, strict=True):
        values, places = own.flatten().sort(descending=True, stable=True)
        places = places[:CANDIDATES][values[:CANDIDATES] >= score]
        cells, labels = places // own.shape[1], places % own.shape[1]
        chosen, values = there[cells], own[cells, labels]
        best = keep_best(chosen, values, labels, OVERLAP)[:MOST]
        found.append(TurnedFound(chosen[best], values[best], labels[best]))
    return found
