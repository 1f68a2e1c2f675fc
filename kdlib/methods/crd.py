"""Contrastive Representation Distillation (Tian et al., ICLR 2020): an image's own embedding among many others."""

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Memory, Term, check_tensor, summed
from kdlib.methods.kd import KDOptions, labels_and_kd
from kdlib.methods.numerics import widened
from kdlib.methods.taxonomy import Taxonomy
from kdlib.models import Backbone
from kdlib.records import Number, Whole


def crd_scores(anchor: Tensor, bank: Tensor, index: Tensor, temperature: float = 0.07) -> Tensor:
    """exp(<e, m> / temperature), not normalised: float [B, K + 1] (Tian et al., ICLR 2020).

    anchor: embeddings e [B, d]; bank: embeddings m [n, d]; both of unit rows, which bounds the scores. index: int64
    [B, K + 1], rows of the bank: the positive in column 0, then the negatives.
    """
    anchor, bank = widened(anchor), widened(bank)
    if len(bank) <= index.shape[1] * bank.shape[1]:  # all B n products take less memory than B (K + 1) rows of the bank
        products = (anchor @ bank.T).gather(1, index)
    else:
        products = (bank[index] @ anchor[:, :, None]).squeeze(2)
    return (products / temperature).exp()


def crd_loss(scores: Tensor, z: Tensor, images: int) -> Tensor:
    """Noise-contrastive loss of CRD (Tian et al., ICLR 2020) in one direction, a scalar.

    -1/B sum [log(v+ / (v+ + K/n + e)) + sum_negatives log((K/n) / (v- + K/n + e))], with v = scores / z and e = 1e-7.
    scores: `crd_scores` [B, K + 1], > 0, the positive in column 0; z: scalar tensor > 0; images: n, rows of the bank.
    """
    noise, tiny = (scores.shape[1] - 1) / images, 1e-7
    positive, negatives = (scores / z).tensor_split([1], dim=1)
    right = positive.log() - (positive + noise + tiny).log()
    # log1p, because v- is far below K/n: a difference of logarithms would lose most digits of thousands of terms.
    wrong = -torch.log1p((negatives + tiny) / noise)
    return -(right.sum() + wrong.sum()) / len(scores)


class ContrastiveMemory(Memory):
    """CRD's embeddings and memory banks (Tian et al., ICLR 2020, with K negatives for each image).

    Two linear layers, trained with the student, project the pooled features of student and teacher to the unit sphere.
    Each network has a bank with one row per training image. A student embedding is scored against the teacher's bank
    and the reverse. The negatives of an image are drawn afresh at each step from images of other classes: without
    replacement if there are at least K, else with replacement; all views of an image share them. Rows are updated from
    original views only. labels: int64 [n], of the training images.

    Raises ValueError if all training images are of one class.
    """

    DIMENSIONS, MOMENTUM = 128, 0.5

    student_bank: Tensor
    teacher_bank: Tensor
    scales: Tensor
    labels: Tensor
    by_class: Tensor  # int64 [n]: the places of the images, sorted by class

    def __init__(self, student_dim: int, teacher_dim: int, labels: Tensor, negatives: int):
        super().__init__()
        if len(labels) and labels.min() == labels.max():
            raise ValueError("negatives cannot be drawn: the training images are all of one class")
        self.negatives = negatives
        self.student, self.teacher = nn.Linear(student_dim, self.DIMENSIONS), nn.Linear(teacher_dim, self.DIMENSIONS)
        bound = math.sqrt(3 / self.DIMENSIONS)
        for name in ("student_bank", "teacher_bank"):
            self.register_buffer(name, torch.empty(len(labels), self.DIMENSIONS).uniform_(-bound, bound))
        self.register_buffer("scales", torch.zeros(2))  # Z of both directions; 0 until the first batch sets it
        # Negatives are drawn where the banks are: drawn elsewhere, K of each image would be copied in every step.
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("by_class", labels.argsort(stable=True), persistent=False)
        self.fewest = len(labels) - int(labels.bincount().max()) if len(labels) else 0  # images of other classes
        self.pending: list[tuple[Tensor, Tensor, Tensor]] = []  # of the parts of this step

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor, views: int, seed: int) -> Tensor:
        """The sum of both directions' losses, a scalar.

        student, teacher: float [B * V, d], pooled features, interleaved by image; index: int64 [B], places of the
        images among the training images; seed: of this step's draws.
        """
        own, others = F.normalize(self.student(student)), F.normalize(self.teacher(teacher))
        index = index.to(self.labels.device, non_blocking=True)
        columns = torch.cat([index[:, None], self.draw(index, seed)], dim=1).repeat_interleave(views, 0)
        images = len(self.student_bank)
        scores = (
            crd_scores(own, self.teacher_bank, columns),
            crd_scores(others, self.student_bank, columns),
        )
        if self.training:
            first = images * gather(torch.stack([s.detach().mean() for s in scores])[None]).mean(0)
            self.scales.copy_(torch.where(self.scales > 0, self.scales, first))
            self.pending.append((columns[::views, 0], own.detach()[::views], others.detach()[::views]))
        return summed(crd_loss(s, z, images) for s, z in zip(scores, self.scales, strict=True))

    def draw(self, index: Tensor, seed: int) -> Tensor:
        """int64 [B, K]: places of images of other classes than those at `index`, int64 [B] beside the banks.

        A seed gives other places on a GPU than on a CPU, of the same distribution.
        """
        device = self.labels.device
        generator = torch.Generator(device).manual_seed(seed)
        labels, count = self.labels[index], len(self.labels)
        own_class = self.labels[None] == labels[:, None]  # [B, n]
        others = count - own_class.sum(1)
        if self.fewest >= self.negatives:
            keys = torch.rand(len(index), count, generator=generator, device=device)
            keys.masked_fill_(own_class, 2.0)
            return keys.topk(self.negatives, largest=False, sorted=False).indices
        start = torch.searchsorted(self.labels[self.by_class], labels)[:, None]  # an image skips its own class's block
        uniform = torch.rand(
            len(index), self.negatives, generator=generator, dtype=torch.float64, device=device
        )  # fmt: skip
        place = (uniform * others[:, None]).long()
        return self.by_class[place + (place >= start) * (count - others)[:, None]]

    @torch.no_grad()
    def update(self) -> None:
        """Moves the rows of the last step: m <- normalise(0.5 m + 0.5 e), each bank with its own network's e.

        Called after the optimiser's step, because the gradient still needs the rows as they were scored.
        """
        for part in self.pending:
            index, *embeddings = (gather(rows) for rows in part)
            for bank, embedding in zip((self.student_bank, self.teacher_bank), embeddings, strict=True):
                moved = self.MOMENTUM * bank[index] + (1 - self.MOMENTUM) * embedding
                bank[index] = F.normalize(moved)
        self.pending.clear()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one view, forward: both projections, and the scores of K + 1 rows of both banks."""
        projections = self.student.weight.numel() + self.teacher.weight.numel()
        return projections + 2 * (self.negatives + 1) * self.DIMENSIONS

    @property
    def bank_bytes(self) -> int:
        """Bytes of both banks."""
        return sum(bank.numel() * bank.element_size() for bank in (self.student_bank, self.teacher_bank))


class CRDOptions(KDOptions):
    """weight: of the contrastive term; negatives: K, drawn for each image. Published without the KD term."""

    kd_weight: Number = Field(0.0, ge=0)
    weight: Number = Field(0.8, ge=0, title=r"\gamma")
    negatives: Whole = Field(16384, ge=1)


def memory(student: Backbone, teacher: Backbone | None, labels: Tensor, options: CRDOptions) -> ContrastiveMemory:
    """The memory of the training images for a pair of networks."""
    if teacher is None:
        raise ValueError("teacher is None: its embeddings are remembered; allowed is a network")
    return ContrastiveMemory(student.feature_dim, teacher.feature_dim, labels, options.negatives)


def crd(batch: Batch, options: CRDOptions) -> Loss:
    """CE + gamma (NCE of the student's embeddings + NCE of the teacher's)."""
    if batch.memory is None:
        raise ValueError("memory is None: it makes and remembers the embeddings; allowed is a ContrastiveMemory")
    pooled = (output.pooled_feature.float() for output in (batch.student, batch.teacher_output))
    contrast = batch.memory(*pooled, batch.step.index, batch.views, batch.step.seed)
    return labels_and_kd(batch, options) | {"crd": Term(contrast, options.weight)}, {}


DEFAULTS = CRDOptions()


class CRDLoss(nn.Module):
    """NCE of the student's embeddings + NCE of the teacher's, for a training loop of your own; published with the
    weight 0.8.

    It holds a `ContrastiveMemory`, whose parameters go to the optimiser with the student's, and whose banks are part of
    the state dict. Rows that a call in training mode scored move when the next such call begins, which is after your
    optimiser's step; `update` moves them at once, as before the state is saved.

    student_dim, teacher_dim: widths d of the features; labels: int64 [n], of the training images; negatives: K, 1 and
    up, drawn for each image. Raises ValueError for other values, and if all training images are of one class.

    >>> import torch
    >>> loss = CRDLoss(64, 256, labels=torch.arange(1000) % 10, negatives=512)
    >>> student, teacher, index = torch.randn(8, 64, requires_grad=True), torch.randn(8, 256), torch.arange(8)
    >>> loss(student, teacher, index).backward()
    """

    def __init__(self, student_dim: int, teacher_dim: int, labels: Tensor, negatives: int = DEFAULTS.negatives):
        super().__init__()
        self.options = CRDOptions(negatives=negatives)
        check_tensor("labels are", labels, "int64", "n")
        self.memory = ContrastiveMemory(student_dim, teacher_dim, labels, negatives)

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        """A scalar; negatives are drawn by a seed from torch's default CPU generator.

        student, teacher: floating [B V, d], pooled features of V views of each image in a row, the original view first;
        index: int64 [B], places of the images among the training images, 0 to n - 1. No gradient reaches the teacher's
        features. Raises ValueError for other shapes, types and places.
        """
        check_tensor("student is", student, "floating", "B V", self.memory.student.in_features)
        check_tensor("teacher is", teacher, "floating", len(student), self.memory.teacher.in_features)
        views = self._count_views(student, index)
        if self.training:
            self.update()
        seed = int(torch.randint(2**63 - 1, ()))
        return self.memory(student.float(), teacher.detach().float(), index, views, seed)

    def update(self) -> None:
        """Moves the rows of the banks that were scored, once the optimiser has made its step."""
        self.memory.update()

    def _count_views(self, student: Tensor, index: Tensor) -> int:
        """V. Raises ValueError unless index holds places of images, and each image has equally many rows."""
        check_tensor("index is", index, "int64", "B")
        if not len(index) or not len(student) or len(student) % len(index):
            raise ValueError(
                f"student has {len(student)} rows, index {len(index)}; allowed are V rows for each of index"
            )
        first, last, count = int(index.min()), int(index.max()), len(self.memory.labels)
        if first < 0 or last >= count:
            raise ValueError(f"index has places from {first} to {last}; allowed are 0 to {count - 1}")
        return len(student) // len(index)


CRD = Definition(
    loss=crd,
    options=CRDOptions,
    source="Contrastive Representation Distillation (Tian et al., ICLR 2020)",
    formula=r"\mathrm{CE} + \gamma\, (\mathrm{NCE}_{s \to t} + \mathrm{NCE}_{t \to s})",
    memory=memory,
    numbers=None,
    taxonomy=Taxonomy(
        knowledge=("feature",), sees="both the same", chosen_by="none", labels="the same", status="verified"
    ),
)


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes, [world * n, ...], in the order of their ranks; no gradient flows through it."""
    if not dist.is_initialized():
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
