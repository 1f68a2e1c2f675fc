"""A spec made concrete, before the first step: the images, the order, the views, the networks."""

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlib.data import paths
from kdlib.data.classes import unlike
from kdlib.data.images import ImageSet, load_data
from kdlib.data.sampling import Order, class_counts, validation_ids
from kdlib.lab import distributed
from kdlib.lab.bank import Bank, open_bank
from kdlib.lab.recipe import Public
from kdlib.lab.specs import RunSpec
from kdlib.lab.survey import BEFORE, cropped_for, surveyed
from kdlib.methods import Method, Step, create_method, find_method
from kdlib.models import create_model
from kdlib.models.checkpoints import PUBLIC
from kdlib.models.hollow import hollow
from kdlib.models.network import Network
from kdlib.randomness import Tables, draws_of, seeded, stream_seed, uniforms
from kdlib.views.policies import create_policy
from kdlib.views.policy import ViewPolicy, partner_ids

SMALL = 32  # pixels of a side, from which on every network reads an image, if it is not alone
WEAK_VIEW_IMAGES = 5000  # at most: for accuracy on training images and for re-estimating BatchNorm


@dataclass(frozen=True)
class Task:
    """What a run works on."""

    spec: RunSpec
    train: ImageSet
    ids: Tensor
    pixels: Tensor  # all training images, on the device if they fit
    targets: Tensor  # and their labels
    images: Tensor  # the test images, or those of the validation split
    labels: Tensor
    order: Order
    policy: ViewPolicy
    method: Method
    steps: int
    bank: Bank | None = None
    limits: tuple[float, ...] | None = None  # what the method made of the teacher's survey
    known: Mapping[str, Tensor] = field(default_factory=dict)  # instead of uniforms, by role and image, see `surveyed`
    answers: Tensor | None = None  # the teacher's to the fresh views of every step, [steps, B, V, N], if kept
    tables: Tables = uniforms  # where its draws are looked up

    @classmethod
    def of(cls, spec: RunSpec, teacher: Network | None, banks: Path | None = None) -> "Task":
        """Loads the data, makes the student, and opens its view bank in `banks` (by default `paths.bank_root()`), which
        is made there if it is new. Raises ValueError or FileNotFoundError before any work."""
        data = load_data(spec.data)
        ids = spec.training_ids(data.train.labels, data.train.classes)
        steps = len(ids) * spec.recipe.views_per_image // spec.recipe.views_per_step
        if steps < 1:
            raise ValueError(
                f"views_per_image = {spec.recipe.views_per_image} makes no step: {len(ids)} images need at least "
                f"{math.ceil(spec.recipe.views_per_step / len(ids))}"
            )
        if spec.images_per_step % (distributed.world() * spec.recipe.micro_batches):
            parts = f" in {spec.recipe.micro_batches} parts each" if spec.recipe.micro_batches > 1 else ""
            raise ValueError(
                f"views_per_step = {spec.recipe.views_per_step} makes {spec.images_per_step} images per step; "
                f"{distributed.world()} processes{parts} cannot share them equally"
            )
        if teacher is not None and teacher.num_classes != len(data.train.classes):
            raise ValueError(
                f"teacher has {teacher.num_classes} classes, data {spec.data!r} has {len(data.train.classes)}"
            )
        check_public(spec, data.train.classes)
        method = create(spec, teacher, data.train, ids).to(spec.machine.device)
        policy = cropped_for(data.train, spec.view_policy())
        order = Order(tuple(ids.tolist()), len(data.train), spec.images_per_step, spec.seed)
        held = validation_ids(data.train.labels) if spec.validation else None
        images, labels = (
            (data.test.evaluated, data.test.labels)
            if held is None
            else (data.train.evaluated[held], data.train.labels[held])
        )
        pixels, targets = resident(data.train.images, spec.machine.device), data.train.labels.to(spec.machine.device)
        bank = spec.bank and open_bank(spec, method.teacher, data.train, policy, banks or paths.bank_root())
        told = surveyed(spec, method, policy, data.train, ids)
        return cls(spec, data.train, ids, pixels, targets, images, labels, order, policy, method, steps, bank, *told)

    def draws(self, roles: dict, ids: Tensor, epochs: Tensor) -> dict[str, Tensor]:
        """Uniforms of each role, float32 [B, n], for images `ids` in their epochs."""
        return draws_of(self.spec.seed, roles, epochs, ids, len(self.train), self.tables)

    def batch(self, step: int) -> Step:
        """The input of optimiser step 0, 1, 2, ...: this process's share of it."""
        ids, epochs = self.shown(step)
        seen = self._stored(ids, epochs) if self.bank else self.made(ids, *self.drawn(ids, epochs))
        return Step(**self.told(step, ids, epochs) | seen)

    def shown(self, step: int) -> tuple[Tensor, Tensor]:
        """The images of a step, int64 [B], and the epoch of each, of which this process sees its share."""
        ids, epochs = (part[distributed.rank() :: distributed.world()] for part in self.order.at(step))
        return ids, epochs

    def told(self, step: int, ids: Tensor, epochs: Tensor) -> dict[str, Any]:
        """The fields of a step that are not of its views, for the images that are `shown`."""
        device = self.targets.device
        fields = {
            "labels": self.targets[ids.to(device, non_blocking=True)],
            "keys": self.draws({"method": 1}, ids, epochs)["method"].squeeze(1).to(device, non_blocking=True),
            "index": torch.searchsorted(self.ids, ids.contiguous()),
            "seed": stream_seed(self.spec.seed, f"method step of process {distributed.rank()}", step),
            "epoch": self.epoch(step),
            "epochs": self.epochs,
            "limits": self.limits,
        }
        answers = None if self.answers is None else self.answers[step].to(device, non_blocking=True)
        return fields if answers is None else fields | {"answers": answers}

    def epoch(self, step: int) -> int:
        """That of the first image of a step, from 1."""
        return step * self.order.batch // len(self.ids) + 1

    def _stored(self, ids: Tensor, epochs: Tensor) -> dict[str, Tensor]:
        """The fields of a step that come from the view bank."""
        views, answers = (part.to(self.targets.device, non_blocking=True) for part in self.bank.at(ids, epochs))
        return {"views": views, "answers": answers}

    def drawn(self, ids: Tensor, epochs: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """What decides the views of images that are made now: the policy's draws, and the ids of partners, if any."""
        roles = {role: count for role, count in self.policy.roles.items() if role not in self.known}
        draws = self.draws(roles, ids, epochs) | {role: rows[ids].float() for role, rows in self.known.items()}
        return draws, partner_ids(draws, self.ids) if self.policy.mixes else None

    def made(self, ids: Tensor, draws: dict[str, Tensor], partners: Tensor | None) -> dict[str, Tensor | None]:
        """The fields of a step that come from views made now, of what was `drawn`."""
        device = self.targets.device
        views = self.policy(self.raw(ids), draws, None if partners is None else self.raw(partners))
        shares = self.policy.shares(draws, *views.shape[-2:])
        return {
            "views": views,
            "shares": None if shares is None else shares.to(device, non_blocking=True),
            "partners": None if partners is None else self.targets[partners.to(device, non_blocking=True)],
        }

    def raw(self, ids: Tensor) -> Tensor:
        """Training images uint8 [B, 3, H, W] on the device; ids int64 [B] on the CPU."""
        return self.pixels[ids.to(self.pixels.device, non_blocking=True)].to(self.targets.device, non_blocking=True)

    @property
    def epochs(self) -> float:
        """How often the run sees each image."""
        return self.spec.recipe.views_per_image / self.policy.views

    @property
    def distinct_views(self) -> int:
        """How many different views of each image the run sees; a bank's come again and again."""
        epochs = self.epochs if self.spec.bank is None else min(self.epochs, self.spec.bank)
        return round(epochs * self.policy.distinct)

    def weak_views(self) -> tuple[Tensor, Tensor]:
        """One crop and flip of up to WEAK_VIEW_IMAGES training images, with labels."""
        ids = self.ids[:: math.ceil(len(self.ids) / WEAK_VIEW_IMAGES)]
        plain = cropped_for(self.train, create_policy("weak1"))
        draws = self.draws(plain.roles, ids, torch.full_like(ids, BEFORE))
        return plain(self.train.images[ids], draws)[:, 0], self.train.labels[ids]


def check_public(spec: RunSpec, classes: tuple[str, ...]) -> None:
    """Raises ValueError if a public teacher was trained on classes other than these: its answers would mean others."""
    if isinstance(spec.teacher, Public) and (other := unlike(PUBLIC[spec.teacher.checkpoint].data, classes)):
        raise ValueError(
            f"teacher {spec.teacher.checkpoint} does not know the classes of {spec.data!r}: it has {other}"
        )


def check_views(spec: RunSpec) -> None:
    """Makes the views of one image. Raises ValueError if the run's views cannot be made of the images of its data, if a
    network cannot read them, or if nothing of a class would be left to train on."""
    images, one = load_data(spec.data).train, torch.zeros(1, dtype=torch.int64)
    sizes = images.labels.bincount().tolist()
    class_counts(sizes, spec.fraction, spec.pool, spec.validation, spec.part, images.classes)
    policy, raw = cropped_for(images, spec.view_policy()), images.images[one]
    views = policy(raw, draws_of(spec.seed, policy.roles, one, one, len(images)), raw if policy.mixes else None)
    share = distributed.world() * spec.recipe.micro_batches
    at_once = max(1, spec.images_per_step // share) * views.shape[1]
    for role, name, given in zip(
        ("student", "teacher"), (spec.student, spec.teacher_model), spec.resolutions, strict=True
    ):
        size = tuple(given(views[0]).shape[-2:])
        if name is not None and (at_once == 1 or min(size) < SMALL):
            check_network(role, name, at_once, size)


@cache
def check_network(role: str, name: str, views: int, size: tuple[int, int]) -> None:
    """Raises ValueError if a network cannot read so many views of that size at once: its layers would be left with
    nothing, or, in training, with one value, which has no variance."""
    try:
        with hollow():
            create_model(name, 2).train(role == "student")(torch.empty(views, 3, *size))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{role} = {name!r} cannot take {views} views of {size[1]}x{size[0]} pixels at once "
            f"({textwrap.shorten(str(error), 120)}): give larger images, or more views to each part of a step"
        ) from error


def resident(images: Tensor, device: str) -> Tensor:
    """All images on the device, or as they are (memory-mapped) where they would fill half of a GPU's memory."""
    if device == "cuda" and images.nbytes > torch.cuda.get_device_properties(0).total_memory / 2:
        return images
    return images.to(device)


def create(spec: RunSpec, teacher: Network | None, images: ImageSet, ids: Tensor) -> Method:
    """The spec's method around a fresh student, or, if it trains only a head, around the teacher."""
    student = teacher
    if find_method(spec.method).trains_student:
        with seeded(spec.seed, "student init"):
            backbone = create_model(spec.student, len(images.classes))
        student = Network(backbone, images.mean, images.std, spec.machine.precision)
    with seeded(spec.seed, "head init"):
        other = teacher if student is not teacher else None
        return create_method(spec.method, student, other, images.labels[ids], **spec.options)
