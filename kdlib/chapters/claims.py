"""The six claims, the nine primary contrasts that decide them, and the computed verdicts.

What is printed is the word of the rule, and what the floor and the carry leave of it: see `kdlib.study.judging`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from kdlib.chapters.registry import command_line, create_study
from kdlib.lab.forecasts import forecast, hours
from kdlib.lab.runs import needed
from kdlib.lab.specs import RunSpec
from kdlib.lab.store import Store
from kdlib.study.arms import Contrast
from kdlib.study.judging import Judged
from kdlib.study.judging import judge as judge_contrast
from kdlib.study.profiles import PROFILES
from kdlib.study.setting import Setting, Study
from kdlib.study.stats import PRIMARY_LEVEL, Interval, Verdict, claim_verdict, mean_interval
from kdlib.study.tables import NO_VERDICT, cheaper, contrast_interval, contrast_values, joined, runs_frame, signed, span

UNDECIDED = "not decided with these parameters"
NO_BREAK = "&nbsp;"  # a space in Markdown at which no line ends


@dataclass(frozen=True)
class Claim:
    """A claim of the reproduced work in our words, and the primary contrasts (see `CONTRASTS`) that decide it."""

    name: str
    says: str
    contrasts: tuple[str, ...]


#: The claims in order.
CLAIMS = (
    Claim(
        "a",
        "Augmentation helps even if the teacher never saw augmented images, and JDA beats rotation.",
        ("a1", "a2"),
    ),
    Claim("b", "Training the teacher with augmentation improves the teacher, but not the student.", ("b1", "b2")),
    Claim("c", "The proportion of augmented samples has a suitable range.", ("c1", "c2")),
    Claim("d", "Augmentation helps few-shot distillation.", ("d",)),
    Claim("e", "Augmentation is compatible with other distillation methods.", ("e",)),
    Claim("CCD", "Cosine Confidence Distillation beats HSAKD with less storage.", ("f",)),
)

#: Fixed before any result: name -> (what it compares, the chapter that measures it).
CONTRASTS: Mapping[str, tuple[str, str]] = {
    "a1": ("JDA - two plain crops", "03_blind_teacher"),
    "a2": ("JDA - four quarter turns", "03_blind_teacher"),
    "b1": ("teacher with JDA - plain teacher", "04_augmented_teacher"),
    "b2": ("student of the one - student of the other (claim: no better)", "04_augmented_teacher"),
    "c1": ("p = 0.3 - p = 0", "05_proportion"),
    "c2": ("p = 0.3 - p = 1", "05_proportion"),
    "d": ("JDA - two plain crops, few images", "06_few_shot"),
    "e": ("what JDA adds, mean of DKD, SPKD and HSAKD", "07_compatibility"),
    "f": ("CCD - HSAKD with a frozen teacher, and fewer bytes", "09_ccd_versus_hsakd"),
}

#: Those with HSAKD, which pairs the stages of teacher and student one by one.
WITH_HSAKD = ("e", "f")
UNMEASURED = Judged(Verdict.NOT_MEASURED, Verdict.NOT_MEASURED)


@dataclass(frozen=True)
class Judgement:
    """A primary contrast, measured or not.

    judged: the verdict. cheaper: whether it needs fewer bytes; None where its claim is silent. parts: of a mean over
    pairs of arms, the difference of each pair, over the seeds that all pairs have.
    """

    name: str
    text: str
    study: str
    differences: tuple[float, ...]
    interval: Interval
    judged: Judged
    cheaper: bool | None = None
    parts: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name and what it compares."""
        return f"{self.name}: {self.text}"

    @property
    def measured(self) -> bool:
        """Whether all runs of the contrast itself are there, be those of its floor there or not."""
        return self.judged.rule is not Verdict.NOT_MEASURED


def contrasts_of(setting: Setting) -> dict[str, tuple[str, str]]:
    """`CONTRASTS`, without those with HSAKD where the setting's networks do not go with it."""
    return {name: known for name, known in CONTRASTS.items() if setting.fits("hsakd") or name not in WITH_HSAKD}


def judge(store: Store, setting: Setting, names: Sequence[str] = tuple(CONTRASTS)) -> list[Judgement]:
    """Primary contrasts at a setting, by default all, from what the store holds. Nothing is typed by hand.

    Those with HSAKD are not measured where the setting's networks do not go with it.
    """
    chapters = {name: chapter for name, (_, chapter) in contrasts_of(setting).items() if name in names}
    studies = {chapter: create_study(chapter, setting) for chapter in dict.fromkeys(chapters.values())}
    frames = {chapter: runs_frame(study, store) for chapter, study in studies.items()}
    return [
        _judge(name, studies[chapters[name]], frames[chapters[name]])
        if name in chapters
        else Judgement(name, *CONTRASTS[name], (), mean_interval([], PRIMARY_LEVEL), UNMEASURED)
        for name in names
    ]


def _judge(name: str, study: Study, frame: pd.DataFrame) -> Judgement:
    contrast = study.contrast(name)
    by_seed = contrast_values(contrast, frame)
    differences = tuple(by_seed.values())
    interval = mean_interval(differences, contrast.level)
    word = judge_contrast(study, contrast, frame)
    fewer = cheaper(study, contrast) if contrast.cheaper else None
    parts = _parts(contrast, frame, set(by_seed))
    return Judgement(name, *CONTRASTS[name], differences, interval, word, fewer, parts)


def _parts(contrast: Contrast, frame: pd.DataFrame, seeds: set[int]) -> dict[tuple[str, str], float]:
    frame = frame[frame.seed.isin(seeds)]
    return {pair: contrast_interval(Contrast.of("", *pair), frame).mean for pair in contrast.pairs if seeds}


def contrasts_frame(judgements: list[Judgement], verdicts: bool) -> pd.DataFrame:
    """One row per primary contrast. verdicts False (see `Setting.verdicts`): measured ones get none."""
    rows = [
        {
            "contrast": j.title,
            "difference": f"{j.interval.mean:+.2f}" if j.interval.n else "",
            f"{100 * PRIMARY_LEVEL:.2f} % interval": span(j.interval, "+.2f"),
            "n": j.interval.n,
            "by the rule": _word(j.judged.rule, verdicts),
            "verdict": _word(j.judged.verdict, verdicts, j.judged.word),
            "below no teacher": ", ".join(j.judged.below),
        }
        for j in judgements
    ]
    return pd.DataFrame(rows).set_index("contrast").rename_axis(None)


def parts_frame(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """One row per pair of a primary contrast that is a mean of several: what the pair adds, and whether it trained."""
    rows = {
        f"{j.name}: {arm} - {than}": {
            "difference": f"{difference:+.2f}",
            "below no teacher": joined(below) if (below := [a for a in (arm, than) if a in j.judged.below]) else "",
        }
        for j in judgements
        if len(j.parts) > 1
        for (arm, than), difference in j.parts.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def claims_frame(judgements: list[Judgement], verdicts: bool) -> pd.DataFrame:
    """One row per claim: its text and its verdict, from those of its contrasts."""
    rows = [
        {
            "claim": claim.name,
            "says": claim.says,
            "decided by": ", ".join(claim.contrasts),
            "by the rule": _word(claim_verdict([j.judged.rule for j in _of(claim, judgements)]), verdicts),
            "verdict": claim_word(claim, judgements, verdicts),
        }
        for claim in CLAIMS
    ]
    return pd.DataFrame(rows).set_index("claim")


def claim_word(claim: Claim, judgements: Sequence[Judgement], verdicts: bool) -> str:
    """The verdict of a claim, from those of its contrasts, or that there is none (see `contrasts_frame`)."""
    mine = _of(claim, judgements)
    word = claim_verdict([j.judged.verdict for j in mine])
    teachers = dict.fromkeys(j.judged.teacher for j in mine if j.judged.teacher and word is Verdict.SUPPORTED)
    return _word(word, verdicts, " with ".join([str(word), *teachers]))


def part_words(claim: Claim, judgements: Sequence[Judgement], verdicts: bool) -> str:
    """The verdict of a claim, and where its contrasts differ those of each."""
    word = claim_word(claim, judgements, verdicts)
    words = {j.name: _word(j.judged.verdict, verdicts, j.judged.word) for j in _of(claim, judgements)}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return f"{word} ({', '.join(f'{name}: {part}' for name, part in words.items())})"


def _of(claim: Claim, judgements: Sequence[Judgement]) -> list[Judgement]:
    found = {j.name: j for j in judgements}
    return [found[name] for name in claim.contrasts]


def profiles_frame(judgements: Sequence[Judgement], setting: Setting) -> pd.DataFrame:
    """The verdict on each claim at every profile that gives verdicts, a column for each: at the setting's own from
    `judgements`, at the others from what their stores hold."""
    columns = {}
    for name, scale in PROFILES.items():
        if scale.verdicts and not scale.chapters:  # a profile of single chapters has its own contrasts
            own = name == setting.profile.name
            here = setting if own else Setting.of(name, device=setting.machine.device)
            found = judgements if own else judge(Store(name), here)
            columns[name] = {claim.name: part_words(claim, found, here.verdicts) for claim in CLAIMS}
    return pd.DataFrame(columns).rename_axis("claim")


def own_runs(study: Study, name: str) -> list[RunSpec]:
    """The runs of the arms of a contrast, and of their floors, each once."""
    arms = study.contrast(name).weights
    floors = {floor: None for arm in arms if (floor := study.arms[arm].floor)}
    return list({spec.key: spec for arm in {**arms, **floors} for spec in study.specs(arm)}.values())


def runs_of(study: Study, name: str) -> list[RunSpec]:
    """What a contrast of a study rests on: its own runs, and those of their teachers."""
    return needed(own_runs(study, name))


def gaps_frame(store: Store, setting: Setting) -> pd.DataFrame:
    """What each primary contrast still lacks: runs there, forecast of the others, and the line that trains them."""
    rows = []
    for name, (text, study_name) in CONTRASTS.items():
        specs = runs_of(create_study(study_name, setting), name)
        lacking = [spec for spec in specs if store.get(spec) is None]
        rows.append(
            {
                "contrast": f"{name}: {text}",
                "runs": f"{len(specs) - len(lacking)} of {len(specs)}",
                "missing ones, on one core": hours(forecast(lacking)) if lacking else "nothing is missing",
                "command": command_line(study_name, setting.choices) if lacking else "–",
            }
        )
    return pd.DataFrame(rows).set_index("contrast").rename_axis(None)


def _word(word: Verdict, verdicts: bool, printed: str | None = None) -> str:
    return (printed or str(word)) if verdicts or word is Verdict.NOT_MEASURED else NO_VERDICT


def claims_markdown(judgements: list[Judgement], verdicts: bool) -> str:
    """The claims with the differences that decide them, in points, their intervals at the level of the rule, and their
    verdicts, as a Markdown table."""
    by_rule = claims_frame(judgements, verdicts)["by the rule"]
    lines = ["| claim | says | found | by the rule | with floor and carry |", "|---|---|---|---|---|"]
    for claim in CLAIMS:
        differences = "<br>".join(f"{j.name}: {_briefly(j.interval)}" for j in _of(claim, judgements))
        word = part_words(claim, judgements, verdicts)
        lines.append(f"| {claim.name} | {claim.says} | {differences} | {by_rule[claim.name]} | {word} |")
    return "\n".join(lines)


def _briefly(interval: Interval) -> str:
    """ "+2.78 [+1.89, +3.67], n = 10", each part in a line of a narrow cell; or that nothing is measured."""
    if not interval.n:
        return signed(interval)
    between = span(interval, "+.2f").replace(" ", NO_BREAK)
    return f"{signed(interval)} {between}, n{NO_BREAK}={NO_BREAK}{interval.n}"


def readme_table(store: Store, setting: Setting) -> str:
    """The same for the README, from a store."""
    table = claims_markdown(judge(store, setting), setting.verdicts)
    return table.replace(f" {Verdict.NOT_MEASURED} |", f" {Verdict.NOT_MEASURED} yet |")
