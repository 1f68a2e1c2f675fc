"""The student sees a smaller picture than its teacher: inspired by resolution-aware KD and by multi-level KD.

They are by Feng, Lai and Xie (TIP 2021) and by Ma et al. (2022), of which only the abstract and the title were read.

Known are the names of the terms: distillation from full images, a pairwise constraint, a maximum mean discrepancy, a
discriminator, and several levels. Kernels, weights, maps and the discriminator's layers are ours.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Memory, Term, summed
from kdlib.methods.ce import cross_entropy
from kdlib.methods.discriminator import Discriminator, discrimination
from kdlib.methods.kd import KDOptions, labels_and_kd
from kdlib.methods.numerics import scaled, unit_rows, widened
from kdlib.methods.spkd import spkd_loss
from kdlib.methods.taxonomy import Taxonomy
from kdlib.models import Backbone
from kdlib.models.resolution import WHOLE, Resolution
from kdlib.records import Number, Record

TINY = 1e-12  # of a bandwidth squared, so that equal features stay finite


def mmd_loss(student: Tensor, teacher: Tensor, bandwidth: float | None = None) -> Tensor:
    """The squared maximum mean discrepancy of two samples (Gretton et al., JMLR 2012), its unbiased estimate: a scalar.

    1 / (B (B - 1)) sum over i != j of k(t_i, t_j) + k(s_i, s_j) - k(t_i, s_j) - k(s_i, t_j), with
    `k(a, b) = exp(-|a - b|^2 / (2 sigma^2))`. It is 0 for equal samples and may fall below 0.

    student, teacher: float [B, d], B >= 2; bandwidth: sigma, above 0; None: sigma^2 is the median of the squared
    distances between all 2 B rows, a constant to autograd. Raises ValueError for a single row, for samples of unequal
    shape, and for other bandwidths.

    >>> import torch
    >>> student, teacher = torch.randn(64, 3, requires_grad=True), torch.randn(64, 3) + 1
    >>> mmd_loss(student, teacher).backward()
    """
    if student.shape != teacher.shape or student.ndim != 2 or len(student) < 2:
        raise ValueError(
            f"student is {list(student.shape)} and teacher {list(teacher.shape)}; allowed are two samples of one shape "
            "[B, d], B at least 2"
        )
    if bandwidth is not None and not bandwidth > 0:
        raise ValueError(f"bandwidth = {bandwidth} is not allowed; allowed are numbers above 0, or None")
    squares = _squared_distances(torch.cat([widened(teacher), widened(student)]))
    spread = _median(squares) if bandwidth is None else bandwidth**2
    alike = torch.exp(squares / (-2 * spread))
    count = len(student)
    within = alike[:count, :count] + alike[count:, count:]
    between = alike[:count, count:] + alike[count:, :count]
    others = ~torch.eye(count, dtype=torch.bool, device=student.device)
    return ((within - between) * others).sum() / (count * (count - 1))


def _squared_distances(x: Tensor) -> Tensor:
    """|a - b|^2 of all pairs of the rows of x [M, d]: [M, M]."""
    squares, products = x.square().sum(1), x @ x.T
    return (squares[:, None] + squares - 2 * products).clamp_min(0)


def _median(squares: Tensor) -> Tensor:
    """Of the entries above the diagonal of [M, M], without gradient."""
    rows, columns = torch.triu_indices(len(squares), len(squares), 1, device=squares.device)
    return squares.detach()[rows, columns].median().clamp_min(TINY)


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over images of `|N(A_t) - N(A_s)|^2` (attention transfer, Zagoruyko and Komodakis, ICLR 2017), a scalar.

    student, teacher: feature maps [B, c, h, w] of one stage each, whose shapes past B may differ. A is the mean of the
    squares over channels, averaged over areas down to the size of the smaller of both; N flattens it and gives it unit
    length.
    """
    own, its = (scaled(widened(maps), (1, 2, 3)).square().mean(1) for maps in (student, teacher))
    size = min(own.shape[1], its.shape[1]), min(own.shape[2], its.shape[2])
    own, its = (unit_rows(_shrunk(maps, size).flatten(1)) for maps in (own, its))
    return (its - own).square().sum(1).mean()


def _shrunk(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[1:] == size else F.adaptive_avg_pool2d(maps, size)


class Maps(Memory):
    """Linear maps of the pooled features of both networks to unit vectors of 64 numbers.

    The student's is trained. The teacher's is drawn once and stays: were both trained, they could agree on a constant.
    A discriminator of these vectors is trained too, if there is one; it is drawn last, and changes no map.
    """

    DIMENSIONS, bank_bytes = 64, 0

    def __init__(self, student_dim: int, teacher_dim: int, discriminated: bool = False):
        super().__init__()
        self.student = nn.Linear(student_dim, self.DIMENSIONS, bias=False)
        self.fixed = nn.Linear(teacher_dim, self.DIMENSIONS, bias=False).requires_grad_(False)
        self.discriminator = Discriminator(self.DIMENSIONS) if discriminated else None

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """float [M, 64] of each, from float [M, d]."""
        return unit_rows(self.student(student)), unit_rows(self.fixed(teacher))

    def update(self) -> None:
        """The optimiser moves all there is."""

    @property
    def macs(self) -> int:
        """Of one view; the teacher's map is counted as if it were trained."""
        told = 0 if self.discriminator is None else self.discriminator.macs
        return told + self.DIMENSIONS * (self.student.in_features + self.fixed.in_features)


class SeenOptions(Record):
    """scale: the side of the squares of pixels that become one, 1 for none; student_input: these pixels as they are, an
    image of a smaller side, or repeated until the image has its size again."""

    scale: Literal[1, 2, 4] = Field(2, title="s")
    student_input: Literal["small", "upsampled"] = "small"

    @property
    def student_sees(self) -> Resolution:
        """What the student is given of each view."""
        return Resolution(self.scale, self.student_input == "upsampled")


class ResolutionOptions(KDOptions, SeenOptions):
    """scale: the side of the squares of pixels that become one, 1 for none; student_input: these pixels as they are, an
    image of a smaller side, or repeated until the image has its size again; teacher_input: the image as it is, or those
    pixels, always repeated, since its networks know objects of that size; gram_weight, mmd_weight, attention_weight: of
    the pairwise constraint, of the discrepancy, and of the attention of each level. 0 leaves a term out."""

    teacher_input: Literal["high", "low"] = "high"
    gram_weight: Number = Field(1.0, ge=0, title=r"\gamma")
    mmd_weight: Number = Field(1.0, ge=0, title=r"\delta")
    attention_weight: Number = Field(0.0, ge=0, title=r"\lambda")
    discriminator_weight: Number = Field(0.0, ge=0, title=r"\eta")

    @model_serializer(mode="wrap")
    def _without_a_discriminator(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that the keys of runs without one are what they were before there was one."""
        fields = handler(self)
        return {n: value for n, value in fields.items() if n != "discriminator_weight" or value}


def resolutions(options: ResolutionOptions) -> tuple[Resolution, Resolution]:
    """What the student and the teacher are given of each view."""
    low = Resolution(options.scale, enlarged=True)
    return options.student_sees, low if options.teacher_input == "low" else WHOLE


def memory(student: Backbone, teacher: Backbone | None, labels: Tensor, options: ResolutionOptions) -> Maps | None:
    """The maps of a pair of networks, if the discrepancy or the discriminator weighs anything."""
    if teacher is None:
        raise ValueError("teacher is None: its features are mapped; allowed is a network")
    discriminated = options.discriminator_weight > 0
    if not options.mmd_weight and not discriminated:
        return None
    return Maps(student.feature_dim, teacher.feature_dim, discriminated)


def resolution(batch: Batch, options: ResolutionOptions) -> Loss:
    """alpha CE + beta T^2 KL + gamma Gram + delta MMD^2 + lambda attention, over all views, each if it weighs anything.

    Gram matrices are those of SPKD, of pooled features. Levels are stages, counted from the last: where one network has
    more, its first ones are left out. With a discriminator its own loss is added, whose gradient reaches the student
    reversed; the share of rows that it tells apart is recorded.
    """
    own, its = batch.student, batch.teacher_output
    terms = labels_and_kd(batch, options)
    records: dict[str, Tensor] = {}
    if options.gram_weight:
        terms["gram"] = Term(spkd_loss(own.pooled_feature, its.pooled_feature), options.gram_weight)
    if options.mmd_weight or options.discriminator_weight:
        if not isinstance(maps := batch.memory, Maps):
            raise ValueError(
                f"memory is {type(maps).__name__}: it maps the features that are compared; allowed is a Maps"
            )
        f_s, f_t = maps(own.pooled_feature.float(), its.pooled_feature.float())
        if options.mmd_weight:
            terms["mmd"] = Term(mmd_loss(f_s, f_t), options.mmd_weight)
        if options.discriminator_weight:
            if maps.discriminator is None:
                raise ValueError("memory has no discriminator; allowed is a Maps that is discriminated")
            told, records["told_apart"] = discrimination(maps.discriminator, f_s, f_t, options.discriminator_weight)
            terms["discriminator"] = Term(told, 1.0)
    if options.attention_weight:
        levels = zip(reversed(own.stages), reversed(its.stages), strict=False)
        terms["attention"] = Term(summed(attention_loss(*pair) for pair in levels), options.attention_weight)
    return terms, records


RESOLUTION = Definition(
    loss=resolution,
    options=ResolutionOptions,
    source="[inferred] inspired by resolution-aware KD (Feng, Lai and Xie, TIP 2021) and multi-level KD for low "
    "resolution (Ma et al., 2022): terms by name, all else ours",
    formula=r"\alpha\,\mathrm{CE}(s_{x_L}) + \beta\, T^2\, \mathrm{KL}_T(t_x \| s_{x_L})"
    r" + \gamma\, \tfrac{1}{M^2} \lVert \hat G_t - \hat G_s \rVert_F^2"
    r" + \delta\, \mathrm{MMD}^2(f_t, f_s)"
    r" + \lambda \textstyle\sum_l \lVert \hat A_t^l - \hat A_s^l \rVert^2"
    r" - \eta\, L_D(f_t, f_s),"
    r"\; x_L = x \text{ averaged over } s \times s",
    mixes=True,
    memory=memory,
    resolutions=resolutions,
    taxonomy=Taxonomy(
        knowledge=("answer", "relation", "feature"),
        sees="both, the student less of them",
        chosen_by="none",
        labels="the same",
        status="inspired by",
    ),
)
RESOLUTION_CE = Definition(
    loss=cross_entropy,
    options=SeenOptions,
    source="[inferred] cross-entropy on the labels of smaller images, no teacher: the zero point of `resolution`",
    formula=r"\mathrm{CE}(s_{x_L}),\; x_L = x \text{ averaged over } s \times s",
    needs_teacher=False,
    mixes=True,
    resolutions=lambda options: (options.student_sees, WHOLE),
    taxonomy=Taxonomy(knowledge=(), sees="student alone", chosen_by="none", labels="the same", status="inspired by"),
)
