"""The training of a teacher: masked autoencoding, then labels."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.data.sampling import Order
from kdlib.elsewhere.masked.mae import MAE
from kdlib.elsewhere.masked.material import Material
from kdlib.elsewhere.masked.spec import TeacherSpec
from kdlib.elsewhere.masked.stages import TwoStages, scored
from kdlib.elsewhere.masked.vit import ViT
from kdlib.lab.evaluate import logits_on, scores
from kdlib.models.network import Network
from kdlib.randomness import seeded

PATCHES = "patches"  # a role: which are shown


class Teaching(TwoStages):
    """See `TeacherSpec`. It learns from nobody: taught is None."""

    names = ("drawing", "labels")
    module: MAE

    def __init__(self, spec: TeacherSpec, taught: None = None):
        spec.check()
        self.spec, self.material = spec, Material.of(spec.data, spec.images)
        self.fingerprint, self.stages = self.material.fingerprint, spec.stages
        self.steps, self.rates = sum(spec.stages), (spec.learning_rate,) * 2
        with seeded(spec.seed, "teacher init"):
            self.teacher = network_of(spec, self.material)
            vit: ViT = self.teacher.backbone  # type: ignore[assignment]
            self.module = MAE(vit, spec.heads, spec.ratio).to(spec.machine.device)
        self.teacher.to(spec.machine.device)
        self.optimiser = torch.optim.AdamW(self.module.parameters(), lr=1.0, weight_decay=spec.weight_decay)
        ids = tuple(self.material.ids.tolist())
        self.order = Order(ids, len(self.material.train), spec.images_per_step, spec.seed)

    @property
    def network(self) -> nn.Module:
        """The transformer with its classifier, without what draws."""
        return self.teacher

    def losses(self, stage: int, number: int) -> Tensor:
        ids, epochs = self.order.at(number)
        crops = self.material.crops(self.spec.seed, ids, epochs).to(self.spec.machine.device)
        if stage == 1:
            labels = self.material.train.labels[ids].to(crops.device)
            return F.cross_entropy(self.teacher(crops).logits, labels)
        uniforms = self.material.drawn(self.spec.seed, {PATCHES: self.spec.tokens}, ids, epochs)[PATCHES]
        with self.teacher.autocast(crops):
            return self.module(self.teacher.normalised(crops), uniforms)

    def evaluate(self) -> dict[str, float]:
        """top1, nll and ece on the test images."""
        test = self.material.test
        return scored(scores(logits_on(self.teacher, test.evaluated), test.labels))


def network_of(spec: TeacherSpec, material: Material) -> Network:
    """A fresh transformer for the images of some material."""
    train = material.train
    vit = ViT(train.size[0], spec.width, spec.depth, spec.heads, len(train.classes))
    return Network(vit, train.mean, train.std, spec.machine.precision)


def load_teacher(spec: TeacherSpec, material: Material, taught: Mapping[str, Tensor]) -> Network:
    """The transformer of a finished run, which only answers. taught: its weights."""
    teacher = network_of(spec, material)
    teacher.load_state_dict(dict(taught))
    return teacher.to(spec.machine.device).eval().requires_grad_(False)


SPEC, learner = TeacherSpec, Teaching
