"""The view policies by name, each with its options.

Some policies are special: `share` depends on the batch and may augment its first view too, `cutmix` needs the images to
mix with, `he_da` an order of the images, and `attention_crop` and `attention_drop` a map of each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BeforeValidator, model_validator
from torch import Tensor

from kdlib.records import Record
from kdlib.views import cutmix
from kdlib.views.attention import AttentionCropOptions, AttentionDropOptions, attention_crop, attention_drop
from kdlib.views.coarse import CoarseOptions, coarse
from kdlib.views.crops import quarter_turns
from kdlib.views.jda import JDA, jda
from kdlib.views.policy import CROP, ORIGINAL, PICK, SECOND, SECOND_CROP, Draws, Picks, Source, ViewPolicy
from kdlib.views.randaugment import RandAugment, randaugment
from kdlib.views.strong import OP_DRAWS, SQUARE_DRAWS, strong_view


class NoOptions(Record):
    """None."""


class JDAOptions(Record):
    """Of JDA."""

    #: the list of ops, a key of `kdlib.views.jda.JDA_LISTS`
    ops: str = "cifar100"
    #: with which each op fires; None stands for the list's own
    p: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _probability_of_the_list(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """None and the list's own probability are one experiment, and so have one key."""
        return fields | {"p": jda(fields.get("ops", "cifar100"), fields.get("p")).p}


def _a_share(share: Any) -> float:
    """1 and 1.0, 0.0 and -0.0 are one experiment."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"share = {share!r} is not a share; allowed are numbers from 0 to 1")
    return abs(float(share))


Share = Annotated[float, BeforeValidator(_a_share)]


class ShareOptions(JDAOptions):
    """Of JDA on an exact share of views."""

    #: of all views of a batch, in [0, 1]
    share: Share = 0.5


class HEDAOptions(Record):
    """Of an augmentation of some of the images."""

    #: the policy whose augmented view they have
    view: Literal["cutmix", "jda"] = "cutmix"
    #: of the training images, in [0, 1]
    share: Share = 0.5
    #: which they are: those on which the teacher has the highest energy, and is least certain (the method), or, as
    #: controls, those with the lowest, or any
    by: Picks = "highest"


class RandAugmentOptions(Record):
    """Of RandAugment."""

    #: ops of an image
    num_ops: int = 3
    #: of all of them, 0..10
    magnitude: int = 5

    @model_validator(mode="before")
    @classmethod
    def _in_range(cls, fields: dict[str, Any]) -> dict[str, Any]:
        randaugment(**fields)
        return fields


def _weak1(options: NoOptions) -> ViewPolicy:
    """One view: random crop and flip."""
    return ViewPolicy("weak1", 1, (ORIGINAL,), CROP, steady=True)


def _weak2(options: NoOptions) -> ViewPolicy:
    """Two plain crops: JDA with p = 0, the zero point of every comparison at two views."""
    return ViewPolicy("weak2", 2, (ORIGINAL, SECOND), CROP | SECOND_CROP, steady=True)


def _twin(options: NoOptions) -> ViewPolicy:
    """One crop twice: no diversity within a pair of views, the "identity" of Wang et al. (NeurIPS 2022)."""
    return ViewPolicy("twin", 2, (ORIGINAL, ORIGINAL), CROP, steady=True)


def _jda(options: JDAOptions) -> ViewPolicy:
    """Two views: x, and x~ = JDA(x); each is then cropped and flipped on its own."""
    return _original_and("jda", jda(options.ops, options.p))


def _randaugment(options: RandAugmentOptions) -> ViewPolicy:
    """Two views: x, and RandAugment(x); each is then cropped and flipped on its own."""
    return _original_and("randaugment", randaugment(options.num_ops, options.magnitude))


def _original_and(name: str, transform: JDA | RandAugment) -> ViewPolicy:
    steady = (lambda x, u: transform.steady(x, u["augmented ops"])) if isinstance(transform, JDA) else None
    augmented = Source("augmented crop", lambda x, u: transform(x, u["augmented ops"]), steady=steady)
    roles = CROP | SECOND_CROP | {"augmented ops": transform.draws}
    return ViewPolicy(name, 2, (ORIGINAL, augmented), roles, transform=transform, steady=steady is not None)


def _share(options: ShareOptions) -> ViewPolicy:
    """Two crops, of which an exact share of all views in the batch goes through JDA first: any view, also a first one.

    Of the 2 B source images of a batch, round(share * 2 B) (halves to the even number) go through JDA: those with the
    smallest uniforms of the role "augmented share". What an image undergoes therefore depends on its batch, and, where
    several processes share a step, each counts its own part. At one batch, what is augmented at a share is augmented at
    every larger one. share = 0 is weak2.
    """
    transform, share = jda(options.ops, options.p), options.share

    def some(view: int, role: str) -> Callable[[Tensor, Draws], Tensor]:
        def apply(x: Tensor, u: Draws) -> Tensor:
            rows = smallest(u["augmented share"], share)[:, view].nonzero().squeeze(1)
            out, here = x.clone(), rows.to(x.device, non_blocking=True)
            out[here] = transform(x[here], u[role][rows])
            return out

        return apply

    sources = (Source("original crop", some(0, "original ops")), Source("augmented crop", some(1, "augmented ops")))
    roles = CROP | SECOND_CROP | {"augmented share": 2}
    roles |= {"original ops": transform.draws, "augmented ops": transform.draws}
    return ViewPolicy("share", 2, sources, roles, transform=transform, by_batch=True)


def smallest(uniforms: Tensor, share: float) -> Tensor:
    """bool, of the shape of uniforms: round(share * n) of its n numbers, the smallest; of equal ones the first."""
    chosen = torch.zeros(uniforms.numel(), dtype=torch.bool)
    chosen[uniforms.flatten().argsort(stable=True)[: round(share * uniforms.numel())]] = True
    return chosen.view(uniforms.shape)


def _cutmix(options: NoOptions) -> ViewPolicy:
    """Two views: a crop of x, and another crop of x into which a box of a crop of its partner is pasted."""

    def mix(crops: list[Tensor], u: Draws) -> list[Tensor]:
        original, second, partner = crops
        return [original, cutmix.paste(second, partner, cutmix.boxes(u["box"], *second.shape[-2:]))]

    def kept(u: Draws, height: int, width: int) -> Tensor:
        second = cutmix.kept(cutmix.boxes(u["box"], height, width), height, width)
        return torch.stack([torch.ones_like(second), second], dim=1)

    sources = (ORIGINAL, SECOND, Source("partner crop", partner=True))
    return ViewPolicy("cutmix", 2, sources, CROP | SECOND_CROP | cutmix.ROLES, after=mix, kept=kept)


def _cutout(options: NoOptions) -> ViewPolicy:
    """Two views: a crop, and another crop with a black square of half its side (DeVries & Taylor, 2017).

    The centre is uniform over the pixels, and the square is clipped at the border. It is the box of CutMix at
    lambda = 3/4, with a black partner.
    """

    def blank(crops: list[Tensor], u: Draws) -> list[Tensor]:
        original, second = crops
        squares = cutmix.boxes(F.pad(u["cutout"], (1, 0), value=0.75), *second.shape[-2:])
        return [original, cutmix.paste(second, torch.zeros_like(second), squares)]

    return ViewPolicy("cutout", 2, (ORIGINAL, SECOND), CROP | SECOND_CROP | {"cutout": 2}, after=blank)


def _crld(options: NoOptions) -> ViewPolicy:
    """Two views: a crop, and the strong view of CRLD (Zhang et al., 2024): another crop, after two ops and with a grey
    square."""

    def strong(crops: list[Tensor], u: Draws) -> list[Tensor]:
        original, second = crops
        return [original, strong_view(second, u["strong ops"], u["square"])]

    roles = CROP | SECOND_CROP | {"strong ops": OP_DRAWS, "square": SQUARE_DRAWS}
    return ViewPolicy("crld", 2, (ORIGINAL, SECOND), roles, after=strong)


def _he_da(options: HEDAOptions) -> ViewPolicy:
    """Two views: a crop, and another, which is augmented for an exact share of the images and plain for the rest (after
    HE-DA; Kim et al., 2024).

    Which images these are follows from an order of the training images that the caller has: an image's place in it, in
    [0, 1), takes the place of the uniform of the role "pick", and the first are chosen. Crops are those of weak2, and
    augmented views those of the policy they are taken from: share = 0 is weak2, and share = 1 that policy.
    """
    inner = create_policy(options.view)
    sources = tuple(dict.fromkeys((*inner.sources, SECOND)))
    plain = sources.index(SECOND)

    def picked(u: Draws) -> Tensor:
        return u[PICK].squeeze(1) < options.share

    def choose(crops: list[Tensor], u: Draws) -> list[Tensor]:
        made = crops[: len(inner.sources)]
        original, augmented = made if inner.after is None else inner.after(made, u)
        here = picked(u).to(original.device, non_blocking=True)[:, None, None, None]
        return [original, torch.where(here, augmented, crops[plain])]

    def kept(u: Draws, height: int, width: int) -> Tensor:
        mixed = inner.shares(u, height, width)
        return torch.ones(len(u[PICK]), 2) if mixed is None else torch.where(picked(u)[:, None], mixed, 1.0)

    roles = {**inner.roles, PICK: 1}
    shares = kept if inner.mixes else None
    return ViewPolicy("he_da", 2, sources, roles, after=choose, kept=shares, picks=options.by)


def _rot2(options: NoOptions) -> ViewPolicy:
    """Two views: a crop, and the same crop turned by a random 90, 180 or 270 degrees counter-clockwise."""

    def turn(crops: list[Tensor], u: Draws) -> list[Tensor]:
        turns = (u["rotation"].squeeze(1) * 3).long().to(crops[0].device, non_blocking=True)
        others = torch.stack(quarter_turns(crops[0])[1:], 1)
        return [crops[0], others[torch.arange(len(turns), device=turns.device), turns]]

    return ViewPolicy("rot2", 2, (ORIGINAL,), CROP | {"rotation": 1}, after=turn, steady=True)


def _rot4(options: NoOptions) -> ViewPolicy:
    """Four views: one crop and its three quarter turns, counter-clockwise; all keep the label."""
    return ViewPolicy("rot4", 4, (ORIGINAL,), CROP, after=lambda crops, u: quarter_turns(crops[0]), steady=True)


@dataclass(frozen=True)
class PolicyDefinition:
    """A policy as data."""

    #: options -> the policy
    make: Callable[[Any], ViewPolicy]
    #: their names, defaults and ranges
    options: type[Record] = NoOptions


#: Policy name -> what makes it.
POLICIES: Mapping[str, PolicyDefinition] = {
    "weak1": PolicyDefinition(_weak1),
    "weak2": PolicyDefinition(_weak2),
    "twin": PolicyDefinition(_twin),
    "jda": PolicyDefinition(_jda, JDAOptions),
    "rot2": PolicyDefinition(_rot2),
    "rot4": PolicyDefinition(_rot4),
    "randaugment": PolicyDefinition(_randaugment, RandAugmentOptions),
    "cutout": PolicyDefinition(_cutout),
    "crld": PolicyDefinition(_crld),
    "coarse": PolicyDefinition(coarse, CoarseOptions),
    "cutmix": PolicyDefinition(_cutmix),
    "share": PolicyDefinition(_share, ShareOptions),
    "he_da": PolicyDefinition(_he_da, HEDAOptions),
    "attention_crop": PolicyDefinition(attention_crop, AttentionCropOptions),
    "attention_drop": PolicyDefinition(attention_drop, AttentionDropOptions),
}


def policy_options(name: str, options: Mapping[str, Any]) -> Record:
    """The validated options of a policy. Raises ValueError for an unknown name, option or value."""
    if name not in POLICIES:
        raise ValueError(f"policy = {name!r} is unknown; allowed are {', '.join(POLICIES)}")
    kind = POLICIES[name].options
    allowed = ", ".join(kind.model_fields) or "none"
    if not isinstance(options, Mapping):
        raise ValueError(f"options = {options!r} of policy {name!r} must be a mapping; allowed are {allowed}")
    for option in options:
        if option not in kind.model_fields:
            raise ValueError(f"policy {name!r} has no option {option!r}; allowed are {allowed}")
    return kind(**options)


def create_policy(name: str, **options: Any) -> ViewPolicy:
    """The view policy called `name`. Raises ValueError for an unknown name, option or value."""
    checked = policy_options(name, options)
    return POLICIES[name].make(checked)
