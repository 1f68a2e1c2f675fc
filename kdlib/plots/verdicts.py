"""The figure of all primary contrasts, in words."""

from collections.abc import Sequence

from kdlib import plots
from kdlib.claims import Judgement
from kdlib.plots import Figure


def forest(judgements: Sequence[Judgement], verdicts: bool) -> Figure:
    """Each primary contrast with its interval and its verdict; grey and hollow where it rests on an untrained arm.

    verdicts: whether they are given, see `Setting.verdicts`.
    """
    words = {j.title: j.judged.word for j in judgements if j.interval.n} if verdicts else None
    pale = [j.title for j in judgements if verdicts and j.judged.below]
    return plots.forest({j.title: j.interval for j in judgements}, words=words, pale=pale)
