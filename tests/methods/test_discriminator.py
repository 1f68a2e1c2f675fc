"""The discriminator: the cost of guessing, whose gradient is turned round, and what a student learns from it."""

import math

import pytest
import torch

from kdlib.methods import total
from kdlib.methods.discriminator import Discriminator, discrimination, reversed_gradient
from kdlib.methods.resolution import Maps
from kdlib.randomness import seeded

from .slow import normal, unit


def drawn(dimensions: int = 3) -> Discriminator:
    with seeded(0, "test"):
        return Discriminator(dimensions).double()


def test_a_gradient_goes_back_with_the_opposite_sign():
    x, y = normal(4, 3).requires_grad_(), normal(4, 3, seed=1)
    found = reversed_gradient(x, 0.3)
    assert torch.equal(found, x)
    (gradient,) = torch.autograd.grad((found * y).sum(), x)
    torch.testing.assert_close(gradient, -0.3 * y)


def test_guessing_costs_log_2_and_knowing_nothing():
    """A discriminator that says 0 of all rows, and one that is sure of each and right, or wrong."""
    guesses, sure = drawn(1), drawn(1)
    for p in guesses.parameters():
        p.data.zero_()
    rows = torch.ones(5, 1, dtype=torch.float64)
    loss, told = discrimination(guesses, -rows, rows, 0.1)
    assert loss.item() == pytest.approx(math.log(2)) and told == 0.5  # it takes none for the teacher's
    for (name, p), value in zip(sure.named_parameters(), (100.0, 0.0, 1.0, -50.0), strict=True):
        assert name in ("layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias")
        p.data.fill_(value)
    loss, told = discrimination(sure, -rows, rows, 0.1)
    assert loss < 1e-9 and told == 1
    loss, told = discrimination(sure, rows, -rows, 0.1)
    assert loss.item() == pytest.approx(50) and told == 0


def test_it_is_the_mean_logistic_loss_of_both():
    network, student, teacher = drawn(), normal(5, 3), normal(5, 3, seed=1)
    loss, told = discrimination(network, student, teacher, 0.1)
    own, its = network(student).tolist(), network(teacher).tolist()
    each = [math.log1p(math.exp(z)) for z in own] + [math.log1p(math.exp(-z)) for z in its]
    assert loss.item() == pytest.approx(math.fsum(each) / 10)
    assert told.item() == pytest.approx((sum(z <= 0 for z in own) + sum(z > 0 for z in its)) / 10)


def test_it_learns_to_tell_while_the_student_learns_to_be_taken_for_the_teacher():
    network, student, teacher = drawn(), normal(5, 3).requires_grad_(), normal(5, 3, seed=1).requires_grad_()

    def gradients(weight: float) -> list[torch.Tensor]:
        loss, _ = discrimination(network, student, teacher, weight)
        return list(torch.autograd.grad(loss, [student, teacher, *network.parameters()]))

    plain = gradients(-1.0)  # a reversal of -1 is none
    own, *others = gradients(0.1)
    torch.testing.assert_close(own, -0.1 * plain[0])
    assert all(torch.equal(a, b) for a, b in zip(others, plain[1:], strict=True))
    assert torch.autograd.gradcheck(lambda s, t: discrimination(network, s, t, -1.0)[0], (student, teacher))


def test_it_tells_apart_what_is_apart_until_the_student_moves():
    """Rows of a student on one side, those of the teacher on the other: trained alone it tells all of them apart; a
    student that then follows its own, reversed gradient is taken for the teacher, but for rows without a gradient."""
    network, teacher = drawn(), unit(64, 3, seed=1) + 1
    student = (unit(64, 3, seed=2) - 1).requires_grad_()
    shares = []
    for moved, weight in ((list(network.parameters()), 0.1), ([student], 200.0)):
        optimiser = torch.optim.SGD(moved, lr=0.5)
        for _ in range(200):
            optimiser.zero_grad()
            loss, told = discrimination(network, student, teacher, weight)
            loss.backward()
            optimiser.step()
        shares.append(told.item())
    assert shares[0] == 1 and 0.5 <= shares[1] < 0.7


def test_its_work_is_counted():
    network = Discriminator(64)
    by_layer = sum(layer.weight.numel() for layer in network.layers if isinstance(layer, torch.nn.Linear))
    assert network.macs == 2 * by_layer
    maps = Maps(4, 7, discriminated=True)
    assert maps.macs == Maps(4, 7).macs + network.macs


# --- under the method `resolution`


OFF = {"gram_weight": 0.0, "mmd_weight": 0.0, "attention_weight": 0.0}


def test_it_changes_nothing_that_was_drawn_before(make_method):
    """Networks and maps are those of a run without one; so at weight 0 it is that run, bit for bit."""
    without, beside = make_method("resolution"), make_method("resolution", discriminator_weight=0.1)
    state = beside.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in without.state_dict().items())
    assert {name for name in state if name not in without.state_dict()} == {
        f"memory.discriminator.layers.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")
    }
    assert make_method("resolution", discriminator_weight=0.0).memory.discriminator is None
    assert make_method("resolution", **OFF).memory is None


def test_the_method_adds_its_loss_and_records_what_is_told_apart(make_method, make_step):
    method, step = make_method("resolution", **OFF, discriminator_weight=0.1).eval(), make_step(2, size=16)
    terms, records = method(step)
    assert list(terms) == ["ce", "kl", "discriminator"] and terms["discriminator"].weight == 1
    flat = step.views.flatten(0, 1)
    mapped = method.memory(method.student(flat).pooled_feature, method.teacher(flat).pooled_feature)
    loss, told = discrimination(method.memory.discriminator, *mapped, 0.1)
    torch.testing.assert_close(terms["discriminator"].value, loss)
    assert records == {"told_apart": told}
    plain = make_method("resolution", **OFF).eval()
    assert torch.equal(total(plain(step)[0]), total({n: t for n, t in terms.items() if n != "discriminator"}))


def test_all_that_it_needs_is_trained(make_method, make_step):
    method = make_method("resolution", **OFF, discriminator_weight=0.1).train()
    terms, _ = method(make_step(2))
    terms["discriminator"].value.backward()
    moved = {n: p.grad is not None and bool(p.grad.any()) for n, p in method.memory.named_parameters()}
    assert moved.pop("fixed.weight") is False and all(moved.values())
    assert any(p.grad is not None and p.grad.any() for p in method.student.backbone.parameters())


def test_a_memory_without_one_is_refused(make_batch, loss_of):
    batch = make_batch(1)
    without = type(batch)(batch.step, batch.student, batch.teacher, Maps(4, 7))
    with pytest.raises(ValueError, match="^memory has no discriminator; allowed is a Maps that is discriminated$"):
        loss_of("resolution", without, discriminator_weight=0.1)
