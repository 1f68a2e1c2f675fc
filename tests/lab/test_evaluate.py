"""Measurements against SciPy, and averages made by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from torch import Tensor, nn

from kdlib.lab import evaluate
from kdlib.lab.evaluate import agreement, correctness_bits, logits_on, scores, with_batch_norm_from
from kdlib.models import create_model
from kdlib.models.network import Network
from kdlib.randomness import seeded


def network() -> Network:
    with seeded(0, "test"):
        return Network(create_model("resnet8", 10), (0.4,) * 3, (0.2,) * 3)


def images(count: int, size: int = 8) -> Tensor:
    draw = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, size, size), generator=draw).to(torch.uint8)


def logit_table(rows: int, classes: int, seed: int) -> Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("batch", [1, 3, 7, 8, 250])
def test_logits_do_not_depend_on_the_batch_size(monkeypatch: pytest.MonkeyPatch, batch: int):
    net, x = network(), images(20)
    expected = net.eval()(x).logits.detach()
    monkeypatch.setattr(evaluate, "EVALUATION_BATCH", batch)
    found = logits_on(net, x)
    assert found.shape == (20, 10) and found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", [True, False])
def test_measuring_changes_nothing(mode: bool):
    net = network().train(mode)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    logits_on(net, images(5))
    assert all(module.training == mode for module in net.modules())
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_every_module_gets_its_own_mode_back():
    net = network().train()
    net.backbone.stages[1].eval()
    modes = [module.training for module in net.modules()]
    assert set(modes) == {True, False}
    logits_on(net, images(5))
    assert [module.training for module in net.modules()] == modes


def test_the_modes_come_back_after_an_error():
    net = network().train()
    with pytest.raises(RuntimeError), evaluate.eval_mode(net):
        assert not any(module.training for module in net.modules())
        raise RuntimeError("in between")
    assert all(module.training for module in net.modules())


def test_scores_are_those_of_slow_counting():
    logits, labels = logit_table(200, 10, 0), torch.arange(200) % 10
    ranks = [sorted(range(10), key=lambda c, row=row: -row[c]).index(y) for row, y in zip(logits, labels, strict=True)]
    found = scores(logits, labels)
    assert found["top1"] == pytest.approx(100 * sum(r < 1 for r in ranks) / 200)
    assert found["top5"] == pytest.approx(100 * sum(r < 5 for r in ranks) / 200)
    log_p = special.log_softmax(logits.double().numpy(), axis=1)
    assert found["nll"] == pytest.approx(-np.mean(log_p[np.arange(200), labels.numpy()]))
    confidence, right = np.exp(log_p).max(1), np.array(ranks) == 0
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins)]
    assert found["ece"] == pytest.approx(sum(gaps))


def test_scores_with_fewer_than_five_classes():
    assert scores(logit_table(30, 3, 0), torch.arange(30) % 3)["top5"] == 100


def test_agreement_is_scipys():
    student, teacher = logit_table(300, 10, 0), logit_table(300, 10, 1)
    found = agreement(student, teacher)
    p, q = (special.softmax(x.double().numpy(), axis=1) for x in (teacher, student))
    assert found["agreement"] == pytest.approx(100 * np.mean(p.argmax(1) == q.argmax(1)))
    assert found["kl_to_teacher"] == pytest.approx(special.rel_entr(p, q).sum(1).mean())
    assert agreement(teacher, teacher) == {"agreement": 100, "kl_to_teacher": 0}


def test_agreement_is_finite_at_extreme_logits():
    z = torch.tensor([[1e30, 0, -1e30], [1e4, -1e4, 0]])
    assert math.isfinite(agreement(z, z.flip(1))["kl_to_teacher"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_correctness_bits_can_be_decoded(right: list[bool]):
    logits = torch.eye(3)[[0 if r else 1 for r in right]]
    text = correctness_bits(logits, torch.zeros(len(right), dtype=torch.int64))
    digits = format(int(text, 16), f"0{4 * len(text)}b")
    assert digits[: len(right)] == "".join("1" if r else "0" for r in right)
    assert set(digits[len(right) :]) <= {"0"} and len(text) == 2 * math.ceil(len(right) / 8)


def test_batch_norm_statistics_are_manual_averages():
    """The mean over batches of each batch's mean and unbiased variance, in double precision at the first layer."""
    net, x = network(), images(500)
    twice = with_batch_norm_from(net, x)
    conv = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    found = next(m for m in twice.modules() if isinstance(m, nn.BatchNorm2d))
    normal = (x.double() / 255 - 0.4) / 0.2
    maps = nn.functional.conv2d(normal, conv.weight.double(), padding=1).detach()
    mean = torch.stack([part.mean((0, 2, 3)) for part in maps.split(250)]).mean(0)
    variance = torch.stack([part.transpose(0, 1).flatten(1).var(1) for part in maps.split(250)]).mean(0)
    torch.testing.assert_close(found.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.running_var.double(), variance, rtol=1e-4, atol=1e-5)


def test_every_batch_norm_of_a_single_batch_normalises_it_as_in_training():
    """With one batch the averages are the batch's own (its variance unbiased), so eval and train mode nearly agree."""
    net, x = network(), images(250, 32)
    copied = with_batch_norm_from(net, x)
    trained = copy.deepcopy(net).train()(x).logits
    torch.testing.assert_close(logits_on(copied, x), trained.detach(), rtol=1e-2, atol=1e-2)


def test_the_original_network_is_left_untouched():
    net = network().eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    copied = with_batch_norm_from(net, images(40))
    assert copied is not net and not net.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(m.momentum == 0.1 for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    for key, value in copied.state_dict().items():
        statistics = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(before[key], value) != statistics, key


def test_images_of_every_batch_count_alike():
    """Statistics are averages over images: an incomplete last batch must not count as much as a full one."""
    dark, light = torch.zeros(250, 3, 8, 8, dtype=torch.uint8), torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)
    net = network()
    found = next(
        m for m in with_batch_norm_from(net, torch.cat([dark, light])).modules() if isinstance(m, nn.BatchNorm2d)
    )
    conv = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    means = [conv((part.float() / 255 - 0.4) / 0.2).mean((0, 2, 3)) for part in (dark, light)]
    torch.testing.assert_close(
        found.running_mean, ((250 * means[0] + 2 * means[1]) / 252).detach(), rtol=1e-3, atol=1e-3
    )


def test_an_image_that_is_left_over_is_not_normalised_alone():
    """At the last layer of a network for smaller images one value is left of each: alone it has no variance."""
    with seeded(0, "test"):
        net = Network(create_model("resnet8_tiny", 10), (0.4,) * 3, (0.2,) * 3)
    x = images(evaluate.EVALUATION_BATCH + 1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        net.train().logits(x[-1:])
    assert with_batch_norm_from(net, x).eval().logits(x[:4]).isfinite().all()
