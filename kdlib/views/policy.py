"""A view policy: how many views of an image the student sees, and what each goes through.

A policy is a pure function of images and of uniform random numbers, looked up by image id (see kdlib.randomness):
`policy(images [B, 3, H, W] uint8, draws) -> views [B, V, 3, H, W] uint8`, where `draws[role]` is float32 [B, n]. The
first view is the original view, the others are augmented views; `views.flatten(0, 1)` interleaves them x0, x~0, x1, ...
Crops have the same roles in every policy, so arms of one seed see the same crops.

A policy has three steps: its sources, each the raw image after ops; one crop or several of each source; and, in some,
something done to the crops (turning, mixing).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from kdlib.views.crops import RESIZED_DRAWS, crop_flip, resized_crop_flip
from kdlib.views.jda import JDA
from kdlib.views.randaugment import RandAugment

CROP = {"original crop": 3}
SECOND_CROP = {"augmented crop": 3}

PICK = "pick"  # the role of the numbers by which images are chosen

Draws = Mapping[str, Tensor]
Picks = Literal["highest", "lowest", "random"]
Attends = Literal["teacher", "untrained"]

BY_ENERGY: tuple[Picks, ...] = ("highest", "lowest")


def partner_ids(draws: Draws, pool: Tensor) -> Tensor:
    """int64 [n]: the images of `pool` int64 [m] that a policy which mixes puts into those for which was drawn."""
    return pool[(draws["partner"].squeeze(1) * len(pool)).long()]


@dataclass(frozen=True)
class Source:
    """An image to crop."""

    #: the role of its crop and flip
    crop: str
    #: what the raw image goes through before
    ops: Callable[[Tensor, Draws], Tensor] | None = None
    #: whether it is made from the partner's raw image
    partner: bool = False
    #: `ops` in shapes that do not depend on the draws, see `ViewPolicy.in_steady_shapes`
    steady: Callable[[Tensor, Draws], Tensor] | None = None

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
    """What makes V views of an image."""

    #: its key in `kdlib.views.policies.POLICIES`
    name: str
    #: V
    views: int
    #: what is cropped
    sources: tuple[Source, ...]
    #: uniforms per image of each role
    roles: Mapping[str, int]
    #: (source image, role of its crop, draws) -> its crops
    crops: Callable[[Tensor, str, Draws], list[Tensor]] = crop_once
    #: what is done to the crops of all sources, where anything is
    after: Callable[[list[Tensor], Draws], list[Tensor]] | None = None
    #: of a policy that mixes images: (draws, height, width) -> the share of each view's pixels that are the image's own
    kept: Callable[[Draws, int, int], Tensor] | None = None
    #: what makes an augmented view, where it is a list of ops
    transform: JDA | RandAugment | None = None
    #: see `kdlib.views.orientations`
    spread: str = "none"
    #: whether what an image undergoes depends on the others of its batch
    by_batch: bool = False
    #: of a policy that chooses images: what puts them in order, the first first. The caller gives each image's place,
    #: in [0, 1), as the draw of the role "pick": by the teacher's energy, or in one random order for the whole run
    picks: Picks | None = None
    #: of a policy that reads a map of each image: of which network, the teacher or one like it with random weights. The
    #: caller gives the maps as the draws of the role "attention", see `kdlib.views.attention`
    attends: Attends | None = None
    #: the roles whose numbers an image keeps for a whole run; the caller gives them
    fixed: tuple[str, ...] = ()
    #: whether it has a form `in_steady_shapes`
    steady: bool = False

    def in_steady_shapes(self) -> "ViewPolicy":
        """The same views from draws that lie where the images are, by operations whose shapes do not depend on the
        draws: what a graph of a GPU can hold. Raises ValueError for a policy that has no such form."""
        if not self.steady:
            raise ValueError(f"policy {self.name!r} makes views in shapes that depend on its draws; allowed are others")
        return replace(self, sources=tuple(replace(source, ops=source.steady) for source in self.sources))

    @property
    def by_run(self) -> bool:
        """Whether a run has to say something about its images first: their order, their maps, or what they keep."""
        return bool(self.picks or self.attends or self.fixed)

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

    return replace(policy, roles=roles, crops=crops, steady=False)  # their boxes are found on the CPU


ORIGINAL, SECOND = Source("original crop"), Source("augmented crop")
