"""CRLD (Zhang et al., ACM MM 2024): where the teacher is sure, the student's answer to each of two views is drawn to
the teacher's answers to both."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Term, check_logits, check_pairs, soft_term, total
from kdlib.methods.ccd import ccd_weights
from kdlib.methods.kd import KDOptions, kl_divergence
from kdlib.methods.numerics import widened
from kdlib.methods.taxonomy import Taxonomy
from kdlib.records import Number

Gate = Literal["confidence", "none", "cosine", "both", "shuffled", "constant"]

CRLD_GATES: tuple[Gate, ...] = get_args(Gate)


@torch.no_grad()
def crld_gates(
    weak: Tensor,
    strong: Tensor,
    kind: str = "confidence",
    thresholds: tuple[float, float] = (0.9, 0.2),
    keys: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What the divergences of CRLD are multiplied with: (within, cross), float [B, 2] each, from raw teacher logits.

    weak, strong: logits [B, N] on both views. Column 0 is for divergences from the teacher's answer to the weak view,
    column 1 for those from its answer to the strong one; within: of the same view, cross: of the other view.

    "confidence" is the method. Its two masks of images, 1[max p_t(weak) >= the first threshold] for within and
    1[max p_t(strong) >= the second] for cross, treat both columns alike; p_t is at temperature 1. The others are
    controls: "none" 1 everywhere; "cosine" CCD's weight cos(z_t(weak), z_t(strong)) + 1 for the answers to the strong
    view, as there, and 1 for those to the weak one; "both" their product; "shuffled" both masks in an order of images
    given by `keys` (float [B], sorted); "constant" each mask's mean over the batch, for all: the same total weight.
    Raises ValueError for an unknown kind, or "shuffled" without keys.
    """
    if kind not in CRLD_GATES:
        raise ValueError(f"gate = {kind!r} is unknown; allowed are {', '.join(CRLD_GATES)}")
    weak, strong = widened(weak), widened(strong)
    masks = [_confident(view, least) for view, least in zip((weak, strong), thresholds, strict=True)]
    if kind in ("none", "cosine"):
        masks = [torch.ones_like(mask) for mask in masks]
    if kind == "constant":
        masks = [mask.mean().expand_as(mask) for mask in masks]
    if kind == "shuffled":
        if keys is None:
            raise ValueError("gate = 'shuffled' needs keys: one uniform number for each image of the batch")
        order = keys.argsort(stable=True)
        masks = [mask[order] for mask in masks]
    trust = ccd_weights(weak, strong, "cosine" if kind in ("cosine", "both") else "one")
    within, cross = (torch.stack([mask, mask * trust], dim=1) for mask in masks)
    return within, cross


def _confident(logits: Tensor, least: float) -> Tensor:
    """1.0 where the largest probability of a row reaches `least`, else 0.0: float [B]."""
    return (F.softmax(logits, dim=1).amax(1) >= least).to(logits.dtype)


def crld_losses(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], gates: tuple[Tensor, Tensor], temperature: float
) -> tuple[Tensor, Tensor]:
    """(within, cross) of CRLD without T^2, two scalars.

    within: mean over all B images of g KL_T(t_w||s_w) + g' KL_T(t_s||s_s); cross: of g KL_T(t_w||s_s) +
    g' KL_T(t_s||s_w). student, teacher: logits [B, N] of the (weak, strong) views; gates: see `crld_gates`. An image
    whose gate is 0 counts in the mean.
    """
    (own_weak, own_strong), answers = map(widened, student), tuple(map(widened, teacher))

    def gated(asked: tuple[Tensor, Tensor], gate: Tensor) -> Tensor:
        each = [kl_divergence(own, answer, temperature) for own, answer in zip(asked, answers, strict=True)]
        # Twice the mean over both views is their sum: with gates of 1, the very bits of KD on all views.
        return 2 * (gate * torch.stack(each, dim=1)).mean()

    return gated((own_weak, own_strong), gates[0]), gated((own_strong, own_weak), gates[1])


class CRLDOptions(KDOptions):
    """ce_weight: of the sum of both views' cross-entropies; kd_weight: of the divergences of the same view;
    cross_weight: of those of the other view; tau_weak, tau_strong: the least confidence of the teacher on the weak view
    (the original one) and on the strong view (the augmented one); gate: the method ("confidence") or one of its
    controls, see `crld_gates`."""

    kd_weight: Number = Field(2.0, ge=0, title=r"\beta")
    cross_weight: Number = Field(0.5, ge=0, title=r"\gamma")
    tau_weak: Number = Field(0.9, ge=0, title=r"\theta_w")
    tau_strong: Number = Field(0.2, ge=0, title=r"\theta_s")
    gate: Gate = "confidence"


def crld_terms(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], keys: Tensor | None, options: CRLDOptions
) -> Loss:
    """Both terms of CRLD, and what is recorded of their gates. student, teacher: logits [B, N] of the (weak, strong)
    views.

    The means of both gates; and of gates with a cosine, whose spread does not follow from their mean m as the
    sqrt(m (1 - m)) of zeros and ones does, the standard deviations of the same numbers.
    """
    gates = crld_gates(*teacher, options.gate, (options.tau_weak, options.tau_strong), keys)
    within, cross = crld_losses(student, teacher, gates, options.temperature)
    return {
        "within": soft_term(within, options.kd_weight, options.temperature),
        "cross": soft_term(cross, options.cross_weight, options.temperature),
    }, _recorded(*gates, spread=options.gate in ("cosine", "both"))


def _recorded(within: Tensor, cross: Tensor, spread: bool) -> dict[str, Tensor]:
    gates = {"gate_within": within, "gate_cross": cross}
    found = {name: gate.mean() for name, gate in gates.items()}
    return found | {f"{name}_sd": gate.std(correction=0) for name, gate in gates.items() if spread}


def crld(batch: Batch, options: CRLDOptions) -> Loss:
    """`crld_terms`, and CE of both views, added; the means of the gates, and the spread of cosines, are recorded."""
    student, teacher = batch.pair(batch.student.logits), batch.pair(batch.teacher_output.logits)
    terms, records = crld_terms(student, teacher, batch.step.keys, options)
    return {"ce": Term(batch.cross_entropy, 2 * options.ce_weight)} | terms, records


DEFAULTS = CRLDOptions()


class CRLDLoss(nn.Module):
    """T^2 (beta within + gamma cross), the mean over images, for a training loop of your own; labels are yours to add.

    Published with the sum of both views' cross-entropies. temperature: T, above 0; kd_weight: beta, cross_weight:
    gamma, 0 and up; tau_weak, tau_strong: the least confidence of the teacher, 0 and up (above 1: never); gate:
    "confidence", the method, or one of its controls, see `crld_gates`; the order of "shuffled" comes from torch's
    generator. Raises ValueError for other values, and for logits of unequal shape.

    >>> import torch
    >>> weak, strong = torch.randn(8, 100, requires_grad=True), torch.randn(8, 100, requires_grad=True)
    >>> CRLDLoss(temperature=4.0)((weak, strong), (9 * torch.randn(8, 100), 9 * torch.randn(8, 100))).backward()
    """

    def __init__(
        self,
        temperature: float = DEFAULTS.temperature,
        kd_weight: float = DEFAULTS.kd_weight,
        cross_weight: float = DEFAULTS.cross_weight,
        tau_weak: float = DEFAULTS.tau_weak,
        tau_strong: float = DEFAULTS.tau_strong,
        gate: Gate = DEFAULTS.gate,
    ):
        super().__init__()
        self.options = CRLDOptions(
            temperature=temperature,
            kd_weight=kd_weight,
            cross_weight=cross_weight,
            tau_weak=tau_weak,
            tau_strong=tau_strong,
            gate=gate,
        )

    def forward(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
        """A scalar. student, teacher: logits [B, N] on the weak views and on the strong views of the same images, in
        the same order; no gradient reaches the teacher's."""
        check_pairs("logits on the weak views, and on the strong views", student=student, teacher=teacher)
        (own, own_strong), (its, its_strong) = student, (logits.detach() for logits in teacher)
        check_logits(student=own, student_strong=own_strong, teacher=its, teacher_strong=its_strong)
        keys = torch.rand(len(its), device=its.device) if self.options.gate == "shuffled" else None
        terms, _ = crld_terms((own, own_strong), (its, its_strong), keys, self.options)
        return total(terms)


CRLD = Definition(
    loss=crld,
    options=CRLDOptions,
    source="Cross-View Consistency Regularisation (CRLD; Zhang et al., ACM MM 2024)",
    formula=r"\alpha\,(\mathrm{CE}_x + \mathrm{CE}_{\tilde x})"
    r" + \beta\, T^2\, \mathbf{1}[\max p_t(x) \ge \theta_w]"
    r" \left[\mathrm{KL}_T(t_x \| s_x) + \mathrm{KL}_T(t_{\tilde x} \| s_{\tilde x})\right]"
    r" + \gamma\, T^2\, \mathbf{1}[\max p_t(\tilde x) \ge \theta_s]"
    r" \left[\mathrm{KL}_T(t_x \| s_{\tilde x}) + \mathrm{KL}_T(t_{\tilde x} \| s_x)\right]",
    views=(2,),
    logits_only=True,
    taxonomy=Taxonomy(
        knowledge=("answer",),
        sees="both, answers crossed",
        chosen_by="confidence",
        labels="the same",
        status="verified",
    ),
)
