"""Energy KD (Kim et al., 2024): the temperature of a sample follows from the teacher's energy, its certainty of it."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Term, check_logits, check_tensor, soft_term, total
from kdlib.methods.kd import KDOptions, kl_divergence
from kdlib.methods.numerics import widened
from kdlib.methods.taxonomy import Taxonomy
from kdlib.records import Number, Record

Rule = Literal["rising", "falling", "shuffled", "constant"]
Limits = tuple[float, float]  # energies below the first are low, above the second high

ENERGY_RULES: tuple[Rule, ...] = get_args(Rule)


def energy(logits: Tensor, temperature: float = 4.0) -> Tensor:
    """-T log sum exp(z / T) of each row: float [M] from logits [M, N]. The lower, the more certain the network is.

    It lies between -max z - T log N and -max z, and falls by c where c is added to all logits.
    """
    return -temperature * torch.logsumexp(widened(logits) / temperature, dim=1)


def energy_limits(energies: Tensor, share: float) -> Limits:
    """(low, high): of the energies float [n], int(share n) lie below low, and as many above high, if no two are equal.

    share: 0 to 1/2; at 0 the limits are infinite, and no energy whatever lies beyond them. Raises ValueError for other
    shares, and without energies.
    """
    check_tensor("energies are", energies, "floating", "n")
    if not 0 <= share <= 0.5 or not len(energies):
        raise ValueError(f"share = {share!r} of {len(energies)} energies is not allowed; allowed are 0 to 0.5 of some")
    if share == 0:
        return -math.inf, math.inf
    ordered, beyond = energies.sort().values, int(len(energies) * share)
    return ordered[beyond].item(), ordered[-1 - beyond].item()


def checked_limits(limits: Limits) -> Limits:
    """The limits. Raises ValueError unless they are a pair of numbers."""
    if not isinstance(limits, tuple | list) or len(limits) != 2 or any(map(math.isnan, limits)):
        raise ValueError(f"limits = {limits!r} must be a pair of energies, none of them NaN")
    return limits


def energy_groups(energies: Tensor, limits: Limits) -> Tensor:
    """0 where an energy is below the first limit, 2 where it is above the second, else 1: int64 [M] of float [M]."""
    return torch.where(energies < limits[0], 0, 1 + (energies > limits[1]).long())


def energy_temperatures(groups: Tensor, temperatures: tuple[float, float, float], rule: str = "rising") -> Tensor:
    """The temperature of each sample, float64 [M], of groups int64 [M] and the temperatures of low, middle and high.

    "rising" takes them as they are: with the low one for low energy, it is the released program. The others are
    controls: "falling" exchanges those of low and of high energy, as the abstract of the paper says; "constant" takes
    the middle one for all. ("shuffled" is "rising" with the samples in another order, see `energy_kd`.) Raises
    ValueError for an unknown rule.
    """
    if rule not in ENERGY_RULES:
        raise ValueError(f"rule = {rule!r} is unknown; allowed are {', '.join(ENERGY_RULES)}")
    low, middle, high = temperatures
    chosen = {"falling": (high, middle, low), "constant": (middle,) * 3}.get(rule, temperatures)
    values = torch.full(groups.shape, chosen[1], dtype=torch.float64, device=groups.device)
    return values.masked_fill(groups == 0, chosen[0]).masked_fill(groups == 2, chosen[2])


def energy_kd_loss(student: Tensor, teacher: Tensor, temperatures: Tensor, reference: float) -> Tensor:
    """The mean of (T_i / T)^2 KL_{T_i}(t||s) over samples, a scalar: without the factor T^2 of the reference T.

    student, teacher: logits [M, N]; temperatures: T_i, float [M]. With all T_i = T it is plain KD, bit for bit.
    """
    student, teacher = widened(student), widened(teacher)
    temperatures = temperatures.to(student.dtype)
    each = kl_divergence(student, teacher, temperatures[:, None])
    return ((temperatures / reference) ** 2 * each).mean()


class EnergyOptions(Record):
    """What Energy KD and Energy DKD have in common: temperatures by energy."""

    temperature: Number = Field(4.0, gt=0, title="T")
    low_temperature: Number = Field(2.0, gt=0, title=r"T_-")
    high_temperature: Number = Field(6.0, gt=0, title=r"T_+")
    share: Number = Field(0.2, ge=0, le=0.5, title="r")
    energy_temperature: Number = Field(4.0, gt=0, title=r"T_E")
    rule: Rule = "rising"

    @property
    def temperatures(self) -> tuple[float, float, float]:
        """Of low, middle and high energy."""
        return self.low_temperature, self.temperature, self.high_temperature


class EnergyKDOptions(KDOptions, EnergyOptions):
    """temperature: of samples of middle energy; low_temperature, high_temperature: of those of low and of high energy;
    share: of the training images, how many are low, and how many high; energy_temperature: that of the energy itself;
    rule: the method as released ("rising"), the reverse ("falling"), or a control, see `energy_temperatures`."""

    ce_weight: Number = Field(0.1, ge=0, title=r"\alpha")
    kd_weight: Number = Field(0.9, ge=0, title=r"\beta")


def survey(answers: Tensor, options: EnergyOptions) -> Limits:
    """The limits of low and high energy, from the teacher's logits [n, N] on one plain crop of each training image."""
    return energy_limits(energy(answers, options.energy_temperature), options.share)


def pulls(student: Tensor, teacher: Tensor, temperatures: Tensor) -> Tensor:
    """How hard each sample pulls at its logits: the length of the gradient of T_i^2 KL_{T_i}, float [M]."""
    student, temperatures = widened(student.detach()), temperatures.to(widened(student).dtype)
    q, p = (F.softmax(logits / temperatures[:, None], dim=1) for logits in (student, widened(teacher)))
    return temperatures * torch.linalg.vector_norm(q - p, dim=1)


def assigned(teacher: Tensor, limits: Limits, order: Tensor | None, options: EnergyOptions) -> tuple[Tensor, Tensor]:
    """(temperatures float64 [M], groups int64 [M]) of the teacher's logits [M, N] on a batch.

    order: int64 [M], whose temperature each sample takes, for "shuffled".
    """
    groups = energy_groups(energy(teacher, options.energy_temperature), limits)
    temperatures = energy_temperatures(groups, options.temperatures, options.rule)
    return temperatures[order] if options.rule == "shuffled" and order is not None else temperatures, groups


def by_group(groups: Tensor, pull: Tensor) -> dict[str, Tensor]:
    """Of each group its share of the samples and its part of their mean pull; a group's mean pull is the one divided by
    the other. groups: int64 [M]; pull: float [M]."""
    records: dict[str, Tensor] = {}
    for number, name in enumerate(("low", "middle", "high")):
        here = (groups == number).to(pull.dtype)
        records |= {f"share_{name}": here.mean(), f"pull_{name}": (here * pull).mean()}
    return records


def energy_terms(
    student: Tensor, teacher: Tensor, limits: Limits, order: Tensor | None, options: EnergyKDOptions
) -> Loss:
    """The divergences, and what is recorded `by_group`. student, teacher: logits [M, N]; order: see `assigned`."""
    temperatures, groups = assigned(teacher, limits, order, options)
    value = energy_kd_loss(student, teacher, temperatures, options.temperature)
    records = by_group(groups, pulls(student, teacher, temperatures))
    return {"kl": soft_term(value, options.kd_weight, options.temperature)}, records


def limits_and_order(batch: Batch) -> tuple[Limits, Tensor]:
    """Of a batch: which energies are low and high, and, for "shuffled", for each view the place of the one whose
    temperature it takes: each image takes those of the views of another. Raises ValueError without limits."""
    if batch.step.limits is None:
        raise ValueError("limits is None: they say which energies are low and high; allowed are two numbers")
    low, high = batch.step.limits
    images = batch.step.keys.argsort(stable=True)
    return (low, high), (batch.views * images[:, None] + torch.arange(batch.views, device=images.device)).flatten()


def energy_kd(batch: Batch, options: EnergyKDOptions) -> Loss:
    """alpha CE + beta mean T_i^2 KL_{T_i}(t||s), over all views; shares and pulls of the groups are recorded.

    Each view has the energy of its own crop.
    """
    logits = batch.student.logits, batch.teacher_output.logits
    terms, records = energy_terms(*logits, *limits_and_order(batch), options)
    return {"ce": Term(batch.cross_entropy, options.ce_weight)} | terms, records


DEFAULTS = EnergyKDOptions()


class EnergyKDLoss(nn.Module):
    """The mean of T_i^2 KL_{T_i}(t||s) over samples, for a training loop of your own.

    The published loss is 0.9 times this and 0.1 times the labels' cross-entropy, which is yours to add. limits: below
    the first an energy is low, above the second high, see `energy_limits`; they come from the teacher's energies of the
    training images and stay as they are. temperature: of what lies between, low_temperature and high_temperature: of
    what lies beyond, above 0; energy_temperature: that of the energy; rule: "rising", the method as released, or
    another, see `energy_temperatures`; the order of "shuffled" comes from torch's generator. Raises ValueError for
    other values, and for logits of unequal shape.

    >>> import torch
    >>> student, teacher = torch.randn(8, 100, requires_grad=True), 9 * torch.randn(8, 100)
    >>> limits = energy_limits(energy(9 * torch.randn(1000, 100)), share=0.2)
    >>> EnergyKDLoss(limits)(student, teacher).backward()
    """

    def __init__(
        self,
        limits: Limits,
        temperature: float = DEFAULTS.temperature,
        low_temperature: float = DEFAULTS.low_temperature,
        high_temperature: float = DEFAULTS.high_temperature,
        energy_temperature: float = DEFAULTS.energy_temperature,
        rule: Rule = DEFAULTS.rule,
    ):
        super().__init__()
        self.limits = checked_limits(limits)
        self.options = EnergyKDOptions(
            kd_weight=1.0,
            temperature=temperature,
            low_temperature=low_temperature,
            high_temperature=high_temperature,
            energy_temperature=energy_temperature,
            rule=rule,
        )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar from logits [B, N] of one batch; no gradient reaches the teacher's."""
        check_logits(student=student, teacher=teacher)
        order = torch.randperm(len(teacher)).to(teacher.device) if self.options.rule == "shuffled" else None
        return total(energy_terms(student, teacher.detach(), self.limits, order, self.options)[0])


ENERGY_KD = Definition(
    loss=energy_kd,
    options=EnergyKDOptions,
    source="Energy KD (Kim et al., 2024), as its released program computes it",
    formula=r"\alpha\,\mathrm{CE} + \beta\, T_i^2\, \mathrm{KL}_{T_i}(t \| s),\;"
    r" T_i = T_-,\, T,\, T_+ \text{ for low, middle and high } E_i = -T_E \log \sum_c e^{z_{t,c} / T_E}",
    mixes=True,
    logits_only=True,
    survey=survey,
    taxonomy=Taxonomy(
        knowledge=("answer",), sees="both the same", chosen_by="energy", labels="the same", status="verified"
    ),
)
