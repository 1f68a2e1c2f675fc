"""Methods on features: SPKD against NumPy, and what CRD hands to its memory (see tests/test_heads.py)."""

import numpy as np
import pytest
import torch
from torch import nn

from kdlib.methods import Batch, total
from kdlib.models import Output

IMAGES = 6


def gram(maps: torch.Tensor) -> np.ndarray:
    f = maps.double().numpy().reshape(len(maps), -1)
    rows = np.array([[np.dot(a, b) for b in f] for a in f])
    return rows / np.array([np.sqrt((row**2).sum()) for row in rows])[:, None]


@pytest.mark.parametrize("views", [1, 2])
def test_spkd_compares_the_last_maps_before_pooling(make_batch, loss_of, views: int):
    batch = make_batch(views)
    terms, records = loss_of("spkd", batch)
    difference = gram(batch.teacher.stages[-1]) - gram(batch.student.stages[-1])
    assert list(terms) == ["ce", "sp"]
    assert records == {}
    assert terms["sp"].weight == 3000
    # Between float32, in which the features are compared, and double precision.
    assert terms["sp"].value.item() == pytest.approx((difference**2).sum() / (IMAGES * views) ** 2, rel=1e-4)


class Recorder(nn.Module):
    """A memory that keeps what it was asked and answers 7."""

    def forward(self, *asked) -> torch.Tensor:
        self.asked = asked
        return torch.tensor(7.0)


def with_recorder(batch: Batch) -> Batch:
    return Batch(batch.step, batch.student, batch.teacher, Recorder())


@pytest.mark.parametrize("views", [1, 2])
def test_crd_scores_the_pooled_features_of_every_view(make_batch, loss_of, views: int):
    batch = with_recorder(make_batch(views, seed=31, index=torch.tensor([5, 4, 9, 0, 1, 2])))
    terms, records = loss_of("crd", batch)
    student, teacher, index, asked_views, seed = batch.memory.asked
    torch.testing.assert_close(student, batch.student.pooled.float())
    torch.testing.assert_close(teacher, batch.teacher.pooled.float())
    assert index.tolist() == [5, 4, 9, 0, 1, 2]
    assert (asked_views, seed) == (views, 31)
    assert list(terms) == ["ce", "crd"]
    assert (terms["crd"].value, terms["crd"].weight) == (7, 0.8)
    assert records == {}


@pytest.mark.parametrize(("name", "own"), [("spkd", "sp"), ("crd", "crd")])
def test_the_kd_term_comes_with_its_weight(make_batch, loss_of, divergence, name: str, own: str):
    batch = with_recorder(make_batch(2))
    without, _ = loss_of(name, batch)
    terms, _ = loss_of(name, batch, kd_weight=0.9, temperature=2.0, ce_weight=0.1, weight=5.0)
    assert set(without) == {"ce", own}
    assert list(terms) == ["ce", "kl", own]
    assert [t.weight for t in terms.values()] == pytest.approx([0.1, 0.9 * 4, 5.0])
    expected = divergence(batch.student.logits, batch.teacher.logits, 2.0).mean()
    assert terms["kl"].value.item() == pytest.approx(expected)
    values = {n: t.value.item() for n, t in terms.items()}
    loss = 0.1 * values["ce"] + 3.6 * values["kl"] + 5.0 * values[own]
    assert total(terms).item() == pytest.approx(loss)


@pytest.mark.parametrize("name", ["spkd", "crd"])
def test_half_precision_features_are_compared_in_float32(make_batch, loss_of, name: str):
    batch = make_batch(1)

    def halved(output: Output) -> Output:
        return output._replace(pooled=output.pooled.half(), stages=tuple(s.half() for s in output.stages))

    batch = with_recorder(Batch(batch.step, halved(batch.student), halved(batch.teacher)))
    terms, _ = loss_of(name, batch)
    if name == "spkd":
        assert terms["sp"].value.dtype == torch.float32
    else:
        assert [x.dtype for x in batch.memory.asked[:2]] == [torch.float32, torch.float32]
