"""Which training images a run sees, and in which order. Both are functions of (seed, role, epoch, image id)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdlib.randomness import table, uniforms

VALIDATION_SHARE = 0.1  # of the training images: 5,000 of CIFAR-100's 50,000


def stratified(labels: Tensor, ids: Tensor, share: float, seed: int, role: str) -> Tensor:
    """Ascending int64: of each class among `ids`, round(share * members), at least one, drawn by (seed, role, id).

    labels: int64 [N], of the whole set; ids: int64 [n]. Nested in `share`: of one seed and role, a smaller share is
    part of a larger one.
    """
    keys = uniforms(seed, role, 0, len(labels), 1).squeeze(1)
    chosen = []
    for label in labels[ids].unique().tolist():
        members = ids[labels[ids] == label]
        chosen.append(members[keys[members].argsort(stable=True)[: kept(len(members), share)]])
    return torch.cat(chosen).sort().values


def kept(members: int, share: float) -> int:
    """How many images of a class a stratified share keeps: of a class that has some at least one."""
    return max(1, round(share * members)) if members else 0


def validation_ids(labels: Tensor) -> Tensor:
    """The fixed validation split: 10 % of the training images, the same for every seed and every run."""
    return stratified(labels, torch.arange(len(labels)), VALIDATION_SHARE, 0, "validation split")


PARTS = ("all", "first half", "second half")


def training_ids(
    labels: Tensor,
    seed: int,
    fraction: float,
    pool: int | None,
    validation: bool,
    part: str = "all",
    classes: Sequence[str] = (),
) -> Tensor:
    """Ascending int64 ids of the images that a run trains on.

    validation: leave the validation split out (a pool always does). part: all that is left, or one of two fixed
    stratified halves of it, the same for every seed. pool: a fixed stratified draw of that many images
    (rounded by class), the same for every seed. fraction in (0, 1]: the few-shot share of what remains, drawn by the
    seed. Raises ValueError, see `class_counts`.
    """
    class_counts(labels.bincount().tolist(), fraction, pool, validation, part, classes)
    ids = torch.arange(len(labels))
    if validation or pool is not None:
        ids = ids[~torch.isin(ids, validation_ids(labels))]
    if part != "all":
        first = stratified(labels, ids, 0.5, 0, "first half")
        ids = first if part == "first half" else ids[~torch.isin(ids, first)]
    if pool is not None:
        ids = stratified(labels, ids, pool / len(ids), 0, "pool")
    return stratified(labels, ids, fraction, seed, "subset") if fraction < 1 else ids


def class_counts(
    class_sizes: Sequence[int],
    fraction: float,
    pool: int | None,
    validation: bool,
    part: str = "all",
    classes: Sequence[str] = (),
) -> list[int]:
    """How many images of each class `training_ids` gives, from the sizes of the classes alone.

    classes: their names. Raises ValueError if nothing is left of a class that has images: it would be asked for in the
    test without ever being taught; or if the pool is larger than what may be trained on.

    >>> class_counts([100, 20], 0.5, None, validation=True)
    [45, 9]
    """
    sizes = list(class_sizes)
    if validation or pool is not None:
        sizes = [size - kept(size, VALIDATION_SHARE) for size in sizes]
        _check_left(sizes, class_sizes, "that the validation split takes", classes)
    if part != "all":
        first = [kept(size, 0.5) for size in sizes]
        sizes = first if part == "first half" else [size - half for size, half in zip(sizes, first, strict=True)]
        _check_left(sizes, class_sizes, "of which the second half gets none", classes)
    if pool is not None:
        if pool > sum(sizes):
            raise ValueError(f"pool = {pool} is larger than the {sum(sizes)} images that may be trained on")
        share = pool / sum(sizes)
        sizes = [kept(size, share) for size in sizes]
    return [kept(size, fraction) for size in sizes] if fraction < 1 else sizes


def _check_left(left: Sequence[int], sizes: Sequence[int], why: str, classes: Sequence[str]) -> None:
    gone = [label for label, (now, before) in enumerate(zip(left, sizes, strict=True)) if before and not now]
    if gone:
        first, others = gone[0], f", as have {len(gone) - 1} other classes" if len(gone) > 1 else ""
        name, images = repr(classes[first]) if classes else first, "image" if sizes[first] == 1 else "images"
        raise ValueError(
            f"class {name} has {sizes[first]} training {images} {why}{others}: none is left to train on, so give it "
            "more images or leave the class out"
        )


def training_count(
    class_sizes: Sequence[int],
    fraction: float,
    pool: int | None,
    validation: bool,
    part: str = "all",
    classes: Sequence[str] = (),
) -> int:
    """How many ids `training_ids` gives; raises ValueError where that does, see `class_counts`."""
    return sum(class_counts(class_sizes, fraction, pool, validation, part, classes))


@dataclass(frozen=True)
class Order:
    """An endless stream of images: epoch after epoch, each a random permutation of `ids`, cut into batches.

    Batches run across the end of an epoch, so that arms with 1, 2 or 4 views per image make exactly equal numbers of
    steps. ids: tuple of image ids; total: size of the whole set; batch: images per step.
    """

    ids: tuple[int, ...]
    total: int
    batch: int
    seed: int
    _kept: dict[int, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """(image ids int64 [batch], epoch of each int64 [batch]) of step 0, 1, 2, ...: no state is kept."""
        position = torch.arange(step * self.batch, (step + 1) * self.batch)
        epochs, places = position // len(self.ids), position % len(self.ids)
        ids = torch.empty(self.batch, dtype=torch.int64)
        for epoch in epochs.unique().tolist():
            here = epochs == epoch
            ids[here] = self._permutation(epoch)[places[here]]
        return ids, epochs

    def _permutation(self, epoch: int) -> Tensor:
        """The images in the order of an epoch, which is kept while it is in use."""
        if epoch not in self._kept:
            for old in [other for other in self._kept if abs(other - epoch) > 1]:
                del self._kept[old]
            members = torch.tensor(self.ids)
            keys = table(self.seed, "order", epoch, self.total, 1).squeeze(1)[members]
            self._kept[epoch] = members[keys.argsort(stable=True)]
        return self._kept[epoch]
