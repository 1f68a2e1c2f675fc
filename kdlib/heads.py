"""What a method adds to networks while training and throws away after: heads, branches, a memory bank."""

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib import distributed, losses
from kdlib.models import Backbone, Output


class ContrastHead(nn.Module):
    """SSKD's projection of the pooled feature: Linear(d, d), ReLU, Linear(d, d) (Xu et al., ECCV 2020)."""

    def __init__(self, feature_dim: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(feature_dim, feature_dim), nn.ReLU(inplace=True), nn.Linear(feature_dim, feature_dim)
        )

    def forward(self, output: Output) -> Tensor:
        """[B, d]"""
        return self.layers(output.pooled)


class AuxiliaryBranches(nn.Module):
    """HSAKD's branches (Yang et al., IJCAI 2021), built from any backbone of L stages.

    Branch l < L is a fresh rebuild of stages l+1..L fed with the output of stage l; branch L is a rebuild of stage L
    that takes its own output width at stride 1. Each ends like the backbone, averages, and classifies 4 N joint labels
    (class, quarter turn). Nothing is shared.
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        count = len(backbone.stages)
        self.bodies = nn.ModuleList(
            nn.Sequential(*(backbone.new_stage(index) for index in range(start, count)), backbone.new_end())
            for start in range(1, count)
        )
        self.bodies.append(nn.Sequential(backbone.new_stage(count - 1, tail=True), backbone.new_end()))
        self.classifiers = nn.ModuleList(nn.Linear(backbone.feature_dim, 4 * backbone.num_classes) for _ in self.bodies)

    def forward(self, output: Output) -> Tensor:
        """[B, L, 4 N]"""
        parts = zip(output.stages, self.bodies, self.classifiers, strict=True)
        return torch.stack([classify(body(stage).mean(dim=(2, 3))) for stage, body, classify in parts], dim=1)


class ContrastiveMemory(nn.Module):
    """CRD's embeddings and memory banks (Tian et al., ICLR 2020, with K negatives for each image).

    Two linear layers, trained with the student, project the pooled features of student and teacher to the unit sphere.
    Each network has a bank with one row per training image. A student embedding is scored against the teacher's bank
    and the reverse. The negatives of an image are drawn afresh at each step from images of other classes: without
    replacement if there are at least K, else with replacement; all views of an image share them. Rows are updated from
    original views only. labels: int64 [n], of the training images.

    Raises ValueError if all training images are of one class.
    """

    DIMENSIONS, MOMENTUM = 128, 0.5

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
        self.labels = labels.cpu()  # negatives are drawn on the CPU
        self.pending: list[tuple[Tensor, Tensor, Tensor]] = []  # of the parts of this step

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor, views: int, seed: int) -> Tensor:
        """The sum of both directions' losses, a scalar.

        student, teacher: float [B * V, d], pooled features, interleaved by image; index: int64 [B], places of the
        images among the training images, on the CPU; seed: of this step's draws.
        """
        own, others = F.normalize(self.student(student)), F.normalize(self.teacher(teacher))
        columns = torch.cat([index[:, None], self.draw(index, seed)], dim=1).to(student.device)
        columns = columns.repeat_interleave(views, 0)
        images = len(self.student_bank)
        scores = (
            losses.crd_scores(own, self.teacher_bank, columns),
            losses.crd_scores(others, self.student_bank, columns),
        )
        if self.training:
            first = images * distributed.gather(torch.stack([s.detach().mean() for s in scores])[None]).mean(0)
            self.scales.copy_(torch.where(self.scales > 0, self.scales, first))
            self.pending.append((columns[::views, 0], own.detach()[::views], others.detach()[::views]))
        return sum(losses.crd_loss(s, z, images) for s, z in zip(scores, self.scales, strict=True))

    def draw(self, index: Tensor, seed: int) -> Tensor:
        """int64 [B, K]: places of images of other classes than those at `index` (int64 [B], on the CPU)."""
        generator = torch.Generator().manual_seed(seed)
        labels, count = self.labels[index], len(self.labels)
        own_class = self.labels[None] == labels[:, None]  # [B, n]
        others = count - own_class.sum(1)
        if others.min() >= self.negatives:
            keys = torch.rand(len(index), count, generator=generator)
            keys.masked_fill_(own_class, 2.0)
            return keys.topk(self.negatives, largest=False, sorted=False).indices
        start = torch.searchsorted(self.labels[self.by_class], labels)[:, None]  # an image skips its own class's block
        uniform = torch.rand(len(index), self.negatives, generator=generator, dtype=torch.float64)
        place = (uniform * others[:, None]).long()
        return self.by_class[place + (place >= start) * (count - others)[:, None]]

    @cached_property
    def by_class(self) -> Tensor:
        """int64 [n]: the places of the images, sorted by class."""
        return self.labels.argsort(stable=True)

    @torch.no_grad()
    def update(self) -> None:
        """Moves the rows of the last step: m <- normalise(0.5 m + 0.5 e), each bank with its own network's e.

        Called after the optimiser's step, because the gradient still needs the rows as they were scored.
        """
        for part in self.pending:
            index, *embeddings = (distributed.gather(rows) for rows in part)
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
