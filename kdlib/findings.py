"""A paragraph for each claim: what was found, how it stands to the claim, what would settle it. All is computed."""

from collections.abc import Mapping, Sequence

import numpy as np

from kdlib.claims import CLAIMS, Claim, Judgement, profiles_frame
from kdlib.stats import MARGIN, Interval, Verdict, claim_verdict, required_seeds
from kdlib.studies import Setting
from kdlib.tables import NO_VERDICT, in_words

MOST_SEEDS = 200  # a need for more says: not with seeds alone
_STANDS = {
    Verdict.SUPPORTED: "With the teacher and at the budget of this profile the claim holds.",
    Verdict.CONTRADICTED: "At this scale the claim fails",
    Verdict.INCONCLUSIVE: "At this scale the claim is neither confirmed nor refuted",
    Verdict.NOT_ENOUGH_SEEDS: "Too few seeds were planned for a verdict.",
    Verdict.NOT_MEASURED: "There is no verdict before all runs are there",
}


def paragraphs(
    judgements: Sequence[Judgement], verdicts: bool, elsewhere: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Claim -> its paragraph in Markdown.

    verdicts: see `Setting.verdicts`. elsewhere: other profile -> claim -> its verdict.
    """
    found = {j.name: j for j in judgements}
    return {claim.name: _paragraph(claim, [found[c] for c in claim.contrasts], verdicts, elsewhere) for claim in CLAIMS}


def markdown(judgements: Sequence[Judgement], setting: Setting) -> str:
    """The paragraphs at a setting, each under the name of its claim."""
    here = setting.profile
    others = profiles_frame(setting).drop(columns=here.name, errors="ignore").to_dict()
    texts = paragraphs(judgements, setting.verdicts, others)
    return "\n\n".join(f"**({name})** {text}" for name, text in texts.items())


def credited(against: Mapping[str, Interval]) -> str:
    """Whether anything can be credited to the cosine: only if CCD beats all weights of the same total.

    against: control in words -> the interval of CCD minus it.
    """
    if not all(interval.shown for interval in against.values()):
        return "Whether anything can be credited to the cosine is not measured, or with too few seeds to tell."
    beaten = [name for name, interval in against.items() if interval.low > 0]
    others = [name for name in against if name not in beaten]
    ahead = [name for name, interval in against.items() if interval.high < 0]
    if not others:
        return f"By the criterion above the cosine earns its gain: CCD beats {_and(beaten)}."
    but = (
        f"CCD beats {_and(beaten)}, but not {' or '.join(others)}"
        if beaten
        else f"CCD beats neither {' nor '.join(others)}"
    )
    behind = f"; it is behind {_and(ahead)}" if ahead else ""
    return f"By the criterion above nothing can be credited to the cosine here: {but}{behind}."


def _paragraph(claim: Claim, judged: list[Judgement], verdicts: bool, elsewhere: Mapping) -> str:
    word = claim_verdict([j.verdict for j in judged])
    estimates = [
        f"{j.name} ({j.text}): {in_words(j.interval)}{_reading(j, verdicts)}{_in_parts(j)}"
        for j in judged
        if j.interval.n
    ]
    if not estimates:
        return f"*{claim.says}* **{Verdict.NOT_MEASURED.capitalize()}.** What is missing is listed below."
    shown = str(word) if verdicts else NO_VERDICT
    parts = [f"*{claim.says}* **{shown.capitalize()}.** Found here: {'; '.join(estimates)}."]
    if verdicts:
        parts += [_stands(word, judged), *_settles(word, claim, judged, elsewhere)]
    return " ".join(parts)


def _reading(judgement: Judgement, verdicts: bool) -> str:
    """What the interval of a judged contrast says, with the margin of the rule."""
    low, high = judgement.interval.low, judgement.interval.high
    if not verdicts or judgement.verdict in (Verdict.NOT_MEASURED, Verdict.NOT_ENOUGH_SEEDS):
        return ""
    if low > 0:
        text = "all of the interval is above zero"
    elif high < 0:
        text = "all of the interval is below zero"
    elif high < MARGIN:
        text = f"zero is inside, and a gain of {MARGIN} points is not"
    else:
        text = f"zero is inside, and so are gains above {MARGIN} points"
    cheap = {True: ", and it needs fewer bytes", False: ", but it does not need fewer bytes", None: ""}
    return f", {text}{cheap[judgement.cheaper]}"


def _in_parts(judgement: Judgement) -> str:
    """What each pair of a mean contributes: one of them can rule it."""
    parts = [f"{difference:+.2f} ({arm} against {than})" for (arm, than), difference in judgement.parts.items()]
    return f"; it is the mean of {', '.join(parts)}" if len(parts) > 1 else ""


def _stands(word: Verdict, judged: list[Judgement]) -> str:
    """How the result stands to the claim."""
    text = _STANDS[word]
    if text.endswith("."):
        return text
    names = [j.name for j in judged if j.verdict is word]
    if len(judged) == 1:
        return f"{text}."
    rest = {
        Verdict.CONTRADICTED: f": {_and(names)} {_verb(names, 'goes', 'go')} against it",
        Verdict.INCONCLUSIVE: f": {_and(names)} {_verb(names, 'leaves', 'leave')} it open",
        Verdict.NOT_MEASURED: f": runs of {_and(names)} are missing",
    }
    done = [j.name for j in judged if j.verdict is Verdict.SUPPORTED]
    return f"{text}{rest[word]}{f'; {_and(done)} alone would support it' if done else ''}."


def _settles(word: Verdict, claim: Claim, judged: list[Judgement], elsewhere: Mapping) -> list[str]:
    """What would settle it: seeds where they would do, and the other profiles."""
    if word is Verdict.NOT_MEASURED:
        return ["What is missing is listed below."]
    texts = [f"{j.name}: {_seeds(j)}" for j in judged if j.verdict is Verdict.INCONCLUSIVE]
    return texts + [f"At the scale of profile {name} it is {words[claim.name]}." for name, words in elsewhere.items()]


def _seeds(judgement: Judgement) -> str:
    """How many seeds an undecided contrast needs, if its spread is what was seen.

    A gain is told from zero; where none was seen, what was seen is told from the margin (see `stats.verdict`).
    """
    spread, mean = float(np.std(judgement.differences, ddof=1)), judgement.interval.mean
    true, limit = (max(mean, MARGIN), 0.0) if mean > 0 else (mean, MARGIN)
    needed = required_seeds(abs(true - limit), spread, maximum=MOST_SEEDS)
    many = f"{needed} seeds" if needed else f"more than {MOST_SEEDS} seeds"
    side = "above zero" if mean > 0 else f"below the margin of {MARGIN}"
    return (
        f"differences vary by {spread:.2f} points (standard deviation) from seed to seed, so if the true one is "
        f"{true:+.2f} points, four of five studies with {many} would find all of the interval {side}, against the "
        f"{judgement.interval.n} here."
    )


def _and(names: list[str]) -> str:
    return " and ".join(names)


def _verb(names: list[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several
