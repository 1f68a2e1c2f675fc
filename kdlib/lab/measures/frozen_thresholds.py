"""What frozen thresholds cost a student: on test images, on corrupted ones, and on those of another data set."""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdlib.data.classes import shared_classes
from kdlib.data.images import ImageSet, load_data
from kdlib.data.sampling import stratified
from kdlib.lab import thresholds
from kdlib.lab.evaluate import logits_on, scores
from kdlib.lab.measurements import ThresholdsSpec, threshold_ids
from kdlib.models.network import Network
from kdlib.views.corruptions import KINDS, STRENGTHS, corrupt

STRONGEST = max(STRENGTHS)
INTERNAL, EXTERNAL = "test", "external"  # sets beside the corrupted ones
#: Scores of a set that stand among the metrics themselves too, times 100: points.
POINTS = ("auc", "f1", "threshold_loss")


class Asked(NamedTuple):
    """A set of images with labels among the student's classes."""

    #: what it is called
    name: str
    #: uint8 [n, 3, H, W]
    images: Tensor
    #: int64 [n]
    labels: Tensor


def measure_thresholds(spec: ThresholdsSpec, student: Network) -> dict:
    """A class's score is its softmax probability, its threshold that of the largest F1 on the images of
    `threshold_ids`; nothing is chosen on the sets that follow.

    thresholds: one of each class; threshold_images: on how many they were chosen. sets: name -> images, top1 (percent)
    and the other means of `set_scores`, for "test", each "KIND STRENGTH" of `kdlib.views.corruptions` and, if there is
    one, "external". In points: auc, f1 and threshold_loss, each the mean over the corrupted sets of the largest
    strength; KIND_threshold_loss; test_auc, test_f1, test_threshold_loss; external_*, beside external_classes (how many
    are shared) and external_fingerprint. Raises ValueError if a class has no image to choose a threshold on, or if
    the external set has other sizes, or fewer than two classes in common.
    """
    data = load_data(spec.data)
    outside = external_images(spec, data.test) if spec.external else None
    held = threshold_ids(spec.student, data.train.labels)
    answers = _softmax(logits_on(student, data.train.evaluated[held]))
    chosen = thresholds.class_thresholds(answers, data.train.labels[held].numpy())
    asked = chain(internal_sets(data.test, spec.images), [outside] if outside else [])
    sets = {one.name: set_scores(logits_on(student, one.images), one.labels, chosen) for one in asked}
    found = {"threshold_images": len(held), "thresholds": chosen.tolist(), "sets": sets} | summary(sets)
    if outside:
        mark = load_data(spec.external).test.fingerprint
        found |= {"external_classes": len(outside.labels.unique()), "external_fingerprint": mark}
    return found


def internal_sets(test: ImageSet, count: int | None = None) -> Iterator[Asked]:
    """Test images as they are, and under each corruption. count: of a stratified draw, the same for all; None: all."""
    share = 1.0 if count is None else min(1.0, count / len(test))
    ids = stratified(test.labels, torch.arange(len(test)), share, 0, "measured images")
    images, labels = test.evaluated[ids], test.labels[ids]
    yield Asked(INTERNAL, images, labels)
    for kind in KINDS:
        for strength in STRENGTHS:
            yield Asked(f"{kind} {strength}", corrupt(images, kind, strength, ids), labels)


def external_images(spec: ThresholdsSpec, test: ImageSet) -> Asked:
    """The test images of the external set whose classes are named as the student's, see `shared_classes`."""
    other = load_data(spec.external).test
    if other.evaluated.shape[1:] != test.evaluated.shape[1:]:
        sizes = ["x".join(map(str, images.evaluated.shape[2:])) for images in (other, test)]
        raise ValueError(f"external = {spec.external!r} has images of {sizes[0]} pixels; allowed are {sizes[1]}")
    shared = shared_classes(test.classes, other.classes)
    kept = torch.isin(other.labels, torch.tensor(sorted(shared), dtype=torch.int64))
    labels = torch.tensor([shared[label] for label in other.labels[kept].tolist()], dtype=torch.int64)
    if len(labels.unique()) < 2:
        raise ValueError(
            f"external = {spec.external!r} has images of {len(labels.unique())} classes that are named as those of "
            f"{spec.data!r}; allowed are sets with at least 2"
        )
    return Asked(EXTERNAL, other.evaluated[kept], labels)


def set_scores(logits: Tensor, labels: Tensor, chosen: np.ndarray) -> dict[str, float]:
    """images; top1 (percent), nll, ece of `kdlib.lab.evaluate.scores`; the means of `thresholds.one_vs_rest`; and
    overconfidence, the mean largest probability minus the share of right answers.

    logits: float32 [n, C]; labels: int64 [n]; chosen: float64 [C].
    """
    found, p = scores(logits, labels), _softmax(logits)
    return {
        "images": len(labels),
        **{name: found[name] for name in ("top1", "nll", "ece")},
        **thresholds.one_vs_rest(p, labels.numpy(), chosen),
        "overconfidence": float(p.max(1).mean()) - found["top1"] / 100,
    }


def summary(sets: dict[str, dict[str, float]]) -> dict[str, float]:
    """What contrasts compare, in points, see `measure_thresholds`."""
    strongest = {kind: sets[f"{kind} {STRONGEST}"] for kind in KINDS}
    found = {name: 100 * float(np.mean([one[name] for one in strongest.values()])) for name in POINTS}
    found |= {f"{kind}_threshold_loss": 100 * one["threshold_loss"] for kind, one in strongest.items()}
    alone = [name for name in (INTERNAL, EXTERNAL) if name in sets]
    return found | {f"{one}_{name}": 100 * sets[one][name] for one in alone for name in POINTS}


def _softmax(logits: Tensor) -> np.ndarray:
    """float64 [n, C]"""
    return logits.double().softmax(1).numpy()
