"""View policies: how many views of an image the student sees, and what each goes through.

A policy is a pure function of images and of uniform random numbers, looked up by image id (see kdlib.randomness):
`policy(images [B, 3, H, W] uint8, draws) -> views [B, V, 3, H, W] uint8`, where `draws[role]` is float32 [B, n]. The
first view is the original view, the others are augmented views; `views.flatten(0, 1)` interleaves them x0, x~0, x1, ...
Crops have the same roles in every policy, so arms of one seed see the same crops.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdlib.views.ops import OPS, apply_op, is_identity

CROP = {"original crop": 3}
SECOND_CROP = {"augmented crop": 3}
PADDING = 4  # black pixels on each side before the random crop

# Ordered (op, magnitude index) and the firing probability p of each list (the released settings of Li et al., 2022).
JDA_LISTS: Mapping[str, tuple[float, tuple[tuple[str, int], ...]]] = {
    "cifar100": (0.3, (
        ("autocontrast", 2), ("contrast", 3), ("posterize", 0), ("solarize", 4), ("translateY", 8), ("shearX", 5),
        ("brightness", 3), ("shearY", 0), ("translateX", 1), ("sharpness", 5), ("invert", 4), ("color", 4),
        ("equalize", 8), ("rotate", 3),
    )),
    "cifar10": (0.5, (
        ("invert", 7), ("rotate", 2), ("shearY", 8), ("posterize", 9), ("autocontrast", 8), ("color", 3),
        ("sharpness", 9), ("equalize", 5), ("contrast", 7), ("translateY", 3), ("brightness", 6), ("solarize", 2),
        ("translateX", 3), ("shearX", 8),
    )),
    "imagenet": (0.2, (
        ("posterize", 8), ("solarize", 5), ("equalize", 8), ("posterize", 7), ("equalize", 7), ("equalize", 4),
        ("solarize", 3), ("posterize", 5), ("rotate", 3), ("equalize", 8), ("rotate", 8), ("rotate", 9),
        ("equalize", 7), ("invert", 4), ("color", 4), ("rotate", 8), ("color", 8), ("sharpness", 7), ("shearX", 5),
        ("color", 0), ("equalize", 7), ("solarize", 5), ("invert", 4), ("color", 4), ("equalize", 8),
    )),
}  # fmt: skip


@dataclass(frozen=True)
class JDA:
    """Joint Data Augmentation (Li et al., 2022): every op of an ordered list fires independently with probability p.

    ops: ordered (op, magnitude index 0..9); p in [0, 1].
    """

    ops: tuple[tuple[str, int], ...]
    p: float

    @property
    def draws(self) -> int:
        """Uniforms per image: one decides whether an op fires, one its sign."""
        return 2 * len(self.ops)

    def fired(self, uniforms: Tensor) -> Tensor:
        """bool [B, ops] from float32 [B, 2 * ops]. Nested in p: what fires at p also fires at any larger p."""
        return uniforms[:, : len(self.ops)] < self.p

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """images uint8 [B, 3, H, W] on any device, uniforms float32 [B, 2 * ops] on the CPU -> new uint8 tensor."""
        fired, positive = self.fired(uniforms), uniforms[:, len(self.ops) :] < 0.5
        out = images.clone()
        for k, (name, magnitude) in enumerate(self.ops):
            if is_identity(name, magnitude):
                continue
            groups = {1: positive[:, k], -1: ~positive[:, k]} if OPS[name].signed else {1: torch.tensor(True)}
            for sign, group in groups.items():
                rows = (fired[:, k] & group).nonzero().squeeze(1).to(images.device)
                if len(rows):
                    out[rows] = apply_op(name, out[rows], magnitude, sign)
        return out


def jda(ops: str = "cifar100", p: float | None = None) -> JDA:
    """JDA with one of the three published op lists; p None takes the list's own. Raises ValueError on a bad field."""
    if not isinstance(ops, str) or ops not in JDA_LISTS:
        raise ValueError(f"ops = {ops!r} is unknown; allowed are {', '.join(JDA_LISTS)}")
    default, table = JDA_LISTS[ops]
    p = default if p is None else p
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise ValueError(f"p = {p!r} is not a probability; allowed are numbers from 0 to 1")
    return JDA(table, abs(float(p)))  # -0.0 and 0.0 are one experiment


def crop_flip(images: Tensor, uniforms: Tensor) -> Tensor:
    """Random crop from a frame of 4 black pixels, then a horizontal flip with probability 1/2.

    images uint8 [B, 3, H, W]; uniforms float32 [B, 3] (row, column, flip), on the CPU. The result is channels_last.
    """
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (PADDING,) * 4)
    offsets = (uniforms[:, :2] * (2 * PADDING + 1)).long()
    columns = torch.arange(width).expand(len(images), -1)
    columns = torch.where(uniforms[:, 2:] < 0.5, columns.flip(1), columns) + offsets[:, 1:]
    rows = torch.arange(height) + offsets[:, :1]
    rows, columns = rows.to(images.device), columns.to(images.device)
    batch = torch.arange(len(images), device=images.device)
    picked = padded[batch[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [B, H, W, 3]
    return picked.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class ViewPolicy:
    """views: V, views per image; roles: uniforms per image of each role; make: images, draws -> list of V views."""

    name: str
    views: int
    make: Callable[[Tensor, Mapping[str, Tensor]], list[Tensor]]
    roles: Mapping[str, int]
    transform: JDA | None = None  # what makes the augmented view, where it is JDA

    def __call__(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """uint8 [B, 3, H, W] and uniforms by role -> views uint8 [B, V, 3, H, W]."""
        return torch.stack(self.make(images, draws), dim=1)


def _weak1() -> ViewPolicy:
    """One view: random crop and flip."""
    return ViewPolicy("weak1", 1, lambda x, u: [crop_flip(x, u["original crop"])], CROP)


def _jda(ops: str = "cifar100", p: float | None = None) -> ViewPolicy:
    """Two views: x, and x~ = JDA(x); each is then cropped and flipped on its own."""
    transform = jda(ops, p)

    def make(x: Tensor, u: Mapping[str, Tensor]) -> list[Tensor]:
        return [
            crop_flip(x, u["original crop"]),
            crop_flip(transform(x, u["augmented ops"]), u["augmented crop"]),
        ]

    return ViewPolicy("jda", 2, make, CROP | SECOND_CROP | {"augmented ops": transform.draws}, transform)


def _weak2() -> ViewPolicy:
    """Two plain crops: JDA with p = 0, the zero point of every comparison at two views."""
    return ViewPolicy("weak2", 2, lambda x, u: [crop_flip(x, u["original crop"]), crop_flip(x, u["augmented crop"])],
                      CROP | SECOND_CROP)  # fmt: skip


def _rot2() -> ViewPolicy:
    """Two views: a crop, and the same crop turned by a random 90, 180 or 270 degrees counter-clockwise."""

    def make(x: Tensor, u: Mapping[str, Tensor]) -> list[Tensor]:
        crop = crop_flip(x, u["original crop"])
        turns = (u["rotation"].squeeze(1) * 3).long().to(x.device)
        return [crop, torch.stack(_quarter_turns(crop)[1:], 1)[torch.arange(len(x), device=x.device), turns]]

    return ViewPolicy("rot2", 2, make, CROP | {"rotation": 1})


def _rot4() -> ViewPolicy:
    """Four views: one crop and its three quarter turns, counter-clockwise; all keep the label."""
    return ViewPolicy("rot4", 4, lambda x, u: _quarter_turns(crop_flip(x, u["original crop"])), CROP)


def _quarter_turns(images: Tensor) -> list[Tensor]:
    return [torch.rot90(images, k, (2, 3)) for k in range(4)]


POLICIES: Mapping[str, Callable[..., ViewPolicy]] = {
    "weak1": _weak1, "weak2": _weak2, "jda": _jda, "rot2": _rot2, "rot4": _rot4,
}  # fmt: skip


def policy_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a policy, defaults included. Raises ValueError for an unknown name, option or value."""
    if name not in POLICIES:
        raise ValueError(f"policy = {name!r} is unknown; allowed are {', '.join(POLICIES)}")
    known = inspect.signature(POLICIES[name]).parameters
    if not isinstance(options, Mapping):
        raise ValueError(
            f"options = {options!r} of policy {name!r} must be a mapping; allowed are {', '.join(known) or 'none'}"
        )
    for option in options:
        if option not in known:
            raise ValueError(f"policy {name!r} has no option {option!r}; allowed are {', '.join(known) or 'none'}")
    resolved = {option: parameter.default for option, parameter in known.items()} | dict(options)
    policy = POLICIES[name](**resolved)
    if "p" in resolved:  # None stands for the list's own probability: one experiment, one key
        resolved["p"] = policy.transform.p
    return resolved


def create_policy(name: str, **options: Any) -> ViewPolicy:
    """The view policy called `name`. Raises ValueError for an unknown name, option or value."""
    options = policy_options(name, options)
    return POLICIES[name](**options)
