"""The figure of all primary contrasts: every verdict stands beside its row."""

import pytest
from matplotlib.collections import PathCollection

from kdlib.chapters.claims import UNMEASURED, Judgement
from kdlib.chapters.verdicts.drawing import forest
from kdlib.study.judging import Judged
from kdlib.study.stats import PRIMARY_LEVEL, Verdict, mean_interval

from ...conftest import drawn

pytestmark = pytest.mark.usefixtures("strict_figures")

SHOWN = mean_interval([1.0, 1.2, 1.4], PRIMARY_LEVEL)
BELOW = Judged(Verdict.SUPPORTED, Verdict.NOT_TESTED, {"rot4": mean_interval([-9.0, -8.0, -7.0])})
NAMED = Judged(Verdict.SUPPORTED, Verdict.SUPPORTED, {}, "a teacher")
JUDGEMENTS = [
    Judgement("a1", "x - y", "03", (1.0, 1.2, 1.4), SHOWN, NAMED),
    Judgement("a2", "x - z", "03", (1.0, 1.2, 1.4), SHOWN, BELOW),
    Judgement("d", "u - v", "06", (), mean_interval([], PRIMARY_LEVEL), UNMEASURED),
]  # fmt: skip


def test_words_stand_beside_and_untrained_rows_are_hollow():
    (axis,) = drawn(forest(JUDGEMENTS, True)).axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a1: x - y", "a2: x - z", "d: u - v"]
    (beside,) = axis.child_axes
    words = [t.get_text() for t in beside.get_yticklabels()]
    assert words == ["supported with a teacher", "not tested at this budget", ""]
    clear, hollow = (dots for dots in axis.collections if isinstance(dots, PathCollection))
    assert [dots.get_offsets()[:, 1].tolist() for dots in (clear, hollow)] == [[0], [1]]
    assert [dots.get_facecolor()[0][:3].tolist() == [1, 1, 1] for dots in (clear, hollow)] == [False, True]


def test_demonstrations_have_no_words():
    (axis,) = drawn(forest(JUDGEMENTS, False)).axes
    assert not axis.child_axes
