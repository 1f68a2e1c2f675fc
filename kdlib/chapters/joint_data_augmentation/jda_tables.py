"""What the operations of a JDA policy do, found by applying them."""

import pandas as pd
import torch
from torch import Tensor

from kdlib.randomness import uniforms
from kdlib.views.jda import JDA
from kdlib.views.ops import OPS, apply_op

CHANGES = {"photographs": "change on photographs", "grey": "change on grey images"}


def signs(name: str) -> tuple[int, ...]:
    """The signs an op is applied with."""
    return (1, -1) if OPS[name].signed else (1,)


def operations(transform: JDA, photographs: Tensor, grey: Tensor) -> pd.DataFrame:
    """One row per op of the list: magnitude, signed or not, and the mean absolute change in grey levels of 255.

    photographs, grey: uint8 [n, 3, H, W], colour and grey images. 0.0 marks an identity.
    """
    rows = []
    for name, magnitude in transform.ops:
        value = OPS[name].magnitudes[magnitude] if OPS[name].magnitudes is not None else None
        row = {
            "op": name,
            "index": magnitude,
            "magnitude": "none" if value is None else f"{value:.3g}",
            "sign": "random" if OPS[name].signed else "fixed",
            "fires with p": transform.p,
        }
        for column, pictures in zip(CHANGES.values(), (photographs, grey), strict=True):
            row[column] = round(max(change(pictures, apply_op(name, pictures, magnitude, s)) for s in signs(name)), 1)
        rows.append(row)
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="order"))


def change(before: Tensor, after: Tensor) -> float:
    """Mean absolute difference of uint8 images, in grey levels."""
    return (before.int() - after.int()).abs().double().mean().item()


def acting(table: pd.DataFrame, images: str) -> int:
    """Number of ops that change anything; images: a key of CHANGES."""
    return int((table[CHANGES[images]] > 0).sum())


def untouched(table: pd.DataFrame, p: float) -> float:
    """Probability, in percent, that no op which can change a colour image fires on it."""
    return 100 * (1 - p) ** acting(table, "photographs")


def fired_counts(transform: JDA, table: pd.DataFrame, draws: int = 20_000) -> pd.DataFrame:
    """Share of `draws` images on which k acting ops fired, counted, beside the binomial probability."""
    from scipy.stats import binom  # not above: it takes a second to import

    acts = torch.tensor((table[CHANGES["photographs"]] > 0).to_numpy())
    fired = transform.fired(uniforms(0, "augmented ops", 0, draws, transform.draws))[:, acts].sum(1)
    k = torch.arange(int(acts.sum()) + 1)
    counted = torch.bincount(fired, minlength=len(k)).double() / draws
    return pd.DataFrame({"counted": counted, "binomial": binom.pmf(k, int(acts.sum()), transform.p)}, index=k.numpy())
