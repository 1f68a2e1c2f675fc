"""SSKD: which rows are kept, its head, and terms and weights against loops over views."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from torch import Tensor, nn

from kdlib.methods import METHODS, Batch
from kdlib.methods.kd import kd_loss
from kdlib.methods.sskd import ContrastHead, ranked_kl, rotation_similarity, rotation_targets
from kdlib.models import Output, create_model

from .conftest import CLASSES, IMAGES, count, draw
from .slow import examples, normal, slow_cosine, slow_ranked, unit, whole
from .turned import label_of_set, readable_step, reading, sets

# --- what its losses are made of


@examples
@given(st.integers(1, 12), st.integers(2, 6), st.floats(0, 1), st.integers(0, 10**6))
def test_ranked_kl_is_the_slow_selection(rows: int, columns: int, ratio: float, seed: int):
    student, targets = normal(rows, columns, seed=seed), whole(columns, rows, seed=seed + 1)
    teacher = whole(4, rows, columns, seed=seed).double()  # whole numbers: many ties, of values and of ranks
    found = ranked_kl(student, teacher, targets, 0.5, ratio)
    expected, _ = slow_ranked(student.numpy(), teacher.numpy(), targets.numpy(), 0.5, ratio)
    assert found.shape == () and found.item() == pytest.approx(expected, rel=1e-9, abs=1e-10)
    everything = ranked_kl(student, teacher, targets, 0.5, 1.0)
    torch.testing.assert_close(everything, kd_loss(student, teacher, 0.5), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ratio", [0.0, 0.29, 0.75, 1.0])
def test_only_kept_rows_get_a_gradient(ratio: float):
    student, teacher = normal(300, 3).requires_grad_(), normal(300, 3, seed=1)
    targets = teacher.argmin(1)  # all wrong, of rank 2 ...
    targets[200:] = teacher[200:].topk(2).indices[:, 1]  # ... or of rank 1
    _, kept = slow_ranked(student.detach().numpy(), teacher.numpy(), targets.numpy(), 4.0, ratio)
    assert len(kept) == int(ratio * 300)
    (gradient,) = torch.autograd.grad(ranked_kl(student, teacher, targets, 4.0, ratio), student)
    expected = torch.zeros_like(student)
    q, p = ((x[kept] / 4).softmax(1) for x in (student.detach(), teacher))
    expected[kept] = (q - p) / (4 * max(len(kept), 1))
    torch.testing.assert_close(gradient, expected)


def test_the_share_of_wrong_rows_is_rounded_down_in_double_precision():
    """0.29 * 100 is 28.999999999999996 in double precision, and 29 in single."""
    student, teacher = torch.zeros(100, 2), torch.tensor([[1.0, 0.0]]).repeat(100, 1)
    student[28, 1] = 50  # the 29th of 100 wrong rows
    targets = torch.ones(100, dtype=torch.int64)
    assert ranked_kl(student, teacher, targets, 1.0, 0.29) < 1
    assert ranked_kl(student, teacher, targets, 1.0, 0.3) > 1
    assert ranked_kl(student, teacher, targets, 1.0, 0.009) == 0  # nothing is kept


@examples
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6))
def test_rotation_similarity_is_the_slow_cosine(images: int, width: int, seed: int):
    features = whole(5, 4 * images, width, seed=seed).double() - 2  # zero vectors too
    found = rotation_similarity(features)
    views = features.numpy()
    expected = [
        [slow_cosine(views[4 * i + r], views[4 * j]) for j in range(images)] for i in range(images) for r in (1, 2, 3)
    ]
    assert found.shape == (3 * images, images)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def test_rotation_targets_point_at_the_own_upright_view():
    own = unit(7, 5)
    similarity = rotation_similarity(own.repeat_interleave(4, 0))  # every view has its image's feature
    targets = rotation_targets(7, torch.device("cpu"))
    assert targets.dtype == torch.int64 and targets.tolist() == [row // 3 for row in range(21)]
    assert torch.equal(similarity.argmax(1), targets)
    torch.testing.assert_close(similarity.gather(1, targets[:, None]), torch.ones(21, 1, dtype=torch.float64))
    features = normal(28, 5)
    changed = features.clone()
    changed[4 * 2 + 3] *= -1  # x2r3: row 3 * 2 + 2 alone
    rows = (rotation_similarity(changed) != rotation_similarity(features)).any(1)
    assert rows.nonzero().flatten().tolist() == [8]


def test_the_contrast_head_is_two_linear_layers_with_a_relu_between():
    backbone = create_model("resnet8", 5).eval()
    head, output = ContrastHead(backbone.feature_dim), backbone(torch.randn(3, 3, 16, 16, generator=draw()))
    first, second = (m for m in head.modules() if isinstance(m, nn.Linear))
    assert [tuple(m.weight.shape) for m in (first, second)] == [(64, 64), (64, 64)]
    assert count(head) == 2 * (64 * 64 + 64)
    x = output.pooled.detach().double().numpy()
    hidden = np.maximum(x @ first.weight.detach().double().numpy().T + first.bias.detach().double().numpy(), 0)
    expected = hidden @ second.weight.detach().double().numpy().T + second.bias.detach().double().numpy()
    np.testing.assert_allclose(head(output).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


# --- terms and weights


def cosines(features: Tensor) -> np.ndarray:
    """s_ij [3 M, M]: rows x0r1, x0r2, x0r3, x1r1, ...; columns x0r0, x1r0, ..."""
    f = sets(features)
    norm = np.linalg.norm
    return np.array(
        [[f[i, r] @ g[0] / norm(f[i, r]) / norm(g[0]) for g in f] for i in range(len(f)) for r in (1, 2, 3)]
    )


def kl(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    p, q = special.softmax(teacher / temperature), special.softmax(student / temperature)
    return special.rel_entr(p, q).sum()


@pytest.mark.parametrize("views", [4, 8])
def test_sskd_teacher_finds_the_image_that_a_turned_view_came_from(make_batch, loss_of, views: int):
    batch = make_batch(views, teacher=False, extra=(16,))
    terms, records = loss_of("sskd_teacher", batch)
    s = cosines(batch.student.extra)
    ce = [-special.log_softmax(row)[k // 3] for k, row in enumerate(s)]
    assert s.shape == (3 * IMAGES * views // 4, IMAGES * views // 4)
    assert list(terms) == ["contrast"]
    assert terms["contrast"].weight == 1
    assert terms["contrast"].value.item() == pytest.approx(np.mean(ce))
    assert list(records) == ["pretext"]
    assert records["pretext"].item() == pytest.approx(np.mean([row.argmax() == k // 3 for k, row in enumerate(s)]))


def kept_rows(values: np.ndarray, targets: list[int], ratio: float) -> list[int]:
    """Rows that the teacher gets right, and the first int(ratio * wrong) of the others by the rank of the target."""
    ranks = [int((row > row[target]).sum()) for row, target in zip(values, targets, strict=True)]
    right = [k for k, rank in enumerate(ranks) if rank == 0]
    wrong = sorted((k for k, rank in enumerate(ranks) if rank > 0), key=lambda k: ranks[k])  # stable
    return right + wrong[: int(ratio * len(wrong))]


@pytest.mark.parametrize("views", [4, 8])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_sskd_terms(make_batch, loss_of, surprise, views: int, ratio: float):
    batch = make_batch(views, extra=(16,))
    terms, records = loss_of("sskd", batch, turned_ratio=ratio, temperature=3.0)
    student, teacher = sets(batch.student.logits), sets(batch.teacher.logits)
    labels = [label_of_set(batch, m) for m in range(len(student))]
    assert list(terms) == ["ce", "kl", "turned", "similarity"]
    assert records == {}
    ce = [-special.log_softmax(student[m, 0])[y] for m, y in enumerate(labels)]
    assert terms["ce"].value.item() == pytest.approx(np.mean(ce))
    upright = [kl(student[m, 0], teacher[m, 0], 3.0) for m in range(len(labels))]
    assert terms["kl"].value.item() == pytest.approx(np.mean(upright))

    turned = [x[:, 1:].reshape(-1, CLASSES) for x in (student, teacher)]
    kept = kept_rows(turned[1], [y for y in labels for _ in range(3)], ratio)
    assert 0 < len(kept) <= len(turned[0])
    expected = np.mean([kl(turned[0][k], turned[1][k], 3.0) for k in kept])
    assert terms["turned"].value.item() == pytest.approx(expected)

    s, t = cosines(batch.student.extra), cosines(batch.teacher.extra)
    kept = kept_rows(t, [k // 3 for k in range(len(t))], 0.75)
    assert 0 < len(kept) < len(t)
    assert terms["similarity"].value.item() == pytest.approx(np.mean([kl(s[k], t[k], 0.5) for k in kept]))


def test_sskd_weights(make_batch, loss_of):
    terms, _ = loss_of("sskd", make_batch(4, extra=(16,)))
    expected = {"ce": 0.1, "kl": 0.9 * 16, "turned": 2.7 * 16, "similarity": 10 * 0.25}
    assert {n: t.weight for n, t in terms.items()} == pytest.approx(expected)
    terms, _ = loss_of(
        "sskd", make_batch(4, extra=(16,)), temperature=2.0, similarity_temperature=3.0, ce_weight=1.0, kd_weight=2.0,
        turned_weight=3.0, similarity_weight=4.0,
    )  # fmt: skip
    assert {n: t.weight for n, t in terms.items()} == {"ce": 1, "kl": 8, "turned": 12, "similarity": 36}


@pytest.mark.parametrize("policy", ["weak1", "weak2"])
def test_a_head_that_reads_the_picture_solves_the_pretext_task(policy: str):
    """At weak2 an image has two sets of one picture: of two equal columns the first is found, so half are right."""
    step = readable_step("sskd_teacher", policy)
    features = reading(step.views, lambda y, r: (y, CLASSES))
    _, records = METHODS["sskd_teacher"].loss(Batch(step, Output(features, features, (), features)), None)
    assert records["pretext"] == (1 if policy == "weak1" else 0.5)
