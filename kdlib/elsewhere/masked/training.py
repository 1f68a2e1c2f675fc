"""The training of a student: features of masked views, then labels of a few images."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.data.sampling import Order
from kdlib.elsewhere.masked.losses import feature_loss
from kdlib.elsewhere.masked.masks import ROLE, cells_of, greyed, kept_cells, kept_count, scaled
from kdlib.elsewhere.masked.material import Material
from kdlib.elsewhere.masked.spec import MaskedSpec
from kdlib.elsewhere.masked.stages import TwoStages, scored
from kdlib.elsewhere.masked.student import Student
from kdlib.elsewhere.masked.teaching import load_teacher
from kdlib.elsewhere.masked.vit import PATCH, ViT
from kdlib.lab.evaluate import logits_on, scores
from kdlib.randomness import seeded

TUNING = "tuning crop"  # a role: crops of fine-tuning, the same in every arm


class Seen(NamedTuple):
    """Views of a step of distillation, on the device."""

    #: uint8 [B, 3, H, W], what the student is shown
    student: Tensor
    #: uint8 [B, 3, H, W], what the teacher is shown
    teacher: Tensor
    #: bool [B, 1, n, n], which cells a sparse student is shown; None for a dense one
    kept: Tensor | None
    #: bool [B, tokens], which of them are taught
    taught: Tensor


class Masked(TwoStages):
    """See `MaskedSpec`. taught: the weights of its teacher, or None."""

    names = ("features", "labels")
    module: Student

    def __init__(self, spec: MaskedSpec, taught: Mapping[str, Tensor] | None):
        spec.check()
        self.spec, self.material = spec, Material.of(spec.data, spec.images)
        self.fingerprint, self.stages = self.material.fingerprint, spec.stages
        self.steps, self.rates = sum(spec.stages), (spec.learning_rate, spec.tuning_rate)
        train, device = self.material.train, spec.machine.device
        tokens = spec.teacher.width if spec.teacher else 1
        with seeded(spec.seed, "student init"):
            student = Student(spec.width, tokens, train.mean, train.std, len(train.classes), spec.machine.precision)
            self.module = student.to(device)
        self.teacher = None if spec.teacher is None else load_teacher(spec.teacher, self.material, taught or {})
        self.optimiser = torch.optim.AdamW(self.module.parameters(), lr=1.0, weight_decay=spec.weight_decay)
        self.labelled = self.material.labelled(spec.labelled, spec.seed)
        self.orders = [
            Order(tuple(ids.tolist()), len(train), spec.images_per_step, spec.seed)
            for ids in (self.material.ids, self.labelled)
        ]

    @property
    def network(self) -> nn.Module:
        """The encoder with its classifier, a dense network."""
        return self.module.network

    def losses(self, stage: int, number: int) -> Tensor:
        ids, epochs = self.orders[stage].at(number)
        return self.of_labels(ids, epochs) if stage else self.of_features(self.seen(ids, epochs))

    def of_labels(self, ids: Tensor, epochs: Tensor) -> Tensor:
        """Cross-entropy of plain crops."""
        crops = self.material.crops(self.spec.seed, ids, epochs, TUNING).to(self.spec.machine.device)
        labels = self.material.train.labels[ids].to(crops.device)
        return F.cross_entropy(self.module.network(crops).logits, labels)

    def of_features(self, seen: Seen) -> Tensor:
        """See `feature_loss`."""
        with torch.no_grad(), self.teacher.autocast(seen.teacher):
            vit: ViT = self.teacher.backbone
            tokens = vit.tokens(self.teacher.normalised(seen.teacher)).float()
        return feature_loss(self.module.predicted(seen.student, seen.kept), tokens, seen.taught)

    def seen(self, ids: Tensor, epochs: Tensor) -> Seen:
        """The views of some images in their epochs: functions of seed, role, epoch and image alone."""
        spec, device = self.spec, self.spec.machine.device
        views = self.material.crops(spec.seed, ids, epochs, view=spec.view).to(device)
        kept = self.kept(ids, epochs).to(device)
        side = views.shape[-1]
        taught = scaled(kept, side // PATCH).flatten(1)
        taught = ~taught if spec.tokens == "masked" else torch.ones_like(taught)
        holed = greyed(views, kept)
        sparse = spec.ratio > 0 and spec.fill == "sparse"
        return Seen(
            student=holed if spec.fill == "grey" else views,
            teacher=holed if spec.teacher_sees == "kept cells" else views,
            kept=kept if sparse else None,
            taught=taught,
        )

    def kept(self, ids: Tensor, epochs: Tensor) -> Tensor:
        """bool [B, 1, n, n]: the cells that are kept."""
        cells = cells_of(self.material.train.size[0])
        return kept_cells(self.material.drawn(self.spec.seed, {ROLE: cells}, ids, epochs)[ROLE], self.spec.ratio)

    def evaluate(self) -> dict[str, float]:
        """top1, nll and ece of the dense network on the test images."""
        test = self.material.test
        return scored(scores(logits_on(self.module.network, test.evaluated), test.labels))

    def measure(self) -> dict[str, Any]:
        """How many images were learnt from, how many of them had labels, and the share of cells that was kept."""
        cells = cells_of(self.material.train.size[0])
        counts = {"images": len(self.material.ids), "labelled": len(self.labelled)}
        return counts | {"kept": kept_count(cells, self.spec.ratio) / cells}


SPEC, learner = MaskedSpec, Masked
