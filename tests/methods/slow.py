"""Slow references in double precision, one sample and one class at a time, and numbers to compare losses on."""

import math

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special
from torch import Tensor

numbers = st.floats(-50, 50, allow_nan=False, width=32)
temperatures = st.sampled_from([0.5, 1.0, 3.0, 4.0, 20.0])
examples = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def logit_pairs(draw) -> tuple[Tensor, Tensor]:
    """Two float64 tensors [B, N], B 1..5, N 2..6."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(2, 6)))
    return tuple(torch.from_numpy(draw(hnp.arrays(np.float64, shape, elements=numbers))) for _ in range(2))


def normal(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def whole(high: int, *shape: int, seed: int = 0) -> Tensor:
    """Random int64 in 0..high - 1."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def unit(*shape: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(normal(*shape, seed=seed), dim=1)


def slow_kl(student: np.ndarray, teacher: np.ndarray, temperature: float) -> list[float]:
    values = []
    for s, t in zip(student / temperature, teacher / temperature, strict=True):
        s, t = s - s.max(), t - t.max()  # else huge logits would swallow the logarithm
        log_q, log_p = s - special.logsumexp(s), t - special.logsumexp(t)
        values.append(math.fsum(math.exp(lp) * (lp - lq) for lp, lq in zip(log_p, log_q, strict=True)))
    return values


def slow_cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = math.sqrt(math.fsum(a * a)) * math.sqrt(math.fsum(b * b))
    return math.fsum(a * b) / length if length else 0.0


def slow_ce(logits: np.ndarray, label: int) -> float:
    return special.logsumexp(logits - logits.max()) - (logits - logits.max())[label]


def slow_dkd(student: np.ndarray, teacher: np.ndarray, label: int, temperature: float) -> tuple[float, float]:
    """TCKD and NCKD of one sample: KL of (p_y, 1 - p_y), and KL over the other classes."""
    two_way = []
    for z in (student / temperature, teacher / temperature):
        z = z - z.max()
        total = special.logsumexp(z)
        two_way.append(np.array([z[label] - total, special.logsumexp(np.delete(z, label)) - total]))
    others = [np.delete(z, label)[None] for z in (student, teacher)]
    return slow_kl(*(x[None] for x in two_way), 1.0)[0], slow_kl(*others, temperature)[0]


def slow_ranked(
    student: np.ndarray, teacher: np.ndarray, targets: np.ndarray, temperature: float, ratio: float
) -> tuple[float, list[int]]:
    """The loss, and the rows that are kept."""
    ranks = [sum(value > row[y] for value in row) for row, y in zip(teacher, targets, strict=True)]
    right = [i for i, rank in enumerate(ranks) if rank == 0]
    wrong = sorted((i for i, rank in enumerate(ranks) if rank > 0), key=lambda i: ranks[i])  # stable
    kept = right + wrong[: int(ratio * len(wrong))]
    each = slow_kl(student, teacher, temperature)
    return math.fsum(each[i] for i in kept) / max(len(kept), 1), kept


def slow_spkd(student: np.ndarray, teacher: np.ndarray) -> float:
    total, grams = 0.0, []
    for maps in (student, teacher):
        f = [row.ravel() for row in maps]
        gram = np.array([[math.fsum(a * b) for b in f] for a in f])
        lengths = [math.sqrt(math.fsum(row * row)) or 1.0 for row in gram]
        grams.append([row / length for row, length in zip(gram, lengths, strict=True)])
    for row_s, row_t in zip(*grams, strict=True):
        total += math.fsum((row_t - row_s) ** 2)
    return total / len(student) ** 2
