"""The view bank: V sets of views per image, made once, with what the teacher says of them.

A stored answer belongs to the very pixels that the student sees: another crop of the image would get another answer
(consistent teaching; Beyer et al., CVPR 2022). So pixels and logits are kept together, and the views of one set, x and
x~, as well. Files are memory-mapped: a run reads only what it needs, and runs side by side share the pages.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlib.data.images import ImageSet
from kdlib.data.sampling import training_ids
from kdlib.files import check_room, made_once
from kdlib.lab.evaluate import finite_answers
from kdlib.lab.specs import RunSpec, digest
from kdlib.models.network import Network
from kdlib.randomness import draws_of
from kdlib.views.policy import ViewPolicy

SEED = 0  # of the views: a bank serves the runs of every seed
BATCH = 64  # images whose views are made, and answered, at once
VERSION = 1  # raised when a change alters what a bank holds


@dataclass(frozen=True)
class Bank:
    """ids: ascending int64 [n], the images that it covers; views: uint8 [n, V, v, 3, H, W], v views in each of V sets;
    answers: float16 [n, V, v, N], the teacher's logits. All on the CPU."""

    ids: Tensor
    views: Tensor
    answers: Tensor

    def at(self, ids: Tensor, epochs: Tensor) -> tuple[Tensor, Tensor]:
        """(views [B, v, 3, H, W], answers [B, v, N]) of images in their epochs, both int64 [B]; epoch e takes set
        e mod V, so that after V epochs the same views come again."""
        rows, sets = torch.searchsorted(self.ids, ids.contiguous()), epochs % self.views.shape[1]
        return self.views[rows, sets], self.answers[rows, sets]


def bytes_per_image(sets: int, views: int, size: int, classes: int) -> int:
    """Bytes of one image's V sets of v views: size x size RGB pixels and the logits of `classes` classes in float16."""
    return sets * views * (3 * size**2 + 2 * classes)


def open_bank(spec: RunSpec, teacher: Network, images: ImageSet, policy: ViewPolicy, root: Path) -> Bank:
    """The bank that `spec` asks for, made in `root` on the first call, or where it is damaged; a second process waits
    for the first.

    It covers every image that runs of any seed and few-shot fraction may draw. Raises OSError before any work if the
    disk has no room for it, and FloatingPointError if an answer is not finite, or beyond float16.
    """
    ids = training_ids(images.labels, SEED, 1.0, spec.pool, spec.validation, spec.part)
    folder = root / bank_key(spec, images)
    made_once(folder, lambda temporary: _make(temporary, spec.bank, teacher, images, ids, policy))
    return Bank(ids, *(mapped(folder / f"{name}.npy") for name in ("views", "answers")))


def mapped(path: Path) -> Tensor:
    """A memory-mapped array as a tensor. What is written to the tensor does not reach the file.

    Raises ValueError if the file holds anything else: objects, which NumPy would have to unpickle, are not loaded.
    """
    try:
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except (ValueError, TypeError, EOFError) as error:
        raise ValueError(f"file {path} is no array of numbers: delete its folder, it is made again") from error


def bank_key(spec: RunSpec, images: ImageSet) -> str:
    """16 hex digits of SHA-256 over all that decides the content: images, teacher, views, machine."""
    names = {"version", "pool", "validation", "part", "teacher", "policy", "bank", "machine"}
    fields = spec.model_dump(mode="json", include=names)
    return digest([VERSION, images.fingerprint, spec.view_policy().spread, fields, *spec.asked])


def _make(folder: Path, sets: int, teacher: Network, images: ImageSet, ids: Tensor, policy: ViewPolicy) -> None:
    size = images.view_size or images.size[0]
    if images.view_size is None and images.size[0] != images.size[1]:
        raise ValueError(f"bank = {sets} needs square images; these have {images.size} pixels")
    needed = len(ids) * bytes_per_image(sets, policy.views, size, teacher.num_classes)
    check_room(folder, needed, f"bank = {sets}")
    shape, device = (len(ids), sets, policy.views), teacher.scale.device
    create = np.lib.format.open_memmap
    views = create(folder / "views.npy", mode="w+", dtype=np.uint8, shape=(*shape, 3, size, size))
    answers = create(folder / "answers.npy", mode="w+", dtype=np.float16, shape=(*shape, teacher.num_classes))
    for first in range(0, len(ids), BATCH):
        rows = slice(first, first + BATCH)
        for number in range(sets):
            made = _views(policy, images, ids[rows], number)
            logits = _answers(teacher, made.flatten(0, 1).to(device))
            views[rows, number] = made.numpy()
            answers[rows, number] = logits.view(*made.shape[:2], -1).numpy()
    views.flush()
    answers.flush()


def _views(policy: ViewPolicy, images: ImageSet, ids: Tensor, epoch: int) -> Tensor:
    """The views [B, v, 3, H, W] of one set: those of a run with the bank's seed in that epoch."""
    epochs = torch.full_like(ids, epoch)
    draws = draws_of(SEED, policy.roles, epochs, ids, len(images))
    return policy(images.images[ids], draws)


@torch.no_grad()
def _answers(teacher: Network, views: Tensor) -> Tensor:
    """float16 [B, N], on the CPU."""
    logits = finite_answers(teacher.logits(views)).half().cpu()
    if not logits.isfinite().all():
        raise FloatingPointError("the teacher's logits are beyond the range of float16 (65,504): train without a bank")
    return logits
