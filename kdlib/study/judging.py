"""What the runs say about a contrast: the word of the rule, and what the floor and the carry leave of it.

The floor and the carry are an amendment of 2026-11-28, made after the first results of profile reference. They can only
take a verdict away; the word of the rule as it was fixed before the results stays visible beside theirs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from kdlib.study.arms import Contrast
from kdlib.study.setting import Study
from kdlib.study.stats import Interval, Verdict, verdict
from kdlib.study.tables import (
    NO_VERDICT,
    above_floor,
    cheaper,
    contrast_interval,
    in_words,
    shown_contrasts,
    signed,
    span,
    teacher_name,
    untrained,
)

_JUDGED = (Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.INCONCLUSIVE)


@dataclass(frozen=True)
class Judged:
    """The verdict on a contrast.

    rule: the word of the rule as fixed before the results; verdict: what the floor leaves of it. below: arm -> the 95 %
    interval of the arm minus the same student without a teacher, for the arms that it rests on and that did not train.
    teacher: in words, of a supported contrast that is not shown to hold with another teacher; else empty.
    """

    rule: Verdict
    verdict: Verdict
    below: Mapping[str, Interval] = field(default_factory=dict)
    teacher: str = ""

    @property
    def word(self) -> str:
        """The verdict as it is printed."""
        if self.verdict is Verdict.NOT_MEASURED and self.rule is not self.verdict:
            return "not decided, its floor is not measured"
        return f"{self.verdict} with {self.teacher}" if self.teacher else str(self.verdict)


def judge(study: Study, contrast: Contrast, frame: pd.DataFrame) -> Judged:
    """The verdict on a primary contrast from the finished runs of its study.

    *Floor*: an arm whose paired 95 % interval against the same student without a teacher lies below zero did not train
    at this budget, and a contrast that rests on it is not tested, whatever its sign. As long as a floor is not measured
    neither is the contrast. *Carry*: a supported contrast that has a control with another teacher names its own, until
    the interval of the control is measured and lies above zero.
    """
    rule = by_rule(study, contrast, contrast_interval(contrast, frame))
    if rule not in _JUDGED:
        return Judged(rule, rule)
    floors = above_floor(study, frame, contrast.weights)
    if any(interval.n < study.planned_above_floor(arm) for arm, interval in floors.items()):
        return Judged(rule, Verdict.NOT_MEASURED)
    if below := untrained(floors):
        return Judged(rule, Verdict.NOT_TESTED, below)
    return Judged(rule, rule, teacher=_carry(study, contrast, frame) if rule is Verdict.SUPPORTED else "")


def by_rule(study: Study, contrast: Contrast, interval: Interval) -> Verdict:
    """The verdict of the rule alone; a claim of fewer bytes that fails contradicts it."""
    word = verdict(interval, study.planned(contrast), contrast.says, contrast.level, contrast.margin)
    measured = word in (Verdict.SUPPORTED, Verdict.INCONCLUSIVE)
    return Verdict.CONTRADICTED if measured and not cheaper(study, contrast) else word


def _carry(study: Study, contrast: Contrast, frame: pd.DataFrame) -> str:
    """The teacher that a verdict must name, in words; empty if it is shown to carry further, or has no control."""
    control = study.contrast(contrast.control) if contrast.control else None
    if control is None:
        return ""
    found = contrast_interval(control, frame)
    return "" if found.n > 1 and found.low > 0 else teacher_in_words(study)


def teacher_in_words(study: Study) -> str:
    """ "the public ResNet-56", or "our resnet20" where the teacher is trained here."""
    name, *_ = teacher_name(study.setting.teacher()).split(",")
    return name.replace("public resnet", "public ResNet-").replace("public", "the public")


def contrasts_table(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """One row per contrast that is measured or primary: difference in points, interval, n, verdict of primary ones."""
    rows = {}
    for contrast, interval in shown_contrasts(study, frame):
        rows[contrast.title] = {
            "difference": signed(interval),
            "interval": span(interval, "+.2f"),
            "level": f"{100 * interval.level:.1f} %",
            "n": interval.n,
            "verdict": verdict_text(study, contrast, frame),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def verdict_text(study: Study, contrast: Contrast, frame: pd.DataFrame) -> str:
    """The computed verdict, with the word of the rule where they differ.

    Contrasts that decide no claim are exploratory; those that rest on an arm below the floor say so too. No verdict is
    given at demonstrations.
    """
    if not study.setting.verdicts:
        return NO_VERDICT if contrast.primary else "exploratory"
    if not contrast.primary:
        below = untrained(above_floor(study, frame, contrast.weights))
        return f"exploratory; {Verdict.NOT_TESTED}" if below else "exploratory"
    return verdict_in_words(judge(study, contrast, frame))


def verdict_in_words(judged: Judged) -> str:
    """The verdict, with the word of the rule where the floor or the carry changed it."""
    return judged.word if judged.word == judged.rule else f"{judged.word} (by the rule alone: {judged.rule})"


def demonstration(study: Study, frame: pd.DataFrame) -> str:
    """The first two contrasts of a study that are measured, without a word on what they mean."""
    shown = shown_contrasts(study, frame)
    first = [f"{contrast.title} {in_words(interval)}" for contrast, interval in shown if interval.n][:2]
    return f"*A demonstration, from which nothing follows: {'; '.join(first) or 'nothing measured'}.*"
