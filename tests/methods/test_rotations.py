"""SSKD and HSAKD: terms and weights against loops over views, and which row is turned how."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from kdlib.methods import METHODS, Batch, Step, check_method
from kdlib.models import Output
from kdlib.views.policies import create_policy

IMAGES, CLASSES, BRANCHES = 6, 5, 3
JOINT = (BRANCHES, 4 * CLASSES)


def sets(values: Tensor) -> np.ndarray:
    """[4 M, ...] -> [M, 4, ...] by explicit places."""
    rows = values.detach().double().numpy()
    return np.array([[rows[4 * m + r] for r in range(4)] for m in range(len(rows) // 4)])


def label_of_set(batch: Batch, m: int) -> int:
    return int(batch.labels[m // (batch.views // 4)])


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


@pytest.mark.parametrize("views", [4, 8])
@pytest.mark.parametrize("name", ["hsakd_teacher", "hsakd_joint_teacher"])
def test_hsakd_teachers_learn_class_and_turn(make_batch, loss_of, name: str, views: int):
    batch = make_batch(views, teacher=False, extra=JOINT)
    terms, records = loss_of(name, batch)
    branches = sets(batch.student.extra)  # [M, 4, L, 4 N]
    joint, right, ce = [], [], []
    for m in range(len(branches)):
        y = label_of_set(batch, m)
        ce.append(-special.log_softmax(batch.student.logits[4 * m].detach().numpy())[y])
        for r in range(4):
            joint.append(sum(-special.log_softmax(branches[m, r, layer])[4 * y + r] for layer in range(BRANCHES)))
            right.append(branches[m, r, BRANCHES - 1].argmax() == 4 * y + r)
    assert terms["joint"].value.item() == pytest.approx(np.mean(joint))
    assert records["pretext"].item() == pytest.approx(np.mean(right))
    assert {t.weight for t in terms.values()} == {1}
    if name == "hsakd_teacher":
        assert list(terms) == ["joint"]
    else:
        assert list(terms) == ["ce", "joint"]
        assert terms["ce"].value.item() == pytest.approx(np.mean(ce))


@pytest.mark.parametrize("views", [4, 8])
def test_hsakd_terms(make_batch, loss_of, divergence, views: int):
    batch = make_batch(views, extra=JOINT)
    terms, records = loss_of("hsakd", batch, ce_weight=0.5, kd_weight=2.0, branch_weight=3.0)
    student, teacher = batch.student, batch.teacher
    ce = [
        -special.log_softmax(student.logits[4 * m].detach().numpy())[label_of_set(batch, m)]
        for m in range(len(student.logits) // 4)
    ]
    branches = sum(
        divergence(student.extra[:, layer], teacher.extra[:, layer], 3.0).mean() for layer in range(BRANCHES)
    )
    assert list(terms) == ["ce", "kl", "branches"]
    assert records == {}
    assert terms["ce"].value.item() == pytest.approx(np.mean(ce))
    assert terms["kl"].value.item() == pytest.approx(divergence(student.logits, teacher.logits, 3.0).mean())
    assert terms["branches"].value.item() == pytest.approx(branches)
    assert [t.weight for t in terms.values()] == [0.5, 2 * 9, 3 * 9]


@pytest.mark.parametrize("name", ["sskd_teacher", "sskd", "hsakd_teacher", "hsakd_joint_teacher", "hsakd"])
def test_the_sets_of_x_and_of_its_augmented_view_count_as_two_images(make_batch, loss_of, name: str):
    """8 views of 6 images (V = 2 views, each in four orientations) are 4 views of 12 images."""
    batch = make_batch(8, teacher=METHODS[name].trains_student, extra=(16,) if name.startswith("sskd") else JOINT)
    step = batch.step
    apart = step._replace(
        views=step.views.reshape(2 * IMAGES, 4, *step.views.shape[2:]), labels=step.labels.repeat_interleave(2)
    )
    (one, records), (other, others) = loss_of(name, batch), loss_of(name, Batch(apart, batch.student, batch.teacher))
    torch.testing.assert_close({n: t.value for n, t in one.items()}, {n: t.value for n, t in other.items()})
    torch.testing.assert_close(records, others)


# --- from the policy to the label: pictures whose class and orientation can be read


def picture(label: int) -> Tensor:
    """uint8 [3, 32, 32]: the upper half is light in red; the green level says the class. A flip changes nothing."""
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[0, :16] = 255
    image[1] = 40 * (label + 1)
    return image


def read(view: Tensor) -> tuple[int, int]:
    """(class, quarter turns counter-clockwise) of one view, whose border may be black from cropping."""
    red, green = view[0].double(), view[1]
    sides = [red[:16].mean(), red[:, :16].mean(), red[16:].mean(), red[:, 16:].mean()]  # turning left: top to left
    return int(green.max()) // 40 - 1, int(torch.stack(sides).argmax())


def reading(views: Tensor, width: Callable[[int, int], tuple[int, int]]) -> Tensor:
    """[rows, size] with 50 at the place that `width(class, turns)` -> (place, size) says."""
    places = [width(*read(view)) for view in views.flatten(0, 1)]
    out = torch.zeros(len(places), places[0][1])
    for row, (place, _) in enumerate(places):
        out[row, place] = 50.0
    return out


def readable_step(name: str, policy: str) -> Step:
    """Views as training makes them, of one picture for each class."""
    chosen = check_method(name, METHODS[name].needs_teacher, create_policy(policy))
    labels = torch.tensor([3, 0, 4, 1])
    draws = {
        role: torch.rand(len(labels), n, generator=torch.Generator().manual_seed(i))
        for i, (role, n) in enumerate(chosen.roles.items())
    }
    views = chosen(torch.stack([picture(int(y)) for y in labels]), draws)
    assert views.shape[1] == 4 * create_policy(policy).views
    return Step(views, labels, torch.rand(4), torch.arange(4))


@pytest.mark.parametrize("policy", ["weak1", "weak2"])
@pytest.mark.parametrize("name", ["hsakd_teacher", "hsakd_joint_teacher"])
def test_a_network_that_reads_class_and_turn_has_no_joint_loss(name: str, policy: str):
    step = readable_step(name, policy)
    classes = reading(step.views, lambda y, r: (y, CLASSES))
    joint = reading(step.views, lambda y, r: (4 * y + r, 4 * CLASSES))[:, None].expand(-1, BRANCHES, -1)
    terms, records = METHODS[name].loss(Batch(step, Output(classes, classes, (), joint)), None)
    assert records["pretext"] == 1
    assert all(t.value < 1e-6 for t in terms.values())
    backwards = reading(step.views, lambda y, r: (4 * y + -r % 4, 4 * CLASSES))[:, None].expand(-1, BRANCHES, -1)
    terms, records = METHODS[name].loss(Batch(step, Output(classes, classes, (), backwards)), None)
    assert records["pretext"] == 0.5  # only quarter turns by 0 and 180 degrees look the same from the other side


@pytest.mark.parametrize("name", ["sskd", "hsakd"])
def test_only_upright_views_have_a_label(make_batch, loss_of, name: str):
    """A network that is right on upright views and wrong on all turned ones has no cross-entropy."""
    step = readable_step(name, "weak2")
    logits = reading(step.views, lambda y, r: (y if r == 0 else (y + 1) % CLASSES, CLASSES))
    other = make_batch(8, extra=(16,) if name == "sskd" else JOINT)
    extra = other.teacher.extra[: len(logits)].float()
    batch = Batch(step, Output(logits, logits, (), extra), Output(logits, logits, (), extra))
    terms, _ = loss_of(name, batch)
    assert terms["ce"].value < 1e-6
    wrong = Batch(step, Output(-logits, logits, (), extra), batch.teacher)
    assert loss_of(name, wrong)[0]["ce"].value > 10


@pytest.mark.parametrize("policy", ["weak1", "weak2"])
def test_a_head_that_reads_the_picture_solves_the_pretext_task(policy: str):
    """At weak2 an image has two sets of one picture: of two equal columns the first is found, so half are right."""
    step = readable_step("sskd_teacher", policy)
    features = reading(step.views, lambda y, r: (y, CLASSES))
    _, records = METHODS["sskd_teacher"].loss(Batch(step, Output(features, features, (), features)), None)
    assert records["pretext"] == (1 if policy == "weak1" else 0.5)
