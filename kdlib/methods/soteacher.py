"""SoTeacher (Dong et al., ICLR 2024): a teacher that is trained to be smooth and consistent, for its student's sake.

Two terms beside the labels. One bounds how fast the network can change with its input (a Lipschitz constant, layer by
layer); the other holds its probabilities of an image to those that it gave in earlier epochs, which a bank remembers.
PURF (Hossain et al., 2024) has the same aim, but its formula is not public: nothing here is PURF.
"""

from collections.abc import Iterator
from typing import Literal

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Memory, Term, check_tensor, summed, total
from kdlib.methods.crd import gather
from kdlib.methods.numerics import widened
from kdlib.methods.taxonomy import Taxonomy
from kdlib.models import Backbone
from kdlib.records import Number, Record

Counter = Literal["released", "mean"]


def lipschitz(network: nn.Module) -> Tensor:
    """The sum over layers of what bounds them, a scalar: sum `|W|` of convolutions, max `|gamma / sqrt(var + eps)|` of
    BatchNorms (no gradient reaches the running variance), and of linear layers max over inputs of sum over outputs
    `|W|`, the operator norm for L1 (Dong et al., ICLR 2024, as the released program computes it).

    Raises ValueError for a network without such a layer.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 2)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, -2.0], [3.0, 1.0]]))
    >>> lipschitz(layer).item()
    4.0
    """
    bounds = list(_bounds(network))
    if not bounds:
        raise ValueError("network has no convolution, BatchNorm or linear layer; allowed is one with weights to bound")
    return summed(bounds)


def _bounds(network: nn.Module) -> Iterator[Tensor]:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            yield layer.weight.abs().sum()
        elif isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None:
            yield (layer.weight / (layer.running_var.detach() + layer.eps).sqrt()).abs().max()
        elif isinstance(layer, nn.Linear):
            yield layer.weight.abs().sum(0).max()


class ConsistencyBank(Memory):
    """What the network said of each training image so far: q, float32 [n, N], and in how many epochs.

    The first epoch sets q = p. In epoch e the counter says how far q moves towards p: "mean" by 1 / e, so that q is the
    mean of all epochs, and "released" by 1 / (e + 1), as the released program does, so that the first epoch counts
    twice: q_e = (2 p_1 + p_2 + ... + p_e) / (e + 1). Epochs are counted for each image, because a batch may run across
    the end of one. Of several views of an image p is the mean. images: n; classes: N.
    """

    answers_bank: Tensor
    epochs_bank: Tensor

    def __init__(self, images: int, classes: int, counter: Counter = "released"):
        super().__init__()
        self.counter = counter
        self.register_buffer("answers_bank", torch.zeros(images, classes))
        self.register_buffer("epochs_bank", torch.zeros(images, dtype=torch.int32))
        self.pending: list[tuple[Tensor, Tensor]] = []  # of the parts of this step

    def forward(self, p: Tensor, index: Tensor, views: int, epochs: float) -> Tensor:
        """The mean over views of (e / E) sum_c (p_c - q_c)^2, a scalar; an image in its first epoch adds 0.

        p: probabilities [B V, N], interleaved by image; index: int64 [B] on the CPU, places of the images among the
        training images; epochs: E, of the whole run. In training mode the rows are kept for `update`.
        """
        rows = index.to(self.answers_bank.device, non_blocking=True)
        before = self.epochs_bank[rows]
        share = torch.where(before > 0, (before + 1) / epochs, 0.0)
        distances = (p - self.answers_bank[rows].repeat_interleave(views, 0)).square().sum(1)
        if self.training:
            self.pending.append((index, p.detach().unflatten(0, (-1, views)).mean(1)))
        return (share.repeat_interleave(views) * distances).mean()

    @torch.no_grad()
    def update(self) -> None:
        """Moves q of the images of the last step towards what was said of them there."""
        for index, p in self.pending:
            places, rows = _of_all_processes(index, p)
            for part in in_turns(places):
                self._move(places[part].to(rows.device), rows[part.to(rows.device)])
        self.pending.clear()

    def _move(self, rows: Tensor, p: Tensor) -> None:
        """rows: int64, each once; p: [len(rows), N]."""
        before, q = self.epochs_bank[rows], self.answers_bank[rows]
        counted = before + (1 if self.counter == "mean" else 2)
        moved = (1 - 1 / counted[:, None]) * q + p.to(q.dtype) / counted[:, None]
        self.answers_bank[rows] = torch.where(before[:, None] > 0, moved, p.to(q.dtype))
        self.epochs_bank[rows] = before + 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one view, as `kdlib.lab.cost.macs` counts them: none."""
        return 0

    @property
    def bank_bytes(self) -> int:
        """Bytes of q and of the numbers of epochs."""
        return self.answers_bank.nbytes + self.epochs_bank.nbytes


def _of_all_processes(index: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Places on the CPU and rows of all processes: each has the whole bank."""
    if not dist.is_initialized():
        return index, p
    return gather(index.to(p.device)).cpu(), gather(p)


def in_turns(index: Tensor) -> list[Tensor]:
    """Positions in `index` (int64 [B], on the CPU) such that no place stands twice in a turn: a batch that runs across
    the end of an epoch may hold an image twice, and what is written to one place twice at once is written in no order.

    >>> import torch
    >>> [turn.tolist() for turn in in_turns(torch.tensor([7, 3, 7, 5]))]
    [[1, 3, 0], [2]]
    """
    order = index.argsort(stable=True)
    ordered = index[order].contiguous()
    turn = torch.arange(len(index)) - torch.searchsorted(ordered, ordered)
    return [order[turn == number] for number in turn.unique().tolist()]


class SoTeacherOptions(Record):
    """lipschitz_weight, consistency_weight: of the two terms, 0 leaves one out; counter: "released" counts the first
    epoch twice, as the released program does, "mean" once."""

    lipschitz_weight: Number = Field(1e-5, ge=0, title=r"\alpha")
    consistency_weight: Number = Field(1.0, ge=0, title=r"\beta")
    counter: Counter = "released"


def memory(
    student: Backbone, teacher: Backbone | None, labels: Tensor, options: SoTeacherOptions
) -> ConsistencyBank | None:
    """The bank of the training images, where the term that needs it weighs anything."""
    return ConsistencyBank(len(labels), student.num_classes, options.counter) if options.consistency_weight else None


def soteacher(batch: Batch, options: SoTeacherOptions) -> Loss:
    """CE + alpha L_lip + beta (e / E) sum_c (p_c - q_c)^2, without the terms that weigh nothing."""
    terms = {"ce": Term(batch.cross_entropy, 1.0)}
    if options.lipschitz_weight:
        if batch.network is None:
            raise ValueError("network is None: its weights are bounded; allowed is the backbone that is trained")
        terms["lipschitz"] = Term(lipschitz(batch.network), options.lipschitz_weight)
    if options.consistency_weight:
        if batch.memory is None:
            raise ValueError("memory is None: it remembers earlier answers; allowed is a ConsistencyBank")
        p, step = widened(batch.student.logits).softmax(1), batch.step
        value = batch.memory(p, step.index, batch.views, step.epochs)
        terms["consistency"] = Term(value, options.consistency_weight)
    return terms, {}


DEFAULTS = SoTeacherOptions()


class SoTeacherLoss(nn.Module):
    """alpha L_lip + beta (e / E) sum_c (p_c - q_c)^2, for a training loop of your own; the labels' cross-entropy is
    yours to add. It trains a teacher, and needs none.

    images, classes: of the training set; epochs: E, how often the loop sees each image; the rest: see
    `SoTeacherOptions`. Its state dict holds the bank. Raises ValueError for other values.

    >>> import torch
    >>> network, images = torch.nn.Linear(12, 10), torch.randn(40, 12)
    >>> loss = SoTeacherLoss(images=40, classes=10, epochs=5)
    >>> for epoch in range(5):
    ...     loss(network, network(images), index=torch.arange(40)).backward()
    """

    def __init__(
        self,
        images: int,
        classes: int,
        epochs: float,
        lipschitz_weight: float = DEFAULTS.lipschitz_weight,
        consistency_weight: float = DEFAULTS.consistency_weight,
        counter: Counter = DEFAULTS.counter,
    ):
        super().__init__()
        self.options = SoTeacherOptions(
            lipschitz_weight=lipschitz_weight, consistency_weight=consistency_weight, counter=counter
        )
        for name, value in (("images", images), ("classes", classes), ("epochs", epochs)):
            if not value > 0:
                raise ValueError(f"{name} = {value!r} must be above 0")
        self.epochs = epochs
        self.bank = ConsistencyBank(images, classes, counter)

    def forward(self, network: nn.Module, logits: Tensor, index: Tensor) -> Tensor:
        """A scalar. network: what is trained; logits: floating [B, N], its own on one view of each image; index: int64
        [B], places of the images among the training images. Raises ValueError for other shapes, types and places."""
        images, classes = self.bank.answers_bank.shape
        check_tensor("logits are", logits, "floating", "B", classes)
        check_tensor("index is", index, "int64", len(logits))
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < images:
            raise ValueError(f"index has places beyond 0 to {images - 1}, which are all that is remembered")
        if self.training:
            self.bank.update()
        p = widened(logits).softmax(1)
        return total(
            {
                "lipschitz": Term(lipschitz(network), self.options.lipschitz_weight),
                "consistency": Term(self.bank(p, index.cpu(), 1, self.epochs), self.options.consistency_weight),
            }
        )


SOTEACHER = Definition(
    loss=soteacher,
    options=SoTeacherOptions,
    source="SoTeacher (Dong et al., ICLR 2024), a teacher trained for its student",
    formula=r"\mathrm{CE} + \alpha\, L_{\mathrm{lip}} + \beta\, \tfrac{e}{E} \textstyle\sum_c (p_{s,c} - q_{c})^2,\;"
    r" q = \tfrac{1}{e} (2 p_s^{(1)} + p_s^{(2)} + \dots + p_s^{(e-1)})",
    needs_teacher=False,
    memory=memory,
    numbers=None,
    taxonomy=Taxonomy(knowledge=(), sees="teacher alone", chosen_by="none", labels="the same", status="verified"),
)
