"""View policies: how many views of an image the student sees, and what each goes through.

A policy is a pure function of images and of uniform random numbers, looked up by image id (see kdlib.randomness):
`policy(images [B, 3, H, W] uint8, draws) -> views [B, V, 3, H, W] uint8`, where `draws[role]` is float32 [B, n]. The
first view is the original view, the others are augmented views; `views.flatten(0, 1)` interleaves them x0, x~0, x1, ...
Crops have the same roles in every policy, so arms of one seed see the same crops. Two policies are special: `share`
depends on the batch and may augment its first view too, and `cutmix` needs the images to mix with.

A policy has three steps: its sources, each the raw image after ops; one crop or several of each source; and, in some,
something done to the crops (turning, mixing).
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.views import cutmix
from kdlib.views.crops import RESIZED_DRAWS, crop_flip, quarter_turns, resized_crop_flip
from kdlib.views.jda import JDA, jda
from kdlib.views.jda import JDA_LISTS as JDA_LISTS
from kdlib.views.randaugment import RandAugment, randaugment

CROP = {"original crop": 3}
SECOND_CROP = {"augmented crop": 3}

Draws = Mapping[str, Tensor]


@dataclass(frozen=True)
class Source:
    """An image to crop: crop is the role of its crop and flip, ops what the raw image goes through before."""

    crop: str
    ops: Callable[[Tensor, Draws], Tensor] | None = None
    partner: bool = False  # whether it is made from the partner's raw image

    def __call__(self, images: Tensor, draws: Draws, partners: Tensor | None) -> Tensor:
        raw = partners if self.partner else images
        if raw is None:
            raise ValueError("partners are missing; allowed are raw images uint8 [B, 3, H, W]")
        return raw if self.ops is None else self.ops(raw, draws)


def crop_once(source: Tensor, crop: str, draws: Draws) -> list[Tensor]:
    """One crop and flip of a source image."""
    return [crop_flip(source, draws[crop])]


@dataclass(frozen=True)
class ViewPolicy:
    """What makes V views of an image.

    roles: uniforms per image of each role. crops: (source image, role of its crop, draws) -> its crops; after: what is
    done to the crops of all sources, where anything is; kept: for a policy that mixes images, (draws, height, width) ->
    the share of each view's pixels that are the image's own; spread: see `kdlib.views.orientations`; by_batch: whether
    what an image undergoes depends on the others of its batch.
    """

    name: str
    views: int
    sources: tuple[Source, ...]
    roles: Mapping[str, int]
    crops: Callable[[Tensor, str, Draws], list[Tensor]] = crop_once
    after: Callable[[list[Tensor], Draws], list[Tensor]] | None = None
    kept: Callable[[Draws, int, int], Tensor] | None = None
    transform: JDA | RandAugment | None = None  # what makes an augmented view, where it is a list of ops
    spread: str = "none"
    by_batch: bool = False

    @property
    def distinct(self) -> int:
        """How many of the V views differ: sources that are the same in all give the same view."""
        return self.views * len(set(self.sources)) // len(self.sources)

    @property
    def mixes(self) -> bool:
        """Whether views show a part of another image, the partner."""
        return self.kept is not None

    @property
    def spreadable(self) -> bool:
        """Whether views can be seen in four orientations: those that are turned or mixed already cannot."""
        return self.after is None and self.spread == "none"

    def __call__(self, images: Tensor, draws: Draws, partners: Tensor | None = None) -> Tensor:
        """uint8 [B, 3, H, W] and uniforms by role -> views uint8 [B, V, 3, H, W].

        partners: raw images uint8 [B, 3, H, W], required exactly if the policy mixes. The caller picks them from
        the training images by `draws["partner"]` [B, 1], so that an image's partner does not depend on the batch.
        Raises ValueError if they are missing, not wanted or of another shape.
        """
        if self.mixes != (partners is not None):
            raise ValueError(
                f"partners of policy {self.name!r} are {'missing' if self.mixes else 'given'}; "
                f"it {'mixes images with those of partners' if self.mixes else 'mixes no images and takes none'}"
            )
        if partners is not None and partners.shape != images.shape:
            raise ValueError(
                f"partners have shape {list(partners.shape)}; allowed is that of the images, {list(images.shape)}"
            )
        crops = []
        for source in self.sources:
            crops += self.crops(source(images, draws, partners), source.crop, draws)
        return torch.stack(crops if self.after is None else self.after(crops, draws), dim=1)

    def shares(self, draws: Draws, height: int, width: int) -> Tensor | None:
        """float32 [B, V] in [0, 1], on the CPU: the share of each view's pixels that come from the image itself, and so
        of its label in a mixed one; 1 for a view that is not mixed. None if the policy mixes nothing."""
        return None if self.kept is None else self.kept(draws, height, width)


def resized(policy: ViewPolicy, size: int) -> ViewPolicy:
    """The policy with random resized crops of size x size pixels, as for ImageNet, in place of padded ones.

    Raises ValueError for a policy that is spread by "turned crops", whose crops are padded.
    """
    if policy.spread == "turned crops":
        raise ValueError(
            f"policy {policy.name!r} with turned crops needs padded crops; allowed are data sets of small images"
        )
    roles = {role: RESIZED_DRAWS if role.endswith("crop") else n for role, n in policy.roles.items()}

    def crops(source: Tensor, crop: str, draws: Draws) -> list[Tensor]:
        return [resized_crop_flip(source, draws[crop], size)]

    return replace(policy, roles=roles, crops=crops)


ORIGINAL, SECOND = Source("original crop"), Source("augmented crop")


def _weak1() -> ViewPolicy:
    """One view: random crop and flip."""
    return ViewPolicy("weak1", 1, (ORIGINAL,), CROP)


def _weak2() -> ViewPolicy:
    """Two plain crops: JDA with p = 0, the zero point of every comparison at two views."""
    return ViewPolicy("weak2", 2, (ORIGINAL, SECOND), CROP | SECOND_CROP)


def _twin() -> ViewPolicy:
    """One crop twice: no diversity within a pair of views, the "identity" of Wang et al. (NeurIPS 2022)."""
    return ViewPolicy("twin", 2, (ORIGINAL, ORIGINAL), CROP)


def _jda(ops: str = "cifar100", p: float | None = None) -> ViewPolicy:
    """Two views: x, and x~ = JDA(x); each is then cropped and flipped on its own."""
    return _original_and("jda", jda(ops, p))


def _randaugment(num_ops: int = 3, magnitude: int = 5) -> ViewPolicy:
    """Two views: x, and RandAugment(x); each is then cropped and flipped on its own."""
    return _original_and("randaugment", randaugment(num_ops, magnitude))


def _original_and(name: str, transform: JDA | RandAugment) -> ViewPolicy:
    augmented = Source("augmented crop", lambda x, u: transform(x, u["augmented ops"]))
    roles = CROP | SECOND_CROP | {"augmented ops": transform.draws}
    return ViewPolicy(name, 2, (ORIGINAL, augmented), roles, transform=transform)


def _share(ops: str = "cifar100", p: float | None = None, share: float = 0.5) -> ViewPolicy:
    """Two crops, of which an exact share of all views in the batch goes through JDA first: any view, also a first one.

    Of the 2 B source images of a batch, round(share * 2 B) (halves to the even number) go through JDA: those with the
    smallest uniforms of the role "augmented share". What an image undergoes therefore depends on its batch, and, where
    several processes share a step, each counts its own part. At one batch, what is augmented at a share is augmented at
    every larger one. share = 0 is weak2.
    """
    transform = jda(ops, p)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"share = {share!r} is not a share; allowed are numbers from 0 to 1")

    def some(view: int, role: str) -> Callable[[Tensor, Draws], Tensor]:
        def apply(x: Tensor, u: Draws) -> Tensor:
            rows = smallest(u["augmented share"], share)[:, view].nonzero().squeeze(1)
            out, here = x.clone(), rows.to(x.device)
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


def _cutmix() -> ViewPolicy:
    """Two views: a crop of x, and another crop of x into which a box of a crop of its partner is pasted."""

    def mix(crops: list[Tensor], u: Draws) -> list[Tensor]:
        original, second, partner = crops
        return [original, cutmix.paste(second, partner, cutmix.boxes(u["box"], *second.shape[-2:]))]

    def kept(u: Draws, height: int, width: int) -> Tensor:
        second = cutmix.kept(cutmix.boxes(u["box"], height, width), height, width)
        return torch.stack([torch.ones_like(second), second], dim=1)

    sources = (ORIGINAL, SECOND, Source("partner crop", partner=True))
    return ViewPolicy("cutmix", 2, sources, CROP | SECOND_CROP | cutmix.ROLES, after=mix, kept=kept)


def _cutout() -> ViewPolicy:
    """Two views: a crop, and another crop with a black square of half its side (DeVries & Taylor, 2017).

    The centre is uniform over the pixels, and the square is clipped at the border. It is the box of CutMix at
    lambda = 3/4, with a black partner.
    """

    def blank(crops: list[Tensor], u: Draws) -> list[Tensor]:
        original, second = crops
        squares = cutmix.boxes(F.pad(u["cutout"], (1, 0), value=0.75), *second.shape[-2:])
        return [original, cutmix.paste(second, torch.zeros_like(second), squares)]

    return ViewPolicy("cutout", 2, (ORIGINAL, SECOND), CROP | SECOND_CROP | {"cutout": 2}, after=blank)


def _rot2() -> ViewPolicy:
    """Two views: a crop, and the same crop turned by a random 90, 180 or 270 degrees counter-clockwise."""

    def turn(crops: list[Tensor], u: Draws) -> list[Tensor]:
        turns = (u["rotation"].squeeze(1) * 3).long().to(crops[0].device)
        others = torch.stack(quarter_turns(crops[0])[1:], 1)
        return [crops[0], others[torch.arange(len(turns), device=turns.device), turns]]

    return ViewPolicy("rot2", 2, (ORIGINAL,), CROP | {"rotation": 1}, after=turn)


def _rot4() -> ViewPolicy:
    """Four views: one crop and its three quarter turns, counter-clockwise; all keep the label."""
    return ViewPolicy("rot4", 4, (ORIGINAL,), CROP, after=lambda crops, u: quarter_turns(crops[0]))


#: Policy name -> the function that makes it from its options.
POLICIES: Mapping[str, Callable[..., ViewPolicy]] = {
    "weak1": _weak1, "weak2": _weak2, "twin": _twin, "jda": _jda, "rot2": _rot2, "rot4": _rot4,
    "randaugment": _randaugment, "cutout": _cutout, "cutmix": _cutmix, "share": _share,
}  # fmt: skip


def policy_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a policy, defaults included. Raises ValueError for an unknown name, option or value."""
    if name not in POLICIES:
        raise ValueError(f"policy = {name!r} is unknown; allowed are {', '.join(POLICIES)}")
    known = _parameters(POLICIES[name])
    if not isinstance(options, Mapping):
        raise ValueError(
            f"options = {options!r} of policy {name!r} must be a mapping; allowed are {', '.join(known) or 'none'}"
        )
    for option in options:
        if option not in known:
            raise ValueError(f"policy {name!r} has no option {option!r}; allowed are {', '.join(known) or 'none'}")
    resolved = {option: parameter.default for option, parameter in known.items()} | dict(options)
    policy = POLICIES[name](**resolved)
    # None stands for the list's own probability: one experiment, one key
    if "p" in resolved and isinstance(policy.transform, JDA):
        resolved["p"] = policy.transform.p
    if "share" in resolved:  # 1 and 1.0, 0.0 and -0.0 are one experiment
        resolved["share"] = abs(float(resolved["share"]))
    return resolved


@cache
def _parameters(make: Callable[..., ViewPolicy]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(make).parameters


def create_policy(name: str, **options: Any) -> ViewPolicy:
    """The view policy called `name`. Raises ValueError for an unknown name, option or value."""
    options = policy_options(name, options)
    return POLICIES[name](**options)
