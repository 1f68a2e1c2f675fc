"""Pictures to look at: tiles of two colour photographs that scikit-learn ships, and views drawn as in training."""

from itertools import islice, zip_longest

import torch
from torch import Tensor

from kdlib.data.images import ImageSet
from kdlib.randomness import draws_of
from kdlib.views import functional
from kdlib.views.policy import ViewPolicy


def photographs(count: int = 8, size: int = 32) -> Tensor:
    """uint8 [count, 3, size, size]: square tiles of a temple and a flower, in colour, evenly spread over both."""
    from sklearn.datasets import load_sample_images  # takes half a second, and few chapters need it

    tiles = []
    for photograph in load_sample_images().images:
        image = torch.from_numpy(photograph.copy()).permute(2, 0, 1)
        side = image.shape[1] // 2
        lefts = torch.linspace(0, image.shape[2] - side, (count + 1) // 2).long().tolist()
        tiles += [image[:, side // 2 : side // 2 + side, left : left + side] for left in lefts]
    return functional.resize(torch.stack(tiles[:count]), [size, size], antialias=True)


def some_ids(images: ImageSet, count: int) -> list[int]:
    """The places of what `some_images` shows."""
    by_class = [(images.labels == label).nonzero()[:, 0].tolist() for label in range(len(images.classes))]
    turns = (image for turn in zip_longest(*by_class) for image in turn if image is not None)
    return list(islice(turns, count))


def some_images(images: ImageSet, count: int) -> Tensor:
    """uint8 [count, 3, H, W]: the first image of each class, then the second of each, and so on, up to `count`."""
    return images.images[some_ids(images, count)]


def views_of(policy: ViewPolicy, images: Tensor, seed: int = 0, epoch: int = 0) -> Tensor:
    """uint8 [n, V, 3, H, W]: the views of images [n, 3, H, W], with the stream of random numbers that training uses."""
    ids = torch.arange(len(images))
    draws = draws_of(seed, policy.roles, torch.full_like(ids, epoch), ids, len(ids))
    return policy(images, draws)
