"""Labels alone, and the cross-entropy that other methods share."""

import numpy as np
import pytest


@pytest.mark.parametrize("views", [1, 2, 4])
@pytest.mark.parametrize("name", ["ce", "kd", "spkd", "dkd", "dist"])
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
