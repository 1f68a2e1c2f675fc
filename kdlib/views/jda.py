"""Joint Data Augmentation (JDA; Li et al., ACCV 2022): a fixed, ordered list of ops, each of which fires at random."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kdlib.views.ops import OPS, apply_op, is_identity

#: Firing probability p and ordered (op, magnitude index) of each list: the released settings of Li et al. (2022).
#: One of your own: `JDA_LISTS["mine"] = (0.3, (("rotate", 3), ("mine", 5)))`.
JDA_LISTS: dict[str, tuple[float, tuple[tuple[str, int], ...]]] = {
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

    def rule(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """What JDA is, op by op, on the images on which each fires. A call does the same faster: equal, bit for bit."""
        out, fired = images.clone(), self.fired(uniforms)
        minus = uniforms[:, len(self.ops) :] >= 0.5
        for k, (name, magnitude) in enumerate(self.ops):
            for sign, rows in ((1, fired[:, k] & ~minus[:, k]), (-1, fired[:, k] & minus[:, k])):
                rows = rows.to(images.device)
                out[rows] = apply_op(name, out[rows], magnitude, sign)
        return out

    def steady(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """What a call computes, bit for bit, from uniforms that lie where the images are: every op on all images, kept
        where it fires. More work, but no shape depends on the draws, so that a graph of a GPU can hold it."""
        out, fired, minus = images, self.fired(uniforms), uniforms[:, len(self.ops) :] >= 0.5
        for k, (name, magnitude) in enumerate(self.ops):
            if is_identity(name, magnitude):
                continue
            parts = ((1, ~minus[:, k]), (-1, minus[:, k])) if OPS[name].signed else ((1, None),)
            changed = out
            for sign, chosen in parts:
                rows = fired[:, k] if chosen is None else fired[:, k] & chosen
                changed = torch.where(rows[:, None, None, None], apply_op(name, out, magnitude, sign), changed)
            out = changed
        return out

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """images uint8 [B, 3, H, W] on any device, uniforms float32 [B, 2 * ops] on the CPU -> new uint8 tensor.

        The batch is sorted once for all ops, so that what an op treats is a slice; see `rule` for what it computes.
        """
        acting = [k for k, op in enumerate(self.ops) if not is_identity(*op)]
        minus = (uniforms[:, len(self.ops) :] >= 0.5).to(torch.uint8)
        group = torch.where(self.fired(uniforms), minus, 2)[:, acting].T  # 0: fires with sign +1, 1: with -1, 2: not
        counts = ((group <= last).sum(1).tolist() for last in (0, 1))
        *moves, back = _moves(group).to(images.device, non_blocking=True)
        out = images
        for k, move, plus, fired in zip(acting, moves, *counts, strict=True):
            (name, magnitude), out = self.ops[k], out.index_select(0, move)
            parts = ((1, 0, plus), (-1, plus, fired)) if OPS[name].signed else ((1, 0, fired),)
            for sign, start, end in parts:
                if start < end:
                    out[start:end] = apply_op(name, out[start:end], magnitude, sign)
        return out.index_select(0, back)


def _moves(group: Tensor) -> Tensor:
    """How to sort a batch by its groups at one op after another, so that what an op treats is a slice of the batch.

    group: uint8 [ops, B]. Returns int64 [ops + 1, B]: for each op, and for the way back, which places of the order
    before to take the images from.
    """
    as_they_come = group.new_zeros(1, group.shape[1])
    order = torch.cat([as_they_come, group]).argsort(dim=1, stable=True)
    place = order.argsort(dim=1)
    return torch.cat([place[:-1].gather(1, order[1:]), place[-1:]])


def jda(ops: str = "cifar100", p: float | None = None) -> JDA:
    """JDA with one of the op lists; p None takes the list's own. Raises ValueError on a bad field."""
    if not isinstance(ops, str) or ops not in JDA_LISTS:
        raise ValueError(f"ops = {ops!r} is unknown; allowed are {', '.join(JDA_LISTS)}")
    default, table = JDA_LISTS[ops]
    p = default if p is None else p
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise ValueError(f"p = {p!r} is not a probability; allowed are numbers from 0 to 1")
    return JDA(table, abs(float(p)))  # -0.0 and 0.0 are one experiment
