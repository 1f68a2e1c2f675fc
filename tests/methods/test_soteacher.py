"""SoTeacher: bounds against NumPy, the bank against averages written out, and what is left without its terms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from torch import Tensor, nn

from kdlib.methods import create_method, new_memory, soteacher, total
from kdlib.methods.soteacher import ConsistencyBank, SoTeacherLoss, SoTeacherOptions, in_turns, lipschitz
from kdlib.models import create_model, model_names

from .conftest import CLASSES, IMAGES
from .slow import examples, normal, whole


def slow_lipschitz(state: dict[str, Tensor], eps: float = 1e-5) -> float:
    """From the weights by their names and shapes, in float64."""
    arrays, bounds = {name: value.double().numpy() for name, value in state.items()}, []
    for name, value in arrays.items():
        prefix = name.removesuffix(".weight")
        if name.endswith(".weight") and value.ndim == 4:
            bounds.append(np.abs(value).sum())
        elif f"{prefix}.running_var" in arrays and prefix != name:
            bounds.append(np.abs(value / np.sqrt(arrays[f"{prefix}.running_var"] + eps)).max())
        elif name.endswith(".weight") and value.ndim == 2:
            bounds.append(np.linalg.norm(value, 1))  # the largest column: what it does to L1 at most
    return float(np.sum(bounds))


def trained(name: str = "resnet8") -> nn.Module:
    """A network whose weights and statistics are none of the initial ones."""
    network = create_model(name, CLASSES)
    for number, (key, value) in enumerate(network.state_dict().items()):
        if value.is_floating_point():
            drawn = normal(*value.shape, seed=number)
            value.copy_(drawn.abs() if key.endswith("running_var") else drawn)
    return network


# --- the bound


@pytest.mark.parametrize("name", model_names())
def test_the_bound_is_numpys_for_every_network(name: str):
    network = trained(name)
    assert lipschitz(network).item() == pytest.approx(slow_lipschitz(network.state_dict()), rel=1e-5)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_bound_is_homogeneous_of_degree_one(factor: float):
    """In the weights; a convolution alone too, and the running variance is none of them."""
    network, alone = trained(), nn.Conv2d(3, 4, 3)
    for module in (network, alone):
        before = lipschitz(module).item()
        with torch.no_grad():
            for weight in module.parameters():
                weight *= factor
        assert lipschitz(module).item() == pytest.approx(factor * before, rel=1e-5)


def test_a_linear_layer_never_exceeds_its_norm_and_reaches_it():
    layer, inputs = nn.Linear(6, 4, bias=False).double(), normal(200, 6)
    bound = lipschitz(layer).item()
    inputs = torch.cat([inputs / inputs.abs().sum(1, keepdim=True), torch.eye(6, dtype=torch.float64)])
    assert layer(inputs).abs().sum(1).max().item() == pytest.approx(bound)


def test_no_gradient_reaches_the_variance():
    layer = nn.BatchNorm2d(3)
    layer.running_var = torch.tensor([4.0, 0.25, 1.0], requires_grad=True)
    lipschitz(layer).backward()
    assert layer.running_var.grad is None
    torch.testing.assert_close(layer.weight.grad, torch.tensor([0, (0.25 + 1e-5) ** -0.5, 0]))


def test_a_network_without_layers_is_refused():
    with pytest.raises(ValueError, match="^network has no convolution, BatchNorm or linear layer; allowed is"):
        lipschitz(nn.Sequential(nn.ReLU()))


# --- the bank


def said(epochs: int, images: int = 4, classes: int = 3) -> list[Tensor]:
    """Probabilities [images, classes] of each epoch."""
    return [normal(images, classes, seed=epoch).float().softmax(1) for epoch in range(epochs)]


def remembered(bank: ConsistencyBank, answers: list[Tensor]) -> list[Tensor]:
    """q after each epoch."""
    found = []
    for p in answers:
        bank(p, torch.arange(len(p)), 1, len(answers))
        bank.update()
        found.append(bank.answers_bank.clone())
    return found


def test_the_mean_counter_gives_the_mean_of_all_epochs():
    answers = said(6)
    for epoch, q in enumerate(remembered(ConsistencyBank(4, 3, "mean"), answers), 1):
        torch.testing.assert_close(q, torch.stack(answers[:epoch]).mean(0))


def test_the_released_counter_counts_the_first_epoch_twice():
    """The least trained epoch: as if it had been there two times."""
    answers = said(6)
    for epoch, q in enumerate(remembered(ConsistencyBank(4, 3, "released"), answers), 1):
        torch.testing.assert_close(q, torch.stack([answers[0], *answers[:epoch]]).mean(0))
        if epoch > 1:
            assert (q - torch.stack(answers[:epoch]).mean(0)).abs().max() > 1e-3


@pytest.mark.parametrize("counter", ["released", "mean"])
def test_the_term_rises_by_the_epoch_and_is_0_in_the_first(counter: str):
    answers, bank = said(5), ConsistencyBank(4, 3, counter)
    for epoch, p in enumerate(answers, 1):
        found, q = bank(p, torch.arange(4), 1, 5).item(), bank.answers_bank.double().numpy()
        expected = epoch / 5 * np.square(p.double().numpy() - q).sum(1).mean() if epoch > 1 else 0.0
        assert found == pytest.approx(expected, rel=1e-5) and (epoch == 1) == (found == 0)
        bank.update()


def test_views_of_an_image_are_held_to_one_memory_and_enter_it_as_their_mean():
    bank, (first, second), index = ConsistencyBank(9, 3), said(2, images=4), torch.tensor([5, 2])
    assert bank(first, index, 2, 4) == 0
    bank.update()
    q = first.unflatten(0, (2, 2)).mean(1)
    torch.testing.assert_close(bank.answers_bank[index], q)
    distances = [(second[row] - q[row // 2]).square().sum() for row in range(4)]
    torch.testing.assert_close(bank(second, index, 2, 4), 2 / 4 * torch.stack(distances).mean())
    assert bank.epochs_bank.tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("counter", ["released", "mean"])
def test_an_image_that_a_batch_holds_twice_is_remembered_twice(counter: str):
    """As at the end of an epoch; images that come for the first time beside it add nothing."""
    (first, p), index = said(2), torch.tensor([1, 0, 1, 2])
    bank, apart = ConsistencyBank(3, 3, counter), ConsistencyBank(3, 3, counter)
    for memory in (bank, apart):
        memory(first[:1], torch.tensor([1]), 1, 4)
        memory.update()
    value = bank(p, index, 1, 4)
    torch.testing.assert_close(value, 2 / 4 * (p[[0, 2]] - first[0]).square().sum() / 4)
    bank.update()
    for row, place in enumerate(index):
        apart(p[row : row + 1], place[None], 1, 4)
        apart.update()
    assert torch.equal(bank.answers_bank, apart.answers_bank)
    assert bank.epochs_bank.tolist() == apart.epochs_bank.tolist() == [1, 3, 1]


def test_every_process_remembers_the_images_of_all(monkeypatch):
    """Two processes with two images of a step each, one of them the same: the bank is that of one process."""
    (mine, theirs), whole_bank, bank = said(2, images=2), ConsistencyBank(4, 3), ConsistencyBank(4, 3)
    others = {torch.int64: torch.tensor([1, 0]), torch.float32: theirs}
    monkeypatch.setattr(soteacher.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(soteacher, "gather", lambda rows: torch.cat([rows, others[rows.dtype]]))
    bank(mine, torch.tensor([3, 1]), 1, 4)
    bank.update()
    monkeypatch.undo()
    whole_bank(torch.cat([mine, theirs]), torch.tensor([3, 1, 1, 0]), 1, 4)
    whole_bank.update()
    assert bank.epochs_bank.tolist() == [1, 2, 0, 1]
    assert torch.equal(bank.answers_bank, whole_bank.answers_bank)


@examples
@given(st.lists(st.integers(0, 6), min_size=1, max_size=20))
def test_in_turns_every_position_comes_once_and_no_place_twice(places: list[int]):
    turns = in_turns(torch.tensor(places))
    assert sorted(p for turn in turns for p in turn.tolist()) == list(range(len(places)))
    for place in set(places):
        order = [p for turn in turns for p in turn.tolist() if places[p] == place]
        assert order == sorted(order)
    assert all(len({places[p] for p in turn.tolist()}) == len(turn) for turn in turns)


def test_the_memory_is_read_before_it_moves_and_only_in_training():
    bank, (first, second) = ConsistencyBank(4, 3), said(2)
    bank(first, torch.arange(4), 1, 2)
    assert not bank.answers_bank.any()
    bank.update()
    bank.eval()
    bank(second, torch.arange(4), 1, 2)
    bank.update()
    assert torch.equal(bank.answers_bank, first)


# --- the method


@pytest.mark.parametrize("views", [1, 2])
def test_soteacher_adds_both_terms(make_batch, loss_of, views: int):
    batch, bank, network = make_batch(views, teacher=False, epochs=4.0), ConsistencyBank(IMAGES, CLASSES), trained()
    bank.answers_bank.copy_(normal(IMAGES, CLASSES).softmax(1))
    bank.epochs_bank.fill_(2)
    terms, records = loss_of("soteacher", replace(batch, memory=bank, network=network), lipschitz_weight=0.25)
    p = special.softmax(batch.student.logits.detach().numpy(), axis=1)
    q = np.repeat(bank.answers_bank.double().numpy(), views, 0)
    assert {name: term.weight for name, term in terms.items()} == {"ce": 1, "lipschitz": 0.25, "consistency": 1}
    assert terms["consistency"].value.item() == pytest.approx(3 / 4 * np.square(p - q).sum(1).mean(), rel=1e-6)
    assert terms["lipschitz"].value.item() == pytest.approx(slow_lipschitz(network.state_dict()), rel=1e-5)
    assert torch.equal(terms["ce"].value, loss_of("ce", batch)[0]["ce"].value) and records == {}


def test_terms_that_weigh_nothing_are_not_there(make_batch, loss_of):
    batch = make_batch(2, teacher=False)
    assert list(loss_of("soteacher", batch, lipschitz_weight=0.0, consistency_weight=0.0)[0]) == ["ce"]
    labels = torch.arange(IMAGES)
    network = create_model("resnet8", CLASSES)
    assert new_memory("soteacher", network, None, labels, {"consistency_weight": 0.0}) is None
    assert new_memory("soteacher", network, None, labels, {}).answers_bank.shape == (IMAGES, CLASSES)
    for options, missing in (({"consistency_weight": 0.0}, "network"), ({"lipschitz_weight": 0.0}, "memory")):
        with pytest.raises(ValueError, match=f"^{missing} is None: "):
            loss_of("soteacher", batch, **options)


def test_both_terms_reach_the_network_and_none_the_memory(make_network, make_step):
    method = create_method("soteacher", make_network(0), labels=torch.arange(IMAGES) % CLASSES).train()
    for step in range(2):
        terms, _ = method(make_step(2, epochs=2.0))
        if step == 0:
            assert terms["consistency"].value == 0
            method.after_step()
    for name in ("lipschitz", "consistency"):
        grads = torch.autograd.grad(
            terms[name].value, list(method.student.parameters()), retain_graph=True, allow_unused=True
        )
        assert any(grad is not None and grad.any() for grad in grads)
    assert not list(method.memory.parameters())


# --- for a loop of one's own


def test_the_module_is_the_methods_terms(make_network, make_step):
    network = make_network(0)
    method = create_method("soteacher", network, labels=torch.arange(IMAGES) % CLASSES).train()
    network.eval()  # both see the same statistics
    loss = SoTeacherLoss(IMAGES, CLASSES, epochs=3)
    assert loss.options == SoTeacherOptions()
    for epoch in range(3):
        views = whole(256, IMAGES, 1, 3, 8, 8, seed=epoch).to(torch.uint8)
        terms, _ = method(make_step(1, epochs=3.0)._replace(views=views))
        del terms["ce"]
        value = loss(network.backbone, network(views[:, 0]).logits, torch.arange(IMAGES))
        assert torch.equal(value, total(terms)) and (epoch == 0) == (terms["consistency"].value == 0)
        method.after_step()
    assert set(loss.state_dict()) == {"bank.answers_bank", "bank.epochs_bank"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"images": 0}, "images = 0 must be above 0"),
        ({"epochs": -1}, "epochs = -1 must be above 0"),
        ({"lipschitz_weight": -1.0}, "lipschitz_weight = -1.0 .*greater than or equal to 0"),
        ({"consistency_weight": float("nan")}, "consistency_weight = nan .*finite"),
        ({"counter": "twice"}, "counter = 'twice' .*'released' or 'mean'"),
    ],
)
def test_other_values_are_named_in_one_sentence(fields: dict, words: str):
    with pytest.raises(ValueError, match=words) as caught:
        SoTeacherLoss(**{"images": 4, "classes": 3, "epochs": 2.0} | fields)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_the_bank_is_refused():
    loss, network = SoTeacherLoss(4, 3, 2.0), nn.Linear(2, 3)
    for logits, index, words in (
        (torch.zeros(2, 5), torch.arange(2), r"^logits are .*\[2, 5\]; allowed is floating \[B, 3\]"),
        (torch.zeros(2, 3), torch.arange(3), r"^index is .*\[3\]; allowed is int64 \[2\]"),
        (torch.zeros(2, 3), torch.tensor([0, 4]), "^index has places beyond 0 to 3"),
    ):
        with pytest.raises(ValueError, match=words):
            loss(network, logits, index)
