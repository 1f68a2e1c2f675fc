"""Methods that compare logits: cross-entropy alone, KD, CCD, the four-term loss, DKD."""

from typing import Annotated, Literal

from pydantic import Field

from kdlib import losses
from kdlib.methods.base import Batch, Definition, KDOptions, Loss, NoOptions, Term, kd_term
from kdlib.records import Number, Record

Weight = Annotated[Number, Field(ge=0)]


def _ce(batch: Batch, options: NoOptions) -> Loss:
    return {"ce": Term(batch.cross_entropy, 1.0)}, {}


def _kd(batch: Batch, options: KDOptions) -> Loss:
    return {"ce": Term(batch.cross_entropy, options.ce_weight), "kl": kd_term(batch, options)}, {}


class CCDOptions(KDOptions):
    """weight: the method ("cosine") or one of its controls, see `losses.ccd_weights`."""

    weight: Literal[losses.CCD_WEIGHTS] = "cosine"


def _ccd(batch: Batch, options: CCDOptions) -> Loss:
    student, teacher = batch.pair(batch.student.logits), batch.pair(batch.teacher.logits)
    w = losses.ccd_weights(*teacher, options.weight, batch.step.keys)
    ccd = losses.ccd_loss(student, teacher, w, options.temperature)
    weight = options.kd_weight * options.temperature**2
    return {"ce": Term(batch.cross_entropy, options.ce_weight), "ccd": Term(ccd, weight)}, {"w": w.mean()}


class FourTermOptions(Record):
    """weights: of CE on x, CE on x~, KL on x and KL on x~, in this order; (1, 1, 1, 1) is KD on two views."""

    temperature: Number = Field(4.0, gt=0, title="T")
    weights: tuple[Weight, Weight, Weight, Weight] = (1.0, 1.0, 1.0, 1.0)


def _four_terms(batch: Batch, options: FourTermOptions) -> Loss:
    student, teacher = batch.pair(batch.student.logits), batch.pair(batch.teacher.logits)
    values = losses.four_term_losses(student, teacher, batch.labels, options.temperature)
    scales = (0.5, 0.5, options.temperature**2 / 2, options.temperature**2 / 2)
    names = ("ce_original", "ce_augmented", "kl_original", "kl_augmented")
    parts = zip(names, values, scales, options.weights, strict=True)
    return {name: Term(value, scale * weight) for name, value, scale, weight in parts}, {}


class DKDOptions(Record):
    """beta: weight of the non-target part (2, 6 or 8 in the paper, by pair of networks); warm_up: share of the run's
    epochs over which the weight of both parts rises (20 of 240)."""

    temperature: Number = Field(4.0, gt=0, title="T")
    ce_weight: Number = Field(1.0, ge=0)
    alpha: Number = Field(1.0, ge=0, title=r"\alpha")
    beta: Number = Field(8.0, ge=0, title=r"\beta")
    warm_up: Number = Field(20 / 240, ge=0, le=1, title="e_0")


def _dkd(batch: Batch, options: DKDOptions) -> Loss:
    step = batch.step
    rising = options.warm_up * step.epochs
    share = min(step.epoch / rising, 1.0) if rising else 1.0
    target, others = losses.dkd_losses(
        batch.student.logits, batch.teacher.logits, batch.view_labels, options.temperature
    )
    scale = share * options.temperature**2
    return {
        "ce": Term(batch.cross_entropy, options.ce_weight),
        "tckd": Term(target, scale * options.alpha),
        "nckd": Term(others, scale * options.beta),
    }, {}


METHODS = {
    "ce": Definition(
        _ce, NoOptions, "cross-entropy on the labels, no teacher", r"\mathrm{CE}", needs_teacher=False, mixes=True
    ),
    "kd": Definition(
        _kd,
        KDOptions,
        "Hinton et al., 2015",
        r"\alpha\,\mathrm{CE} + \beta\, T^2\, \mathrm{KL}_T(t \| s)",
        mixes=True,
        logits_only=True,
    ),
    "ccd": Definition(
        _ccd,
        CCDOptions,
        "Cosine Confidence Distillation (Li et al., 2024)",
        r"\alpha\,\mathrm{CE} + \beta\, T^2\, \tfrac12 \left[\mathrm{KL}_T(x) + w\,\mathrm{KL}_T(\tilde x)\right],\;"
        r" w = \cos(z_t(x), z_t(\tilde x)) + 1",
        views=(2,),
        mixes=True,
        logits_only=True,
    ),
    "four_term": Definition(
        _four_terms,
        FourTermOptions,
        "Li et al., 2024 [inferred]",
        r"\tfrac12 (w_0 \mathrm{CE}_x + w_1 \mathrm{CE}_{\tilde x})"
        r" + T^2 \tfrac12 (w_2 \mathrm{KL}_x + w_3 \mathrm{KL}_{\tilde x})",
        views=(2,),
        logits_only=True,
    ),
    "dkd": Definition(
        _dkd,
        DKDOptions,
        "Decoupled Knowledge Distillation (Zhao et al., CVPR 2022)",
        r"\mathrm{CE} + \min(e / e_0, 1)\, T^2 (\alpha\,\mathrm{TCKD} + \beta\,\mathrm{NCKD})",
        logits_only=True,
    ),
}
