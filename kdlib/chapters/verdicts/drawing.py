"""The figure of all primary contrasts, in words."""

from collections.abc import Sequence

from kdlib.chapters.claims import Judgement
from kdlib.show import figures
from kdlib.show.explorer import Explorer
from kdlib.show.figures import Figure
from kdlib.study.stats import PRIMARY_LEVEL, mean_interval


def forest(judgements: Sequence[Judgement], verdicts: bool) -> Figure:
    """Each primary contrast with its interval and its verdict; grey and hollow where it rests on an untrained arm.

    verdicts: whether they are given, see `Setting.verdicts`.
    """
    words = {j.title: j.judged.word for j in judgements if j.interval.n} if verdicts else None
    pale = [j.title for j in judgements if verdicts and j.judged.below]
    return figures.forest({j.title: j.interval for j in judgements}, words=words, pale=pale)


def explore_levels(judgements: Sequence[Judgement]) -> Explorer:
    """The primary contrasts with intervals at other levels."""

    def render(level: float) -> figures.Figure:
        return figures.forest({j.title: mean_interval(j.differences, level / 100) for j in judgements})

    about = "The primary contrasts with intervals at another confidence level, in percent."
    return Explorer({"level": [50, 80, 90, 95, 99, round(100 * PRIMARY_LEVEL, 2)]}, render, about)
