"""Batches in which a method has turned every view by quarter turns: four in a row are one set."""

from torch import Tensor

from kdlib.methods.base import Batch


def set_labels(batch: Batch) -> Tensor:
    """int64 [B * V / 4]: the label of each set of four turned views."""
    return batch.view_labels[::4]


def count_sets(name: str, values: Tensor) -> int:
    """B of values [4 B, ...]. Raises ValueError, in one sentence, unless their rows are whole sets of four."""
    if len(values) % 4:
        raise ValueError(
            f"{name} has {len(values)} rows; allowed are multiples of 4: an image and its three turns in a row"
        )
    return len(values) // 4


def turned_views(values: Tensor) -> Tensor:
    """The three turned views of each set: [4 M, ...] -> [3 M, ...]."""
    return values.view(-1, 4, *values.shape[1:])[:, 1:].flatten(0, 1)
