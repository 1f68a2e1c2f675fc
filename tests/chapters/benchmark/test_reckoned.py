"""How cost grows, against laws that are known without a count."""

from functools import cache

import pandas as pd
import pytest

from kdlib.chapters.benchmark.reckoned import TIMES, WIDER, grown, growth_frame, sums
from kdlib.lab.cost import parameters
from kdlib.models import create_model
from kdlib.study.setting import Setting

pytestmark = pytest.mark.usefixtures("isolated")


@cache
def measured(profile: str) -> dict[str, list[dict[str, float]]]:
    setting = Setting.of(profile, device="cpu")
    return {title: [sums(specs) for specs in some] for title, some in grown(setting)}


#: What there is more of -> the power of it that each sum follows; without views of a bank or kept answers, if not said.
LAWS = {
    "images": {"MACs": 1, "MACs of a step": 0, "training bytes": 0, "bytes of kept answers": 1},
    "views of an image": {"MACs": 1, "MACs of a step": 0, "training bytes": 0, "bytes of kept answers": 1},
    "views of a step": {"MACs": 0, "MACs of a step": 1, "training bytes": 0, "bytes of kept answers": 0},
    "runs of other seeds": {"MACs": 1, "MACs of a step": 0, "training bytes": 0, "bytes of kept answers": 1},
    "runs that share views and teacher": {
        "MACs": 1, "MACs of a step": 0, "training bytes": 0, "bytes of kept answers": 0,
    },
}  # fmt: skip


@pytest.mark.parametrize("profile", ["reference", "paper"])
@pytest.mark.parametrize("title", LAWS)
def test_cost_follows_its_power(profile: str, title: str):
    """Whole steps are rounded down: by less than one of 2,000."""
    first, *others = measured(profile)[title]
    for times, sum_ in zip(TIMES[1:], others, strict=True):
        for name, power in LAWS[title].items():
            assert sum_[name] / first[name] == pytest.approx(times**power, rel=2e-3), (name, times)


@pytest.mark.parametrize("profile", ["reference", "paper"])
def test_cost_is_quadratic_in_the_width(profile: str):
    """All but the first convolution and the classifier read and write as many channels: each doubling of the width
    multiplies by 4, less what grows by 2; and parameters are those of the networks themselves."""
    narrow, middle, wide = measured(profile)["width of WRN-16, without a teacher"]
    for name in ("MACs", "MACs of a step", "training bytes"):
        steps = middle[name] / narrow[name], wide[name] / middle[name]
        assert 3.7 < steps[0] < steps[1] < 4
    for network, found in zip(WIDER, (narrow, middle, wide), strict=True):
        assert found["training bytes"] == 3 * 4 * parameters(create_model(network, 100))
        assert found["bytes of kept answers"] == 0 and found["MACs with kept answers"] == found["MACs"]


def test_runs_that_share_answers_pay_for_their_teacher_once():
    one, two, four = measured("paper")["runs that share views and teacher"]
    more = two["MACs with kept answers"] - one["MACs with kept answers"]
    assert one["MACs"] == one["MACs with kept answers"]
    assert 0 < more < one["MACs"]
    assert four["MACs with kept answers"] == one["MACs"] + 3 * more
    _, seeds, _ = measured("paper")["runs of other seeds"]
    assert seeds["MACs with kept answers"] == seeds["MACs"]  # their views differ


@pytest.mark.parametrize("profile", ["smoke", "quick", "full"])
def test_the_table_stands_at_every_profile(profile: str):
    table = growth_frame(Setting.of(profile, device="cpu"))
    assert list(table.index) == list(measured(profile))
    assert (table.drop(columns="bytes of kept answers").map(float) > 0).all(axis=None)
    assert table.loc["width of WRN-16, without a teacher", "bytes of kept answers"] == "–"
    assert isinstance(table, pd.DataFrame) and table.loc["views of a step", "MACs of a step"] == "4"
