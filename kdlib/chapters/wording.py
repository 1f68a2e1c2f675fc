"""How findings are worded: the differences that they may speak of, and the words for an interval."""

from dataclasses import replace

import pandas as pd

from kdlib.study.arms import Contrast
from kdlib.study.setting import Study
from kdlib.study.stats import Interval
from kdlib.study.tables import above_floor, contrast_interval, joined, untrained


class Found:
    """The differences of a study, for the sentences."""

    def __init__(self, study: Study, frame: pd.DataFrame):
        self.study, self.frame = study, frame

    def __call__(self, arm: str, than: str) -> Interval | None:
        """The paired 95 % interval of two arms; None if it is not shown (see `Interval.shown`), or one is not there."""
        if not {arm, than} <= set(self.study.arms):
            return None
        return self._shown(Contrast.of("", arm, than))

    def contrast(self, name: str, strictly: bool = False) -> Interval | None:
        """The interval of a contrast of the study, at its level, or strictly: at that of primary ones."""
        found = self.study.contrast(name)
        return self._shown(replace(found, primary=found.primary or strictly)) if found else None

    def untrained(self, *arms: str) -> dict[str, Interval]:
        """Those of the arms that are below their floor."""
        below = untrained(above_floor(self.study, self.frame, arms))
        return {arm: interval for arm, interval in below.items() if interval.shown}

    def decided(self, name: str, sentence: str, words: tuple[str, str, str]) -> str:
        """The sentence of a primary contrast, with one of three words in it, see `direction`; empty without runs."""
        difference, contrast = self.contrast(name), self.study.contrast(name)
        if not difference or not contrast:
            return ""
        if below := self.untrained(*contrast.weights):
            return f"{contrast.title} is not tested: {joined(below)} did not train."
        return f"**{sentence.format(direction(difference, *words))}**: {points(difference)}."

    def _shown(self, contrast: Contrast) -> Interval | None:
        interval = contrast_interval(contrast, self.frame)
        return interval if interval.shown else None


def points(interval: Interval) -> str:
    """ "+2.78 points [+1.89, +3.67]" """
    return f"{interval.mean:+.2f} points [{interval.low:+.2f}, {interval.high:+.2f}]"


def direction(interval: Interval, more: str, less: str, neither: str) -> str:
    """One of three texts: the interval lies above zero, below it, or holds it."""
    return more if interval.low > 0 else less if interval.high < 0 else neither
