"""TeKAP (Hossain et al., ICLR 2025), on logits: beside the teacher's answer, noisy copies of it are taught."""

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from kdlib.methods.base import Batch, Definition, Loss, Term, check_logits, soft_term, summed, total
from kdlib.methods.kd import KDOptions, kd_loss, labels_and_kd
from kdlib.methods.numerics import widened
from kdlib.methods.taxonomy import Taxonomy
from kdlib.records import Number, Whole


def tekap_loss(student: Tensor, teacher: Tensor, noise: Tensor, temperature: float, keep: float = 0.9) -> Tensor:
    """The sum over k of the mean of KL_T(t_k||s) over samples, without T^2, a scalar (Hossain et al., ICLR 2025).

    The logits of the noisy teacher t_k are keep z_t + noise_k. student, teacher: logits [M, N]; noise: float [K, M, N],
    K >= 1, already of the size that is added.
    """
    student, teacher = widened(student), widened(teacher)
    return summed(kd_loss(student, keep * teacher + one, temperature) for one in noise)


def normal_noise(keys: Tensor, copies: int, views: int, classes: int) -> Tensor:
    """Standard normal numbers, float32 [copies, B * views, classes], a function of the images' keys alone.

    keys: float32 [B] in [0, 1), on any device. A hash of key and place is what torch's generators cannot be: the same
    for an image whatever its batch and device, and with the same first copies whatever their number. Keys are multiples
    of 2^-24, as torch draws them: images that share one share their noise.
    """
    places = torch.arange(1, 1 + copies * views * classes, device=keys.device)
    hashed = _mixed(_mixed((keys * 2**24).long() + 1)[:, None] ^ _mixed(places))
    odd = 2 * (hashed >> 9) + 1 - 2**23  # an odd number between -2^23 and 2^23, which float32 holds exactly
    normal = math.sqrt(2) * torch.erfinv(odd.float() / 2**23)
    return normal.view(-1, copies, views, classes).transpose(0, 1).flatten(1, 2)


def _mixed(x: Tensor) -> Tensor:
    """A permutation of the whole numbers below 2^32 in which every bit depends on every bit (Wellons's lowbias32).

    The second factor is taken less 2^32, which is the same modulo 2^32: no product then leaves int64.
    """
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return x ^ (x >> 16)


class TeKAPOptions(KDOptions):
    """copies: K, noisy teachers (0: plain KD); copies_weight: of the sum over them, relative to the teacher's own
    term; keep: what the teacher's logits are multiplied with in a copy; noise: standard deviation of what is added."""

    ce_weight: Number = Field(0.1, ge=0, title=r"\alpha")
    kd_weight: Number = Field(0.9, ge=0, title=r"\beta")
    copies: Whole = Field(3, ge=0, title="K")
    copies_weight: Number = Field(0.8, ge=0, title=r"\gamma")
    keep: Number = Field(0.9, ge=0, title=r"\lambda")
    noise: Number = Field(0.1, ge=0, title=r"\sigma")


def copies_term(student: Tensor, teacher: Tensor, keys: Tensor, views: int, options: TeKAPOptions) -> dict[str, Term]:
    """The term of the noisy copies, where there are any. student, teacher: logits [B * V, N], interleaved by image;
    keys: float32 [B], see `normal_noise`; views: V."""
    if not options.copies:
        return {}
    noise = options.noise * normal_noise(keys, options.copies, views, student.shape[1])
    value = tekap_loss(student, teacher, noise, options.temperature, options.keep)
    return {"copies": soft_term(value, options.kd_weight * options.copies_weight, options.temperature)}


def tekap(batch: Batch, options: TeKAPOptions) -> Loss:
    """alpha CE + beta T^2 (KL_T(t||s) + gamma sum_k KL_T(t_k||s)), over all views."""
    logits = batch.student.logits, batch.teacher_output.logits
    return labels_and_kd(batch, options) | copies_term(*logits, batch.step.keys, batch.views, options), {}


DEFAULTS = TeKAPOptions()


class TeKAPLoss(nn.Module):
    """T^2 (KL_T(t||s) + gamma sum_k KL_T(t_k||s)), the mean over samples, for a training loop of your own.

    The published loss is 0.9 times this and 0.1 times the labels' cross-entropy, which is yours to add. temperature: T,
    above 0; copies: K, copies_weight: gamma, keep, noise: 0 and up. Noise comes from torch's generator. Raises
    ValueError for other values, and for logits of unequal shape.

    >>> import torch
    >>> student, teacher = torch.randn(8, 100, requires_grad=True), torch.randn(8, 100)
    >>> TeKAPLoss(temperature=4.0)(student, teacher).backward()
    """

    def __init__(
        self,
        temperature: float = DEFAULTS.temperature,
        copies: int = DEFAULTS.copies,
        copies_weight: float = DEFAULTS.copies_weight,
        keep: float = DEFAULTS.keep,
        noise: float = DEFAULTS.noise,
    ):
        super().__init__()
        self.options = TeKAPOptions(
            temperature=temperature, kd_weight=1.0, copies=copies, copies_weight=copies_weight, keep=keep, noise=noise
        )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar from logits [B, N] of one batch; no gradient reaches the teacher's."""
        check_logits(student=student, teacher=teacher)
        teacher, temperature = teacher.detach(), self.options.temperature
        keys = torch.rand(len(teacher), device=teacher.device)
        own = soft_term(kd_loss(widened(student), widened(teacher), temperature), 1.0, temperature)
        return total({"kl": own} | copies_term(student, teacher, keys, 1, self.options))


TEKAP = Definition(
    loss=tekap,
    options=TeKAPOptions,
    source="TeKAP (Hossain et al., ICLR 2025), its part on logits",
    formula=r"\alpha\,\mathrm{CE} + \beta\, T^2 \left[\mathrm{KL}_T(t \| s)"
    r" + \gamma \sum_{k=1}^{K} \mathrm{KL}_T(t_k \| s)\right],\; z_{t_k} = \lambda z_t + \sigma\,\varepsilon_k",
    mixes=True,
    logits_only=True,
    taxonomy=Taxonomy(
        knowledge=("answer",), sees="both, answers with noise", chosen_by="none", labels="the same", status="verified"
    ),
)
