"""The figure of chapter 21: one point for each arm with runs, at what its student computes."""

import pandas as pd
import pytest

from kdlib.chapters.registry import create_study
from kdlib.chapters.resolution.drawing import accuracy_against_macs, points
from kdlib.lab.cost import model_size
from kdlib.study.setting import Setting

from ...conftest import drawn, texts

pytestmark = pytest.mark.usefixtures("strict_figures")

ARMS = {
    "no teacher, small": 30, "weak2, small, asymmetric": 33, "JDA, up-sampled, consistent": 35, "weak2": 40,
    "weak2, small, asymmetric + MMD": 34,
}  # fmt: skip


def frame(arms: dict[str, float], seeds: int = 3) -> pd.DataFrame:
    rows = [{"arm": arm, "seed": seed, "top1": top1 + seed} for arm, top1 in arms.items() for seed in range(seeds)]
    return pd.DataFrame(rows, columns=["arm", "seed", "top1"])


@pytest.fixture(scope="module")
def study():
    return create_study("21_resolution", Setting.of("reference", device="cpu"))


def test_points_stand_at_the_work_of_the_student_that_is_deployed(study):
    found = points(study, frame(ARMS))
    assert list(found.index) == [arm for arm in study.arms if arm in ARMS and "MMD" not in arm]
    macs = {size: model_size("resnet8", 100, size)[1] / 1e6 for size in (16, 32)}
    sizes = {"no teacher, small": 16, "weak2, small, asymmetric": 16, "JDA, up-sampled, consistent": 32, "weak2": 32}
    for arm, row in found.iterrows():
        assert row.macs == macs[sizes[arm]] and row.top1 == ARMS[arm] + 1
        assert row.low < row.top1 < row.high
    assert points(study, frame(ARMS, seeds=2)).low.isna().all()


def test_each_point_is_drawn_in_the_look_of_its_arm(study):
    found = points(study, frame(ARMS))
    (axis,) = drawn(figure := accuracy_against_macs(found)).axes
    lines = {line.get_label(): line for line in axis.lines}
    assert {arm: (line.get_xdata()[0], line.get_ydata()[0]) for arm, line in lines.items()} == {
        arm: (row.macs, row.top1) for arm, row in found.iterrows()
    }
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(found.index)
    jda, plain = lines["JDA, up-sampled, consistent"], lines["weak2, small, asymmetric"]
    assert (jda.get_marker(), jda.get_markerfacecolor()) == ("s", "white")
    assert (plain.get_marker(), plain.get_markerfacecolor()) == ("o", plain.get_markeredgecolor())
    assert len({line.get_markeredgecolor() for line in lines.values()}) == 4  # who teaches, and whole images


def test_without_runs_it_says_so(study):
    assert "not run" in texts(accuracy_against_macs(points(study, frame({}))))
