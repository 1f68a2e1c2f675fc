"""Stateless randomness: every draw is a function of (seed, role, epoch, image id).

A table of uniforms is drawn for the whole training set of one epoch, on the CPU, and rows are looked up by image id.
So arms that share a seed share initial weights, subsets, order and crops; a resumed run needs no generator state; and
what an image undergoes does not depend on the batch size, on the number of processes or on the device.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

_DEFAULT_GENERATOR = threading.RLock()
KEPT = 32  # tables: two epochs of the roles of the richest policy

Tables = Callable[[int, str, int, int, int], Tensor]  #: (seed, role, epoch, count, draws) -> `table` of them


def stream_seed(seed: int, role: str, epoch: int = 0) -> int:
    """A 63-bit seed for one stream, from SHA-256 of its name. Roles are free text such as "order"."""
    digest = hashlib.sha256(f"{seed}|{role}|{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, role: str, epoch: int = 0) -> torch.Generator:
    """A CPU generator at the start of one stream."""
    return torch.Generator().manual_seed(stream_seed(seed, role, epoch))


def table(seed: int, role: str, epoch: int, count: int, draws: int) -> Tensor:
    """float32 [count, draws] in [0, 1): row i belongs to image id i."""
    return torch.rand(count, draws, generator=generator(seed, role, epoch))


@lru_cache(maxsize=KEPT)
def uniforms(seed: int, role: str, epoch: int, count: int, draws: int) -> Tensor:
    """The same, cached: treat it as read-only."""
    return table(seed, role, epoch, count, draws)


def own_tables() -> Tables:
    """`uniforms` with a cache of its own: runs of several seeds in turn would take the tables from each other."""
    return lru_cache(maxsize=KEPT)(table)


def uniforms_of(
    seed: int, role: str, epochs: Tensor, ids: Tensor, count: int, draws: int, tables: Tables = uniforms
) -> Tensor:
    """float32 [B, draws] for images `ids` [B] int64, image i in its epoch `epochs[i]`; `count` = size of the set.

    A batch may span two epochs (or more, if it is larger than the subset), so rows are gathered epoch by epoch.
    """
    rows = torch.empty(len(ids), draws)
    for epoch in epochs.unique().tolist():
        here = epochs == epoch
        rows[here] = tables(seed, role, epoch, count, draws)[ids[here]]
    return rows


def draws_of(
    seed: int, roles: Mapping[str, int], epochs: Tensor, ids: Tensor, count: int, tables: Tables = uniforms
) -> dict[str, Tensor]:
    """Role -> `uniforms_of` it, with as many draws as `roles` says."""
    return {role: uniforms_of(seed, role, epochs, ids, count, draws, tables) for role, draws in roles.items()}


@contextmanager
def seeded(seed: int, role: str):
    """Inside, torch's default CPU generator stands at the start of a stream: for layers' own initialisers.

    All threads of a process share that generator, so one thread at a time is inside.
    """
    with _DEFAULT_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, role))
        yield
