"""Methods on logits: terms and weights against SciPy, view by view."""

import numpy as np
import pytest
import torch
from scipy import special
from scipy.spatial.distance import cosine

from kdlib.methods import Batch, total
from kdlib.methods.ccd import CCD_WEIGHTS

IMAGES, CLASSES = 6, 5


def by_view(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Logits of student and teacher as [B, V, N]."""
    outputs = (batch.student, batch.teacher)
    return tuple(x.logits.detach().numpy().reshape(IMAGES, batch.views, CLASSES) for x in outputs)


@pytest.mark.parametrize("views", [1, 2, 4])
@pytest.mark.parametrize("name", ["ce", "kd", "spkd", "dkd"])
def test_cross_entropy_is_the_mean_over_all_views(make_batch, loss_of, surprise, name: str, views: int):
    batch = make_batch(views, teacher=name != "ce")
    term = loss_of(name, batch)[0]["ce"]
    each = [surprise(batch.student.logits[v::views], batch.labels) for v in range(views)]
    assert term.weight == 1
    assert term.value.item() == pytest.approx(np.mean(each))


def test_ce_has_one_term(make_batch, loss_of):
    terms, records = loss_of("ce", make_batch(2, teacher=False))
    assert set(terms) == {"ce"}
    assert records == {}


@pytest.mark.parametrize("name", ["ce", "kd", "spkd", "ccd"])
def test_a_mixed_view_has_both_labels_by_share(make_batch, loss_of, surprise, name: str):
    shares = torch.rand(IMAGES, 2, generator=torch.Generator().manual_seed(5))
    partners = (torch.arange(IMAGES) + 2) % CLASSES
    batch = make_batch(2, teacher=name != "ce", shares=shares, partners=partners)
    each = [
        shares[:, v].numpy() * surprise(batch.student.logits[v::2], batch.labels)
        + (1 - shares[:, v].numpy()) * surprise(batch.student.logits[v::2], partners)
        for v in range(2)
    ]
    assert loss_of(name, batch)[0]["ce"].value.item() == pytest.approx(np.mean(each))


@pytest.mark.parametrize("views", [1, 2, 4])
def test_kd_is_the_mean_of_the_divergence_of_each_view(make_batch, loss_of, divergence, views: int):
    batch = make_batch(views)
    terms, records = loss_of("kd", batch)
    student, teacher = batch.student.logits, batch.teacher.logits
    each = [divergence(student[v::views], teacher[v::views], 4) for v in range(views)]
    assert set(terms) == {"ce", "kl"}
    assert records == {}
    assert (terms["ce"].weight, terms["kl"].weight) == (1, 16)
    assert terms["kl"].value.item() == pytest.approx(np.mean(each))


def test_kd_weights_are_explicit(make_batch, loss_of, divergence):
    batch = make_batch(1)
    terms, _ = loss_of("kd", batch, temperature=2.0, ce_weight=0.1, kd_weight=0.9)
    assert (terms["ce"].weight, terms["kl"].weight) == (0.1, pytest.approx(0.9 * 4))
    expected = divergence(batch.student.logits, batch.teacher.logits, 2.0).mean()
    assert terms["kl"].value.item() == pytest.approx(expected)


# --- CCD


def reference_weights(original: np.ndarray, augmented: np.ndarray, kind: str, keys: np.ndarray) -> np.ndarray:
    """w of each image, from the teacher's logits [B, N] on x and x~, by SciPy's cosine distance."""
    change = {"centred": lambda z: z - z.mean(), "softmax": special.softmax}.get(kind, lambda z: z)
    w = np.array([2 - cosine(change(a), change(b)) for a, b in zip(original, augmented, strict=True)])
    if kind == "one":
        return np.ones(len(w))
    if kind == "mean":
        return np.full(len(w), w.mean())
    if kind == "normalised":
        return w / w.mean()
    if kind == "shuffled":
        return w[np.argsort(keys)]
    if kind == "confidence":
        return np.array([special.softmax(z).max() + 1 for z in augmented])
    return w


@pytest.mark.parametrize("weight", CCD_WEIGHTS)
def test_ccd_weighs_the_augmented_view(make_batch, loss_of, divergence, weight: str):
    batch = make_batch(2)
    terms, records = loss_of("ccd", batch, weight=weight, temperature=3.0, kd_weight=0.5)
    _, teacher = by_view(batch)
    w = reference_weights(teacher[:, 0], teacher[:, 1], weight, batch.step.keys.numpy())
    kl = divergence(batch.student.logits, batch.teacher.logits, 3.0)
    assert set(terms) == {"ce", "ccd"}
    assert set(records) == {"w"}
    assert (terms["ce"].weight, terms["ccd"].weight) == (1, pytest.approx(0.5 * 9))
    assert terms["ccd"].value.item() == pytest.approx((kl[0::2].mean() + (w * kl[1::2]).mean()) / 2)
    assert records["w"].item() == pytest.approx(w.mean())


def test_ccd_with_weight_one_is_kd_on_two_views_in_value_and_gradient(make_batch, loss_of):
    results = []
    for name, options in (("kd", {}), ("ccd", {"weight": "one"}), ("four_term", {}), ("ccd", {})):
        batch = make_batch(2)
        loss = total(loss_of(name, batch, **options)[0])
        results.append((loss.detach(), *torch.autograd.grad(loss, batch.student.logits)))
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], results[2])
    assert (results[3][1] - results[0][1]).abs().max() > 1e-3  # the cosine does change the gradient


def test_ccd_at_parallel_teacher_logits_doubles_the_augmented_view(make_batch, loss_of, divergence):
    batch = make_batch(2)
    batch.teacher.logits[1::2] = 5 * batch.teacher.logits[0::2]
    terms, records = loss_of("ccd", batch)
    kl = divergence(batch.student.logits, batch.teacher.logits, 4)
    assert records["w"].item() == pytest.approx(2)
    assert terms["ccd"].value.item() == pytest.approx((kl[0::2].mean() + 2 * kl[1::2].mean()) / 2)


# --- four terms


def test_four_terms_are_those_of_each_view(make_batch, loss_of, divergence, surprise):
    batch = make_batch(2)
    terms, records = loss_of("four_term", batch, temperature=3.0, weights=(1.0, 2.0, 3.0, 5.0))
    ce = surprise(batch.student.logits, batch.view_labels)
    kl = divergence(batch.student.logits, batch.teacher.logits, 3.0)
    expected = {
        "ce_original": (ce[0::2].mean(), 0.5 * 1), "ce_augmented": (ce[1::2].mean(), 0.5 * 2),
        "kl_original": (kl[0::2].mean(), 4.5 * 3), "kl_augmented": (kl[1::2].mean(), 4.5 * 5),
    }  # fmt: skip
    assert records == {}
    assert list(terms) == list(expected)
    for name, (value, weight) in expected.items():
        assert terms[name].value.item() == pytest.approx(value)
        assert terms[name].weight == pytest.approx(weight)


def test_a_weight_of_zero_leaves_a_view_out(make_batch, loss_of):
    batch = make_batch(2)
    loss = total(loss_of("four_term", batch, weights=(1.0, 0.0, 1.0, 0.0))[0])
    (gradient,) = torch.autograd.grad(loss, batch.student.logits)
    assert not gradient[1::2].any()
    assert gradient[0::2].abs().min() > 0


# --- DKD


@pytest.mark.parametrize("views", [1, 2])
def test_dkd_parts_are_those_of_the_two_way_and_of_the_other_distribution(make_batch, loss_of, views: int):
    batch = make_batch(views)
    terms, _ = loss_of("dkd", batch, temperature=2.0, alpha=0.5, beta=6.0, ce_weight=0.7, warm_up=0.0)
    tckd, nckd = [], []
    for row, (s, t) in enumerate(zip(batch.student.logits.detach().numpy(), batch.teacher.logits.numpy(), strict=True)):
        y = int(batch.labels[row // views])
        p, q = (special.softmax(z / 2.0) for z in (t, s))
        two = [np.array([x[y], 1 - x[y]]) for x in (p, q)]
        rest = [np.delete(x, y) / np.delete(x, y).sum() for x in (p, q)]
        tckd.append(special.rel_entr(*two).sum())
        nckd.append(special.rel_entr(*rest).sum())
    assert list(terms) == ["ce", "tckd", "nckd"]
    assert terms["tckd"].value.item() == pytest.approx(np.mean(tckd))
    assert terms["nckd"].value.item() == pytest.approx(np.mean(nckd))
    assert [t.weight for t in terms.values()] == pytest.approx([0.7, 4 * 0.5, 4 * 6.0])


@pytest.mark.parametrize(
    ("epoch", "share"), [(1, 1 / 20), (2, 2 / 20), (19, 19 / 20), (20, 1.0), (21, 1.0), (240, 1.0)]
)
def test_dkd_warms_up_over_20_of_240_epochs(make_batch, loss_of, epoch: int, share: float):
    terms, _ = loss_of("dkd", make_batch(1, epoch=epoch, epochs=240.0))
    assert terms["ce"].weight == 1
    assert terms["tckd"].weight == pytest.approx(share * 16)
    assert terms["nckd"].weight == pytest.approx(share * 16 * 8)


@pytest.mark.parametrize(("warm_up", "weights"), [(0.0, [16, 16]), (0.5, [4, 16]), (1.0, [2, 8])])
def test_the_warm_up_is_a_share_of_the_run(make_batch, loss_of, warm_up: float, weights: list[float]):
    """Epochs 1 and 4 of 8."""
    found = [loss_of("dkd", make_batch(1, epoch=e, epochs=8.0), warm_up=warm_up)[0]["tckd"].weight for e in (1, 4)]
    assert found == pytest.approx(weights)
