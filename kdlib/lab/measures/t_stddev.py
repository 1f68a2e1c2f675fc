"""T.stddev: how far a teacher's mean answer varies between draws of images (Wang et al., NeurIPS 2022)."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from kdlib.data.images import ImageSet, load_data
from kdlib.data.sampling import training_ids
from kdlib.lab.evaluate import logits_on
from kdlib.lab.measurements import SpreadSpec
from kdlib.lab.survey import cropped_for
from kdlib.models.network import Network
from kdlib.randomness import draws_of, uniforms
from kdlib.views.policy import partner_ids


def measure_spread(spec: SpreadSpec, teacher: Network) -> dict:
    """t_stddev, its standard error t_stddev_se (None for two draws), label_spread, draws, images_per_draw, pool.

    A pass deals the images of the pool in random order into draws; what is left over is not used. The policies of one
    seed share the order and the crops. Raises ValueError where there are fewer than two draws.
    """
    images = load_data(spec.data).train
    pool = training_ids(images.labels, spec.seed, 1.0, spec.pool, validation=False)
    count = spec.passes * (len(pool) // spec.images)
    if count < 2:
        raise ValueError(
            f"images = {spec.images} and passes = {spec.passes} make {count} draws of {len(pool)} images; allowed are "
            "numbers that make at least 2"
        )
    views = (drawn_views(spec, images, pool, *draw) for draw in draws(spec, images, pool))
    value, error = mean_stddev(np.stack([mean_answer(teacher, some) for some in views]))
    return {
        "t_stddev": value,
        "t_stddev_se": error,
        "label_spread": label_spread(images.labels[pool], spec.images),
        "draws": count,
        "images_per_draw": spec.images,
        "pool": len(pool),
    }


def draws(spec: SpreadSpec, images: ImageSet, pool: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(number of the pass, int64 [images] ids) of every complete draw."""
    for number in range(spec.passes):
        keys = uniforms(spec.seed, "order of draws", number, len(images), 1).squeeze(1)
        order = pool[keys[pool].argsort(stable=True)]
        yield from ((number, ids) for ids in order.split(spec.images) if len(ids) == spec.images)


def drawn_views(spec: SpreadSpec, images: ImageSet, pool: Tensor, number: int, ids: Tensor) -> Tensor:
    """uint8 [2 * images, 3, H, W]: the clean view and the policy's view of each image, drawn for a pass.

    Partners of a policy that mixes come from the pool, as those of a run come from its training images.
    """
    policy, epochs = cropped_for(images, spec.policy.create()), torch.full_like(ids, number)
    drawn = draws_of(spec.seed, policy.roles, epochs, ids, len(images))
    partners = None
    if policy.mixes:
        partners = images.images[partner_ids(drawn, pool)].to(spec.machine.device)
    return policy(images.images[ids].to(spec.machine.device), drawn, partners).flatten(0, 1)


def mean_answer(teacher: Network, views: Tensor) -> np.ndarray:
    """float64 [classes]: u, the teacher's mean probability vector over views uint8 [n, 3, H, W]."""
    return logits_on(teacher, views).double().softmax(1).mean(0).numpy()


def mean_stddev(answers: np.ndarray) -> tuple[float, float | None]:
    """The mean over classes of the standard deviation over draws (n - 1), and its standard error.

    answers: float64 [draws, classes]. The error is the jackknife's: whole draws are left out, one at a time, so the
    dependence between classes is kept, and no random numbers are needed, unlike the bootstrap. It takes the draws as
    independent. Those of one pass share no image, which correlates them by about -1 / (draws of a pass - 1): no matter
    for dozens of draws a pass, too rough for two or three. It covers the draws, neither teachers nor pools. None for
    two draws.
    """
    n = len(answers)
    squares = (answers - answers.mean(0)) ** 2
    total = squares.sum(0)
    value = float(np.sqrt(total / (n - 1)).mean())
    if n < 3:
        return value, None
    without = np.sqrt(np.maximum(total - squares * n / (n - 1), 0) / (n - 2)).mean(1)  # [draws], each left out
    return value, float(np.sqrt((n - 1) * without.var()))


def label_spread(labels: Tensor, images: int) -> float:
    """T.stddev of a teacher that gives the label with probability 1 on every view: the spread of the labels alone.

    labels: int64 [N], of the pool; the count of a class among `images` of them is hypergeometric.
    """
    shares = labels.bincount().double() / len(labels)
    left = (len(labels) - images) / max(1, len(labels) - 1)
    return (shares * (1 - shares) / images * left).sqrt().mean().item()
