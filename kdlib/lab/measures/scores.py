"""How good, and how well calibrated, a teacher is on test images and on those it was trained on."""

import numpy as np
import torch
from torch import Tensor

from kdlib.data.images import load_data
from kdlib.lab import metrics
from kdlib.lab.evaluate import correctness_bits, logits_on, scores
from kdlib.lab.measurements import ScoresSpec, seen_ids
from kdlib.lab.measures.twins import exact_twins, near_twins
from kdlib.lab.measures.views import entropy
from kdlib.models.network import Network

BINS = 15  # of equal width, as those of kdlib.lab.metrics.ece
TEMPERATURES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
TRAINING_IMAGES = 5000  # at most


def measure_scores(spec: ScoresSpec, teacher: Network) -> dict:
    """Scores of the images as they are stored, or their centre: no view is drawn.

    PART_images, _top1, _top5 (percent), _nll, _entropy (nats), _ece (fraction) of four parts: test: all test images;
    unique: those without an exact twin in the training set; distinct: those without an exact or a near twin (not of
    photographs, where the search would have to read the whole set); train: up to 5,000 of the images that the teacher
    was trained on, evenly spaced. A part without images is left out. test_correct: one bit per test image, see
    `correctness_bits`; temperatures: a record of `calibration` of the test images for each of TEMPERATURES.
    Raises ValueError if teacher and data have different classes.
    """
    test, train = (data := load_data(spec.data)).test, data.train
    if teacher.num_classes != len(train.classes):
        raise ValueError(f"teacher has {teacher.num_classes} classes, data {spec.data!r} has {len(train.classes)}")
    unique = ~exact_twins(test, train)
    parts = {"test": torch.ones_like(unique), "unique": unique}
    if train.view_size is None:
        parts["distinct"] = unique & ~near_twins(test, train)
    logits = logits_on(teacher, test.evaluated)
    found = {}
    for name, kept in parts.items():
        found |= part_scores(name, logits[kept], test.labels[kept])
    ids = evenly(seen_ids(spec.teacher, train.labels))
    seen = torch.cat([logits_on(teacher, train.evaluated[some]) for some in ids.split(500)])
    return found | part_scores("train", seen, train.labels[ids]) | {
        "test_correct": correctness_bits(logits, test.labels),
        "temperatures": [calibration(logits, test.labels, temperature) for temperature in TEMPERATURES],
    }  # fmt: skip


def part_scores(name: str, logits: Tensor, labels: Tensor) -> dict[str, float]:
    """NAME_images and the scores of some images, or nothing if there are none."""
    if not len(labels):
        return {}
    found = {"images": len(labels)} | scores(logits, labels) | {"entropy": entropy(logits)}
    return {f"{name}_{key}": value for key, value in found.items()}


def evenly(ids: Tensor) -> Tensor:
    """Up to 5,000 of ids, evenly spaced."""
    return ids[:: -(-len(ids) // TRAINING_IMAGES)]


def calibration(logits: Tensor, labels: Tensor, temperature: float) -> dict:
    """temperature, nll and ece of the softmax of logits / temperature, and its reliability in 15 equal bins of the
    largest probability: counts, and mean confidence and accuracy (fractions; None in an empty bin)."""
    scaled, truth = (logits.double() / temperature).numpy(), labels.numpy()
    which, confidence, right = metrics.confidence_bins(scaled, truth, BINS)
    counts = np.bincount(which, minlength=BINS).tolist()
    means = {
        name: [total / n if n else None for total, n in zip(np.bincount(which, v, BINS).tolist(), counts, strict=True)]
        for name, v in (("confidence", confidence), ("accuracy", right))
    }
    nll, ece = metrics.nll(scaled, truth), metrics.ece(scaled, truth, BINS)
    return {"temperature": temperature, "nll": nll, "ece": ece, "counts": counts, **means}
