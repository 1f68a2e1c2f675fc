"""How good codes are at finding images of the same class: ties count as they would on average."""

import numpy as np
from torch import Tensor


def hamming(queries: Tensor, index: Tensor) -> Tensor:
    """How many bits differ, int64 [q, n], of codes of -1 and +1: [q, L] and [n, L].

    >>> import torch
    >>> hamming(torch.tensor([[1.0, -1.0, 1.0]]), torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])).tolist()
    [[1, 0]]
    """
    return ((queries.shape[1] - queries @ index.T) / 2).round().long()


def first_found(queries: Tensor, index: Tensor, count: int) -> Tensor:
    """Places of the `count` nearest codes of the index, int64 [q, count]; at equal distance lower ones come first.

    queries: codes [q, L]; index: codes [n, L].
    """
    return hamming(queries, index).argsort(dim=1, stable=True)[:, :count]


def average_precision(distances: np.ndarray, relevant: np.ndarray) -> float:
    """The average precision of a whole ranked list, in [0, 1]: its mean over all orders of images at equal distance.

    distances: int [n]; relevant: bool [n]. 0 where nothing is relevant. In a group of g images at one distance, r of
    them relevant, behind k images of which R are relevant, place j = 1..g adds r/g (R + 1 + (j-1)(r-1)/(g-1)) / (k+j);
    the sum is divided by all that is relevant, found early or late.

    >>> import numpy as np
    >>> average_precision(np.array([0, 1, 2]), np.array([True, False, True]))  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    if not relevant.any():
        return 0.0
    _, group = np.unique(distances, return_inverse=True)
    sizes, hits = np.bincount(group), np.bincount(group, weights=relevant)
    of = np.sort(group)
    before, hits_before = (np.concatenate([[0], np.cumsum(x)[:-1]])[of] for x in (sizes, hits))
    size, hit, place = sizes[of], hits[of], np.arange(1, len(of) + 1)
    others = (place - before - 1) * (hit - 1) / np.maximum(size - 1, 1)
    return float((hit / size * (hits_before + 1 + others) / place).sum() / relevant.sum())


def precision_within(distances: np.ndarray, relevant: np.ndarray, radius: int = 2) -> float:
    """The share of relevant images among those of at most so many other bits, in [0, 1]; 0 where there is none.

    distances: int [n]; relevant: bool [n].
    """
    near = distances <= radius
    return float(relevant[near].mean()) if near.any() else 0.0


def search_scores(queries: Tensor, query_labels: Tensor, index: Tensor, index_labels: Tensor) -> dict[str, float]:
    """map and precision2 in percent: means of `average_precision` and of `precision_within` two bits over queries.

    queries: codes [q, L]; index: codes [n, L]; labels: int64, an image is relevant to a query of its class.
    """
    distances = hamming(queries, index).numpy()
    relevant = (query_labels[:, None] == index_labels[None, :]).numpy()
    pairs = list(zip(distances, relevant, strict=True))
    return {
        "map": 100 * float(np.mean([average_precision(d, r) for d, r in pairs])),
        "precision2": 100 * float(np.mean([precision_within(d, r) for d, r in pairs])),
    }
