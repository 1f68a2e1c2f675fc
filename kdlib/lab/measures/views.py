"""What a teacher says on original and on augmented views."""

import numpy as np
import torch
from torch import Tensor

from kdlib.data.images import ImageSet, load_data
from kdlib.data.sampling import stratified
from kdlib.lab.evaluate import logits_on, scores
from kdlib.lab.measurements import ViewsSpec, seen_ids
from kdlib.lab.survey import cropped_for
from kdlib.methods.ccd import ccd_weights
from kdlib.models.network import Network
from kdlib.randomness import draws_of
from kdlib.views.policies import create_policy

BINS = 40  # of the histograms of w over [0, 2]


def measured_ids(spec: ViewsSpec, images: ImageSet, split: str) -> Tensor:
    """int64 [n]: the images of a split that are looked at; of "train" those that the teacher was trained on."""
    ids = seen_ids(spec.teacher, images.labels) if split == "train" else torch.arange(len(images))
    return stratified(images.labels, ids, min(1.0, spec.images / len(ids)), spec.seed, "measured images")


def draw_views(spec: ViewsSpec, images: ImageSet, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(views uint8 [n, 2, 3, H, W], a second crop of the originals [n, 3, H, W]) of images `ids` of one split."""
    policy, plain = (cropped_for(images, p) for p in (spec.policy.create(), create_policy("weak2")))
    roles = policy.roles | plain.roles
    draws = draws_of(spec.seed, roles, torch.zeros_like(ids), ids, len(images))
    return policy(images.images[ids], draws), plain(images.images[ids], draws)[:, 1]


def measure_views(spec: ViewsSpec, teacher: Network) -> dict:
    """For the teacher's training images and the test images apart: scores and entropy on each view, agreement, and
    the distribution of w.

    SPLIT_VIEW_top1, _nll, _ece, _entropy (nats); SPLIT_agreement (percent, same class on x and x~);
    SPLIT_w_mean, _w_std, _w_histogram (counts in 40 bins over [0, 2]); SPLIT_floor_*: the same for x and another plain
    crop of x; SPLIT_lowest, SPLIT_highest: ids of the 8 images with the smallest and the largest w; test_examples: id,
    label, w and both views' logits of up to 8 test images, one of each class in turn.
    """
    data = load_data(spec.data)
    metrics: dict = {}
    for split, images in (("train", data.train), ("test", data.test)):
        ids = measured_ids(spec, images, split)
        views, floor = draw_views(spec, images, ids)
        labels = images.labels[ids]
        original, augmented, other = (logits_on(teacher, v) for v in (views[:, 0], views[:, 1], floor))
        for view, logits in (("original", original), ("augmented", augmented)):
            found = scores(logits, labels) | {"entropy": entropy(logits)}
            metrics |= {f"{split}_{view}_{name}": value for name, value in found.items() if name != "top5"}
        w = ccd_weights(original, augmented)
        same = (original.argmax(1) == augmented.argmax(1)).double().mean().item() * 100
        order = w.argsort()
        metrics |= {
            f"{split}_images": len(ids),
            f"{split}_agreement": same,
            **weight_summary(f"{split}_w", w),
            **weight_summary(f"{split}_floor", ccd_weights(original, other)),
            f"{split}_lowest": ids[order[:8]].tolist(),
            f"{split}_highest": ids[order[-8:].flip(0)].tolist(),
        }
        if split == "test":
            metrics["test_examples"] = examples(ids, labels, w, original, augmented)
    return metrics


def examples(ids: Tensor, labels: Tensor, w: Tensor, original: Tensor, augmented: Tensor, count: int = 8) -> list[dict]:
    """The first measured image of each of the first classes: what figures show of single images."""
    first = [(labels == label).nonzero()[0].item() for label in labels.unique().tolist()[:count]]
    return [
        {
            "id": ids[i].item(),
            "label": labels[i].item(),
            "w": w[i].item(),
            "original": [round(z, 3) for z in original[i].tolist()],
            "augmented": [round(z, 3) for z in augmented[i].tolist()],
        }
        for i in first
    ]


def entropy(logits: Tensor) -> float:
    """Mean entropy of the softmax, in nats."""
    log_p = logits.double().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).mean().item()


def weight_summary(name: str, w: Tensor) -> dict:
    """Mean, standard deviation and histogram of w, float [n] in [0, 2]."""
    counts, _ = np.histogram(w.numpy(), bins=BINS, range=(0, 2))
    return {f"{name}_mean": w.mean().item(), f"{name}_std": w.std().item(), f"{name}_histogram": counts.tolist()}
