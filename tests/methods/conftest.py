"""Made-up outputs of students and teachers, small networks, and reference formulas in NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor, nn

from kdlib.methods import METHODS, Batch, Loss, Method, Step, create_method, method_options, new_head
from kdlib.models import Output, create_model
from kdlib.models.network import Network
from kdlib.randomness import seeded

IMAGES, CLASSES = 6, 5


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class Recorder(nn.Module):
    """A memory that keeps what it was asked and answers 7."""

    def forward(self, *asked) -> torch.Tensor:
        self.asked = asked
        return torch.tensor(7.0)


def with_recorder(batch: Batch) -> Batch:
    return Batch(batch.step, batch.student, batch.teacher, Recorder())


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Network]:
    """make_network(seed, name, head_of): fixed weights; with the head of a method, if one is named."""

    def make(seed: int, name: str = "resnet8", head_of: str | None = None) -> Network:
        with seeded(seed, "test"):
            backbone = create_model(name, CLASSES)
            head = new_head(head_of, backbone, {}) if head_of else None
        return Network(backbone, (0.5,) * 3, (0.25,) * 3, head=head)

    return make


@pytest.fixture(scope="session")
def make_method(make_network) -> Callable[..., Method]:
    """make_method(name, seed, **options): the method around small networks, with the teacher and head it needs."""

    def make(name: str, seed: int = 0, **options) -> Method:
        definition = METHODS[name]
        taught = definition.needs_teacher and definition.trains_student
        teacher = make_network(100 + seed, head_of=next(iter(definition.taught_by), None)) if taught else None
        if name == "crd":
            options = {"negatives": 3} | options
        with seeded(seed, "head"):
            return create_method(name, make_network(seed), teacher, torch.arange(IMAGES) % CLASSES, **options)

    return make


@pytest.fixture(scope="session")
def make_step() -> Callable[..., Step]:
    """make_step(views, size, **fields): random images of one step."""

    def make(views: int, size: int = 8, **fields) -> Step:
        images = torch.randint(0, 256, (IMAGES, views, 3, size, size), generator=draw()).to(torch.uint8)
        labels, keys = torch.arange(IMAGES) % CLASSES, torch.rand(IMAGES, generator=draw(1))
        given = {"views": images, "labels": labels, "keys": keys, "index": torch.arange(IMAGES), "limits": (-8.0, -6.0)}
        return Step(**given | fields)

    return make


@pytest.fixture(scope="session")
def make_batch(make_step) -> Callable[..., Batch]:
    """make_batch(views, teacher, extra, **fields): random outputs in double precision; the student's need gradients.

    extra: the shape of what the heads return for one view.
    """

    def make(views: int, teacher: bool = True, extra: tuple[int, ...] | None = None, **fields) -> Batch:
        rows, generator = IMAGES * views, draw(3)

        def output(width: int) -> Output:
            def numbers(*shape: int) -> Tensor:
                return 3 * torch.randn(rows, *shape, generator=generator, dtype=torch.float64)

            maps = (numbers(2, 2, 2), numbers(width, 2, 2))
            return Output(numbers(CLASSES), numbers(width), maps, None if extra is None else numbers(*extra))

        student, other = output(4), output(7)
        student.logits.requires_grad_()
        return Batch(make_step(views, **fields), student, other if teacher else None)

    return make


@pytest.fixture(scope="session")
def loss_of() -> Callable[..., Loss]:
    """loss_of(name, batch, **options): terms and records of a method on made-up outputs."""
    return lambda name, batch, **options: METHODS[name].loss(batch, method_options(name, options))


@pytest.fixture(scope="session")
def divergence() -> Callable[[Tensor, Tensor, float], np.ndarray]:
    """divergence(student, teacher, temperature): SciPy's KL(t||s) of each row."""

    def rows(student: Tensor, teacher: Tensor, temperature: float) -> np.ndarray:
        q, p = (special.softmax(x.detach().double().numpy() / temperature, axis=-1) for x in (student, teacher))
        return special.rel_entr(p, q).sum(-1)

    return rows


@pytest.fixture(scope="session")
def surprise() -> Callable[[Tensor, Tensor], np.ndarray]:
    """surprise(logits, labels): SciPy's cross-entropy of each row."""

    def rows(logits: Tensor, labels: Tensor) -> np.ndarray:
        log_p = special.log_softmax(logits.detach().double().numpy(), axis=1)
        return -log_p[np.arange(len(labels)), labels.numpy()]

    return rows
