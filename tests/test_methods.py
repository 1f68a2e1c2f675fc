"""Methods: their terms and weights, the way views are interleaved, and what becomes of the teacher."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib import losses
from kdlib.methods import METHODS, Batch, Method, Term, check_method, method_options, total
from kdlib.models import Output, create_model
from kdlib.networks import Network
from kdlib.randomness import seeded
from kdlib.views.policies import POLICIES, create_policy

IMAGES, CLASSES = 6, 5


def network(seed: int, name: str = "resnet8") -> Network:
    with seeded(seed, "test"):
        return Network(create_model(name, CLASSES), (0.5,) * 3, (0.25,) * 3)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def step(views: int, size: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """(views uint8 [B, V, 3, size, size], labels, keys)."""
    images = torch.randint(0, 256, (IMAGES, views, 3, size, size), generator=draw()).to(torch.uint8)
    return images, torch.arange(IMAGES) % CLASSES, torch.rand(IMAGES, generator=draw(1))


def batch_of(views: int, teacher: bool = True) -> Batch:
    """Random logits in double precision; the student's require gradients."""
    student, other = torch.randn(2, IMAGES * views, CLASSES, generator=draw(), dtype=torch.float64) * 3
    output = lambda logits: Output(logits, logits, ())  # noqa: E731
    labels, keys = torch.arange(IMAGES) % CLASSES, torch.rand(IMAGES, generator=draw(1))
    return Batch(labels, output(student.requires_grad_()), output(other) if teacher else None, views, keys)


def loss_of(name: str, batch: Batch, **options) -> tuple[dict[str, Term], dict[str, Tensor]]:
    return METHODS[name].loss(batch, method_options(name, options))


# --- terms and weights


@pytest.mark.parametrize("views", [1, 2, 4])
def test_ce_is_the_mean_over_all_views(views: int):
    batch = batch_of(views, teacher=False)
    terms, records = loss_of("ce", batch)
    each = [
        -batch.student.logits[i * views + v].log_softmax(0)[batch.labels[i]]
        for i in range(IMAGES)
        for v in range(views)
    ]
    assert set(terms) == {"ce"} and terms["ce"].weight == 1 and records == {}
    assert terms["ce"].value.item() == pytest.approx(torch.stack(each).mean().item())


@pytest.mark.parametrize("views", [1, 2, 4])
def test_kd_over_views_is_the_mean_of_kd_of_each_view(views: int):
    batch = batch_of(views)
    terms, records = loss_of("kd", batch)
    student, teacher = (x.logits.view(IMAGES, views, CLASSES) for x in (batch.student, batch.teacher))
    each = torch.stack([losses.kd_loss(student[:, v], teacher[:, v], 4) for v in range(views)])
    assert set(terms) == {"ce", "kl"} and records == {}
    assert (terms["ce"].weight, terms["kl"].weight) == (1, 16)
    torch.testing.assert_close(terms["kl"].value, each.mean())
    for v in range(views):
        assert torch.equal(batch.view(batch.student.logits, v), student[:, v])


def test_kd_weights_are_explicit():
    terms, _ = loss_of("kd", batch_of(1), temperature=2.0, ce_weight=0.1, kd_weight=0.9)
    assert (terms["ce"].weight, terms["kl"].weight) == (0.1, pytest.approx(0.9 * 4))
    batch = batch_of(1)
    torch.testing.assert_close(
        loss_of("kd", batch, temperature=2.0)[0]["kl"].value,
        losses.kd_loss(batch.student.logits, batch.teacher.logits, 2.0),
    )


@pytest.mark.parametrize("weight", losses.CCD_WEIGHTS)
def test_ccd_weighs_the_augmented_view(weight: str):
    batch = batch_of(2)
    terms, records = loss_of("ccd", batch, weight=weight, temperature=3.0, kd_weight=0.5)
    (s0, s1), (t0, t1) = (x.logits.view(IMAGES, 2, CLASSES).unbind(1) for x in (batch.student, batch.teacher))
    w = losses.ccd_weights(t0, t1, weight, batch.keys)
    expected = [losses.kl_divergence(s0, t0, 3.0)[i] + w[i] * losses.kl_divergence(s1, t1, 3.0)[i] for i in range(6)]
    assert set(terms) == {"ce", "ccd"} and set(records) == {"w"}
    assert (terms["ce"].weight, terms["ccd"].weight) == (1, pytest.approx(0.5 * 9))
    torch.testing.assert_close(terms["ccd"].value, torch.stack(expected).mean() / 2)
    torch.testing.assert_close(terms["ce"].value, loss_of("kd", batch)[0]["ce"].value)
    torch.testing.assert_close(records["w"], w.mean())


def test_ccd_with_weight_one_is_kd_on_two_views_in_value_and_gradient():
    results = []
    for name, options in (("kd", {}), ("ccd", {"weight": "one"})):
        batch = batch_of(2)
        loss = total(loss_of(name, batch, **options)[0])
        results.append((loss.detach(), *torch.autograd.grad(loss, batch.student.logits)))
    torch.testing.assert_close(results[0], results[1])
    batch = batch_of(2)
    other = torch.autograd.grad(total(loss_of("ccd", batch)[0]), batch.student.logits)
    assert (other[0] - results[0][1]).abs().max() > 1e-3  # the cosine does change the gradient


def test_ccd_at_equal_teacher_logits_doubles_the_augmented_view():
    batch = batch_of(2)
    batch.teacher.logits[1::2] = 5 * batch.teacher.logits[0::2]
    terms, records = loss_of("ccd", batch)
    kl = losses.kl_divergence(batch.student.logits, batch.teacher.logits, 4)
    assert records["w"].item() == pytest.approx(2)
    torch.testing.assert_close(terms["ccd"].value, (kl[0::2].mean() + 2 * kl[1::2].mean()) / 2)


def test_total_is_the_weighted_sum():
    terms = {"a": Term(torch.tensor(2.0), 0.5), "b": Term(torch.tensor(3.0), 10.0), "c": Term(torch.tensor(7.0), 0)}
    assert total(terms).item() == 31


# --- the module


@pytest.mark.parametrize(("name", "views"), [("kd", 1), ("kd", 2), ("kd", 4), ("ccd", 2)])
def test_forward_hands_the_views_over_in_order(name: str, views: int):
    student, teacher = network(0).eval(), network(1)
    method = Method(name, student, teacher, views, {})
    images, labels, keys = step(views)
    method.eval()  # no batch statistics: each view can be run alone
    terms, _ = method(images, labels, keys)
    alone = [[net(images[:, v]).logits for v in range(views)] for net in (student, teacher.eval())]
    ce = torch.stack([F.cross_entropy(logits, labels) for logits in alone[0]]).mean()
    kl = [losses.kl_divergence(s, t, 4).mean() for s, t in zip(*alone, strict=True)]
    torch.testing.assert_close(terms["ce"].value, ce)
    if name == "kd":
        torch.testing.assert_close(terms["kl"].value, torch.stack(kl).mean())
    else:
        w = losses.ccd_weights(*alone[1])
        torch.testing.assert_close(terms["ccd"].value, losses.ccd_loss(*map(tuple, alone), w, 4))


@pytest.mark.parametrize("name", ["kd", "ccd"])
def test_the_teacher_stays_frozen_and_in_eval_mode(name: str):
    teacher = network(1).train()
    method = Method(name, network(0), teacher, 2, {})
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    for _ in range(2):
        assert method.train() is method
        assert method.student.training and not any(module.training for module in teacher.modules())
        terms, _ = method(*step(2))
        total(terms).backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.student.parameters())
    trained = {id(p) for p in method.parameters() if p.requires_grad}
    assert trained == {id(p) for p in method.student.parameters()}
    method.eval()
    assert not method.student.training and not teacher.training


def test_the_student_sees_all_views_in_one_pass():
    """BatchNorm statistics are those of all B * V views together."""
    student = network(0)
    Method("ce", student, None, 4, {}).train()(*step(4))
    norms = [m for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(m.num_batches_tracked == 1 for m in norms)


def test_only_shuffled_depends_on_the_keys():
    images, labels, keys = step(2)
    for weight in losses.CCD_WEIGHTS:
        method = Method("ccd", network(0).eval(), network(1), 2, {"weight": weight}).eval()
        values = [total(method(images, labels, k)[0]) for k in (keys, 1 - keys)]
        assert torch.equal(*values) == (weight != "shuffled")


def on_meta(name: str) -> Network:
    with torch.device("meta"):
        return Network(create_model(name, CLASSES), (0.5,) * 3, (0.25,) * 3)


STEPS = [("ce", {}, policy) for policy in POLICIES] + [("kd", {}, policy) for policy in POLICIES]
STEPS += [("ccd", {"weight": weight}, policy) for weight in losses.CCD_WEIGHTS for policy in ("weak2", "jda", "rot2")]


@pytest.mark.parametrize(("name", "options", "policy"), STEPS)
def test_a_step_makes_no_tensor_on_the_wrong_device(name: str, options: dict, policy: str):
    """The device is `meta`, where mixing with the CPU raises; uniforms are drawn on the CPU, as in training."""
    views = create_policy(policy)
    draws = {role: torch.rand(IMAGES, n, generator=draw()) for role, n in views.roles.items()}
    images = views(torch.empty(IMAGES, 3, 32, 32, dtype=torch.uint8, device="meta"), draws)
    labels, keys = torch.zeros(IMAGES, dtype=torch.int64, device="meta"), torch.rand(IMAGES, device="meta")
    teacher = on_meta("resnet14") if METHODS[name].needs_teacher else None
    method = Method(name, on_meta("resnet8"), teacher, views.views, options).train()
    terms, records = method(images, labels, keys)
    total(terms).backward()
    assert all(value.device.type == "meta" for value in [t.value for t in terms.values()] + list(records.values()))
    assert all(p.grad.device.type == "meta" for p in method.student.parameters())


# --- errors


def test_defaults():
    assert method_options("kd", {}).model_dump() == {"temperature": 4.0, "ce_weight": 1.0, "kd_weight": 1.0}
    assert method_options("ccd", {}).weight == "cosine"
    assert method_options("ce", {}).model_dump() == {}


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("kl", {}, "method = 'kl' is unknown; allowed are ce, kd, ccd"),
        ("ce", {"temperature": 4}, "temperature is not a field"),
        ("kd", {"weight": "one"}, "weight is not a field.*temperature, ce_weight, kd_weight"),
        ("kd", {"temperature": 0}, "temperature = 0 .*greater than 0"),
        ("kd", {"temperature": -1.0}, "temperature = -1.0 .*greater than 0"),
        ("kd", {"temperature": float("inf")}, "temperature = inf .*finite"),
        ("kd", {"temperature": "warm"}, "temperature = 'warm' .*number"),
        ("kd", {"temperature": True}, "temperature = True .*number"),
        ("kd", {"ce_weight": -0.1}, "ce_weight = -0.1 .*greater than or equal to 0"),
        ("ccd", {"kd_weight": float("nan")}, "kd_weight = nan .*finite"),
        ("ccd", {"weight": "entropy"}, "weight = 'entropy' .*'cosine', 'one'"),
    ],
)
def test_bad_options_are_named_in_one_sentence(name: str, options: dict, words: str):
    with pytest.raises(ValueError, match=words) as caught:
        method_options(name, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "has_teacher", "views", "words"),
    [
        ("kd", False, 1, "teacher of method 'kd' must be given"),
        ("ccd", False, 2, "teacher of method 'ccd' must be given"),
        ("ce", True, 1, "teacher of method 'ce' must be absent"),
        ("ccd", True, 1, "method 'ccd' needs a policy with 2 views per image; the policy given makes 1"),
        ("ccd", True, 4, "method 'ccd' needs a policy with 2 views per image; the policy given makes 4"),
    ],
)
def test_mismatches_are_named_before_any_work(name: str, has_teacher: bool, views: int, words: str):
    with pytest.raises(ValueError, match=words):
        check_method(name, has_teacher, views)
    with pytest.raises(ValueError, match=words):
        Method(name, network(0), network(1) if has_teacher else None, views, {})
