"""Methods that compare features: SPKD on the last feature maps, CRD on embeddings of the pooled features."""

from pydantic import Field
from torch import Tensor

from kdlib import losses
from kdlib.heads import ContrastiveMemory
from kdlib.methods.base import Batch, Definition, KDOptions, Loss, Term, kd_term
from kdlib.models import Backbone
from kdlib.records import Number, Whole


class SPKDOptions(KDOptions):
    """weight: of the similarity term. Published without the KD term: kd_weight is 0."""

    kd_weight: Number = Field(0.0, ge=0)
    weight: Number = Field(3000.0, ge=0, title=r"\gamma")


def _labels_and_kd(batch: Batch, options: KDOptions) -> dict[str, Term]:
    terms = {"ce": Term(batch.cross_entropy, options.ce_weight)}
    if options.kd_weight:
        terms["kl"] = kd_term(batch, options)
    return terms


def _spkd(batch: Batch, options: SPKDOptions) -> Loss:
    last = (output.stages[-1].float() for output in (batch.student, batch.teacher))
    return _labels_and_kd(batch, options) | {"sp": Term(losses.spkd_loss(*last), options.weight)}, {}


class CRDOptions(KDOptions):
    """weight: of the contrastive term; negatives: K, drawn for each image. Published without the KD term."""

    kd_weight: Number = Field(0.0, ge=0)
    weight: Number = Field(0.8, ge=0, title=r"\gamma")
    negatives: Whole = Field(16384, ge=1)


def _crd(batch: Batch, options: CRDOptions) -> Loss:
    pooled = (output.pooled.float() for output in (batch.student, batch.teacher))
    contrast = batch.memory(*pooled, batch.step.index, batch.views, batch.step.seed)
    return _labels_and_kd(batch, options) | {"crd": Term(contrast, options.weight)}, {}


def _memory(student: Backbone, teacher: Backbone, labels: Tensor, options: CRDOptions) -> ContrastiveMemory:
    return ContrastiveMemory(student.feature_dim, teacher.feature_dim, labels, options.negatives)


METHODS = {
    "spkd": Definition(
        _spkd,
        SPKDOptions,
        "Similarity-Preserving KD (Tung and Mori, ICCV 2019)",
        r"\mathrm{CE} + \gamma\, \tfrac{1}{M^2} \lVert \hat G_t - \hat G_s \rVert_F^2,\; G = F F^\top",
        mixes=True,
    ),
    "crd": Definition(
        _crd,
        CRDOptions,
        "Contrastive Representation Distillation (Tian et al., ICLR 2020)",
        r"\mathrm{CE} + \gamma\, (\mathrm{NCE}_{s \to t} + \mathrm{NCE}_{t \to s})",
        memory=_memory,
    ),
}
