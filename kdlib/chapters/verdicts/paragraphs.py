"""Claim by claim in plain words: what was found and at which scale, how that stands to the abstract, and what would
settle it. Every word follows from the runs."""

from collections.abc import Callable, Mapping, Sequence

from kdlib.chapters.claims import CLAIMS, Claim, Judgement, claim_word, judge
from kdlib.chapters.verdicts.reach import needs_of
from kdlib.chapters.wording import points
from kdlib.lab.store import Store
from kdlib.study.setting import Setting
from kdlib.study.stats import MARGIN, Verdict, claim_verdict
from kdlib.study.tables import NO_VERDICT, joined

#: Verdict on a claim -> what it means for the abstract's sentence.
AGAINST: Mapping[Verdict, str] = {
    Verdict.SUPPORTED: "This agrees with it",
    Verdict.CONTRADICTED: "This does not agree with it",
    Verdict.INCONCLUSIVE: "This neither confirms nor refutes it",
    Verdict.NOT_ENOUGH_SEEDS: "There are too few seeds to say whether it holds",
    Verdict.NOT_MEASURED: "Nothing can be said of it yet",
    Verdict.NOT_TESTED: "As a whole it is not tested here",
}


def paragraphs(store: Store, setting: Setting) -> str:
    """A paragraph of Markdown for each claim at a setting; one sentence where it gives no verdicts."""
    if not setting.verdicts:
        return f"*{NO_VERDICT[0].upper()}{NO_VERDICT[1:]}.*"
    needs = {name: need.seeds for name, need in needs_of(store, setting).items()}
    found = {j.name: j for j in judge(store, setting)}
    return "\n\n".join(_paragraph(c, [found[name] for name in c.contrasts], needs.get, setting) for c in CLAIMS)


def _paragraph(claim: Claim, mine: Sequence[Judgement], seeds_of: Callable[[str], int | None], setting: Setting) -> str:
    word = claim_verdict([j.judged.verdict for j in mine])
    carried = (
        ", as far as this teacher goes" if word is Verdict.SUPPORTED and any(j.judged.teacher for j in mine) else ""
    )
    found = "; ".join(f"{j.title}, {_found(j)}" for j in mine)
    settled = "; ".join(_settled(j, seeds_of(j.name)) for j in mine)
    return (
        f"**{claim.name}: {claim_word(claim, mine, setting.verdicts)}.** The abstract says, in our words: {claim.says} "
        f"Found at profile {setting.profile.name}: {found}. {AGAINST[word]}{carried}. What would settle it: {settled}."
    )


def _found(judgement: Judgement) -> str:
    said = points(judgement.interval) if judgement.interval.shown else "not measured"
    return f"{said} ({judgement.judged.word})" if judgement.measured else said


def _settled(judgement: Judgement, seeds: int | None) -> str:
    """What is lacking, by the verdict on a contrast. seeds: that would find a difference of the margin."""
    word, judged = judgement.judged.verdict, judgement.judged
    if word is Verdict.NOT_TESTED:
        lacking = f"a budget at which the student without a teacher is left behind by {joined(judged.below)}"
    elif word is Verdict.INCONCLUSIVE:
        lacking = f"{seeds or 'more'} seeds, if the difference is {MARGIN} points"
    elif word is Verdict.SUPPORTED and judged.teacher:
        lacking = "another teacher whose students are shown to gain too"
    elif word in (Verdict.SUPPORTED, Verdict.CONTRADICTED):
        lacking = "the published networks and lengths, profile paper"
    else:
        lacking = "its runs"
    return f"for {judgement.name}, {lacking}"
