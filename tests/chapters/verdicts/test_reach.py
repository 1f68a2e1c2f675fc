"""How far intervals reach, from the published results."""

import pytest

from kdlib.chapters.claims import CONTRASTS, WITH_HSAKD, judge
from kdlib.chapters.verdicts.reach import reach_frame
from kdlib.lab.store import Store
from kdlib.study.setting import Setting
from kdlib.study.tables import span


@pytest.fixture
def published(tmp_path) -> Store:
    return Store("reference", runs=tmp_path)


def test_each_primary_contrast_has_a_row_with_the_interval_of_its_verdict(published):
    setting = Setting.of("reference", device="cpu")
    frame = reach_frame(published, setting)
    assert [row.split(": ")[0] for row in frame.index] == list(CONTRASTS)
    judgements = judge(published, setting)
    assert frame["over seeds"].tolist() == [span(j.interval, "+.2f") for j in judgements]
    for narrow, wide in zip(frame["over seeds"], frame["over seeds and test images"], strict=True):
        (low, high), (lower, higher) = (map(float, text.strip("[]").split(", ")) for text in (narrow, wide))
        assert lower <= low <= high <= higher
    asked = frame["equivalent?"]
    assert asked[asked != "–"].index.tolist() == [row for row in frame.index if row.startswith("b2: ")]
    assert frame["seeds for 0.3 points"].astype(int).min() >= 5


def test_nothing_measured_leaves_gaps(isolated):
    frame = reach_frame(Store("paper"), Setting.of("paper", device="cpu"))
    assert set(frame.n) == {"0"} and set(frame["over seeds"]) == {""} and set(frame["seeds for 0.3 points"]) == {""}


def test_networks_that_do_not_go_with_hsakd_have_no_rows_of_it(isolated):
    unequal = Setting.of("reference", "cifar100_resnet56-vgg8", device="cpu")
    names = [row.split(": ")[0] for row in reach_frame(Store("reference"), unequal).index]
    assert names == [name for name in CONTRASTS if name not in WITH_HSAKD]
