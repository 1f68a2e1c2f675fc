"""Losses against those of another library, torchdistill, on the same inputs in double precision.

It shares no line with this project. It has KD, SPKD, SSKD with its first stage, CRD, DIST and logit standardisation,
but not DKD, CRLD, TeKAP and HSAKD. Where it means something else, a test says what, and compares the rest.
"""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kdlib.methods import METHODS, Batch, total
from kdlib.methods import dist as dist_module
from kdlib.methods.crd import ContrastiveMemory
from kdlib.methods.dist import DISTLoss
from kdlib.methods.kd import KDLoss
from kdlib.methods.ls import LSLoss
from kdlib.methods.spkd import SPKDLoss
from kdlib.methods.sskd import SSKDLoss, rotation_similarity, rotation_targets
from kdlib.models import Output
from kdlib.randomness import seeded

from .slow import examples, logit_pairs, normal, slow_spkd, temperatures, unit, whole

peer = pytest.importorskip("torchdistill.losses.mid_level", reason="torchdistill, the other library, is not installed")

WHERE = {"path": "z", "io": "output"}
PLACES = {f"{network}_module_{what}": name for network in ("student", "teacher") for what, name in WHERE.items()}


def seen(**outputs: Tensor) -> dict[str, dict[str, Tensor]]:
    """What it is told of a network: module -> its output."""
    return {name: {"output": output} for name, output in outputs.items()}


def close(found: Tensor, expected: Tensor) -> None:
    """Equal values to 12 digits. A loss is a sum of parts of size 1, so below 1 the digits are those of 1."""
    torch.testing.assert_close(found, expected.reshape(found.shape), rtol=1e-12, atol=1e-12)


def both(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], student: Tensor) -> None:
    """Values and gradients of the student are equal."""
    values = [loss(student.requires_grad_()) for loss in (ours, theirs)]
    close(*values)
    close(*(torch.autograd.grad(value.sum(), student)[0] for value in values))


# --- answers


@examples
@given(logit_pairs(), temperatures, st.floats(0.1, 2), st.floats(0, 10))
def test_kd_is_its_kd(pair: tuple[Tensor, Tensor], temperature: float, alpha: float, beta: float):
    (student, teacher), labels = pair, torch.zeros(len(pair[0]), dtype=torch.int64)
    loss = peer.KDLoss(**PLACES, temperature=temperature, alpha=alpha, beta=beta)
    both(
        lambda s: alpha * F.cross_entropy(s, labels) + beta * KDLoss(temperature)(s, teacher),
        lambda s: loss(seen(z=s), seen(z=teacher), labels),
        student,
    )


@pytest.mark.parametrize("name", ["KDLoss", "LogitStdKDLoss"])
def test_without_labels_it_drops_the_square_of_the_temperature_and_the_weight(name: str):
    """With alpha = 0, or no labels, it returns KL_T alone: 16 times less at T = 4, whatever beta is."""
    student, teacher, labels = normal(6, 5), normal(6, 5, seed=1), whole(5, 6)
    ours = {"KDLoss": KDLoss, "LogitStdKDLoss": LSLoss}[name](4.0)(student, teacher)
    for alpha, targets in ((0.0, labels), (0.5, None)):
        loss = getattr(peer, name)(**PLACES, temperature=4.0, alpha=alpha, beta=3.0)
        close(16 * loss(seen(z=student), seen(z=teacher), targets), ours)


@examples
@given(st.integers(1, 5), st.integers(2, 6), temperatures, st.floats(0.1, 2), st.floats(0, 10), st.integers(0, 10**6))
def test_logit_standardisation_is_its_logit_standardisation(
    rows: int, classes: int, temperature: float, alpha: float, beta: float, seed: int
):
    student, teacher = normal(rows, classes, seed=seed), normal(rows, classes, seed=seed + 1)
    labels = whole(classes, rows, seed=seed)
    loss = peer.LogitStdKDLoss(**PLACES, temperature=temperature, alpha=alpha, beta=beta)
    both(
        lambda s: alpha * F.cross_entropy(s, labels) + beta * LSLoss(temperature)(s, teacher),
        lambda s: loss(seen(z=s), seen(z=teacher), labels),
        student,
    )


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 1.0), (2.0, 0.5)])
def test_dist_is_its_dist_but_for_the_small_number(monkeypatch, temperature: float, beta: float, gamma: float):
    """Ours adds 1e-8 to the product of both norms, its cosine holds each norm at 1e-8 or more: without, they agree."""
    student, teacher = normal(7, 5), normal(7, 5, seed=1)
    loss = peer.DISTLoss(**PLACES, beta=beta, gamma=gamma, tau=temperature)

    def theirs(s: Tensor) -> Tensor:
        return loss(seen(z=s), seen(z=teacher))

    ours = DISTLoss(temperature, inter_weight=beta, intra_weight=gamma)
    with_it = ours(student, teacher)
    monkeypatch.setattr(dist_module, "TINY", 0.0)
    both(lambda s: ours(s, teacher), theirs, student)
    p, q = (F.softmax(z.detach() / temperature, dim=1) for z in (student, teacher))
    norms = [(x - x.mean(1, keepdim=True)).norm(dim=1) for x in (p, q, p.T, q.T)]
    least = min((norms[0] * norms[1]).min(), (norms[2] * norms[3]).min())
    assert 0 < with_it - theirs(student) < 1e-8 / least * temperature**2 * (beta + gamma)


# --- relations


@pytest.mark.parametrize("images", [4, 64])
def test_spkd_divides_rows_by_another_norm(images: int):
    """It divides the rows of G by the sum of their sizes, the paper and we by their Euclidean norm; both as stated.

    A row of B entries alike is 1/B each by the one, 1/sqrt(B) by the other: its term is about B times smaller.
    """
    student, teacher = (normal(images, width, 2, 2, seed=width).relu() for width in (3, 5))
    loss = peer.SPKDLoss("f", "f", "batchmean")
    ours, theirs = SPKDLoss()(student, teacher), loss(seen(f=student), seen(f=teacher))
    assert ours.item() == pytest.approx(slow_spkd(student.numpy(), teacher.numpy()), rel=1e-9)

    def by_sizes(maps: Tensor) -> Tensor:
        gram = maps.flatten(1) @ maps.flatten(1).T
        return gram / gram.abs().sum(1, keepdim=True)

    close(theirs, (by_sizes(student) - by_sizes(teacher)).square().sum() / images**2)
    assert images / 2 < ours / theirs < 2 * images


def test_spkd_is_its_spkd_where_both_norms_are_one():
    """Rows of G with a single entry that is not 0 have equal norms, so the rest of both formulas can be compared."""
    student, teacher = (normal(3, 1, seed=seed).abs() * torch.eye(3, dtype=torch.float64) for seed in (0, 1))
    teacher[2] = 0  # a row of zeros stays one in both
    loss = peer.SPKDLoss("f", "f", "batchmean")
    both(lambda s: SPKDLoss()(s, teacher), lambda s: loss(seen(f=s), seen(f=teacher)), student)
    assert SPKDLoss()(student, teacher).item() == pytest.approx(1 / 9)


# --- turned views


def uncut(values: Tensor, targets: Tensor) -> list[float]:
    """The ratios at which all rows of a rank are kept or none. Which of equal rank it keeps is up to its sort."""
    ranks = (values > values.gather(1, targets[:, None])).sum(1)
    wrong = ranks[ranks > 0].sort().values.tolist()
    whole_ranks = [i for i in range(1, len(wrong)) if wrong[i - 1] != wrong[i]]
    return [(count + 0.5) / len(wrong) for count in whole_ranks] + [1.0]


def sskd_of(ss_ratio: float, tf_ratio: float) -> nn.Module:
    """Its loss, with weights that show which is which: of CE, KL of upright views, similarities, KL of turned ones."""
    return peer.SSKDLoss(
        "z", "z", "e", "e", kl_temp=4.0, ss_temp=0.5, tf_temp=4.0, ss_ratio=ss_ratio, tf_ratio=tf_ratio,
        loss_weights=[0.1, 0.9, 10.0, 2.7],
    )  # fmt: skip


@pytest.mark.parametrize("images", [2, 5, 12])
@pytest.mark.parametrize("seed", range(3))
def test_sskd_is_its_sskd(images: int, seed: int):
    """At every ratio that cuts no rank in two, with the weights that are published."""
    student, teacher = (normal(4 * images, 6, seed=seed + i) for i in (0, 100))
    embedded, others = normal(4 * images, 4, seed=seed + 200), normal(4 * images, 9, seed=seed + 300)
    labels = whole(6, images, seed=seed)
    turned = torch.arange(4 * images) % 4 != 0
    ss_ratios = uncut(rotation_similarity(others), rotation_targets(images, "cpu"))
    tf_ratios = uncut(teacher[turned], labels.repeat_interleave(3))
    assert images == 2 or min(len(ss_ratios), len(tf_ratios)) > 1
    for ss_ratio, tf_ratio in itertools.product(ss_ratios, tf_ratios):
        theirs, ours = sskd_of(ss_ratio, tf_ratio), SSKDLoss(similarity_ratio=ss_ratio, turned_ratio=tf_ratio)
        both(
            lambda s, ours=ours: (
                0.1 * F.cross_entropy(s[::4], labels) + ours((s, embedded.detach()), (teacher, others), labels)
            ),
            lambda s, theirs=theirs: theirs(seen(z=s, e=embedded.detach()), seen(z=teacher, e=others), labels),
            student,
        )
        both(
            lambda e, ours=ours: (
                0.1 * F.cross_entropy(student.detach()[::4], labels)
                + ours((student.detach(), e), (teacher, others), labels)
            ),
            lambda e, theirs=theirs: theirs(seen(z=student.detach(), e=e), seen(z=teacher, e=others), labels),
            embedded,
        )


def test_where_nothing_is_kept_its_sskd_is_no_number_and_ours_is_without_that_term():
    logits, embeddings = normal(8, 5), normal(8, 3, seed=1)
    labels = whole(5, 2)
    teacher = logits.clone()
    teacher[torch.arange(8), labels.repeat_interleave(4)] = -50.0  # wrong in every view
    loss = sskd_of(1.0, 0.0)(seen(z=logits, e=embeddings), seen(z=teacher, e=embeddings), labels)
    assert loss.isnan()
    ours = SSKDLoss(turned_ratio=0.0, similarity_ratio=1.0)((logits, embeddings), (teacher, embeddings), labels)
    close(ours, 0.9 * KDLoss(4.0)(logits[::4], teacher[::4]))  # the similarities are equal


@pytest.mark.parametrize("images", [1, 5])
def test_the_first_stage_of_sskd_is_its_first_stage(make_step, images: int):
    loss, embeddings = peer.AuxSSKDLoss("e"), normal(4 * images, 3)

    def ours(e: Tensor) -> Tensor:
        batch = Batch(make_step(4), Output(e, e, (), e))
        return total(METHODS["sskd_teacher"].loss(batch, None)[0])

    both(ours, lambda e: loss({}, seen(e=e)), embeddings)


# --- a bank


def its_crd(memory: ContrastiveMemory, images: int, negatives: int) -> nn.Module:
    """Its loss with copies of our banks. It keeps its constants in single precision; here they have all digits."""
    loss = peer.CRDLoss("e", "x", "e", memory.DIMENSIONS, images, negatives, images).double()
    loss.params.copy_(torch.tensor([negatives, 0.07, -1, -1, 0.5], dtype=torch.float64))
    loss.memory_v1.copy_(memory.student_bank)
    loss.memory_v2.copy_(memory.teacher_bank)
    return loss


def test_crd_is_its_crd_over_three_steps():
    """Scores, Z of the first batch, loss, gradient and banks. It draws no negatives: it is given those of ours."""
    images, negatives = 40, 7
    with seeded(0, "memory"):
        memory = ContrastiveMemory(6, 9, torch.arange(images) % 5, negatives).double()
    loss = its_crd(memory, images, negatives)
    for step in range(3):
        student, teacher = normal(8, 6, seed=step), normal(8, 9, seed=step + 10)
        index = torch.randperm(images, generator=torch.Generator().manual_seed(step))[:8]
        columns = torch.cat([index[:, None], memory.draw(index, step)], dim=1)

        def theirs(s: Tensor, teacher=teacher, index=index, columns=columns) -> Tensor:
            embedded = [F.normalize(layer(x)) for layer, x in ((memory.student, s), (memory.teacher, teacher))]
            asked = {"x": {"input": {"pos_idx": index, "contrast_idx": columns}}}
            return loss(seen(e=embedded[0]) | asked, seen(e=embedded[1]))

        both(lambda s, t=teacher, i=index, n=step: memory(s, t, i, 1, n), theirs, student)
        memory.update()  # its own banks have moved before the gradient, without harm, as rows are copied
        close(memory.scales, loss.params[2:4])
        close(memory.student_bank, loss.memory_v1)
        close(memory.teacher_bank, loss.memory_v2)
    assert not math.isclose(memory.student_bank.norm(), images**0.5)  # some rows are still those of the start


def test_its_crd_cannot_draw_negatives_itself():
    """The table that it fills is called `probs`, the one that it reads `prob`."""
    with seeded(0, "memory"):
        loss = its_crd(ContrastiveMemory(6, 9, torch.arange(40) % 5, 7), 40, 7)
    embedded = seen(e=unit(8, 128))
    with pytest.raises(AttributeError, match="prob"):
        loss(embedded | {"x": {"input": {"pos_idx": torch.arange(8)}}}, embedded)
