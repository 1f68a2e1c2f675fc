"""The six claims, the nine primary contrasts that decide them, and the computed verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from kdlib.profiles import PROFILES
from kdlib.runs import needed
from kdlib.stats import PRIMARY_LEVEL, Interval, Verdict, claim_verdict, mean_interval
from kdlib.store import Store
from kdlib.studies import Contrast, Setting, Study, command_line, create_study
from kdlib.tables import (
    NO_VERDICT,
    cheaper,
    contrast_interval,
    contrast_values,
    forecast,
    hours,
    in_words,
    runs_frame,
    span,
)
from kdlib.tables import judge as judge_contrast

UNDECIDED = "not decided with these parameters"


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
    "a1": ("JDA - weak2", "03_blind_teacher"),
    "a2": ("JDA - rot4", "03_blind_teacher"),
    "b1": ("teacher with JDA - plain teacher", "04_augmented_teacher"),
    "b2": ("student of the one - student of the other (claim: no better)", "04_augmented_teacher"),
    "c1": ("p = 0.3 - p = 0", "05_proportion"),
    "c2": ("p = 0.3 - p = 1", "05_proportion"),
    "d": ("JDA - weak2 at the profile's few-shot fraction", "06_few_shot"),
    "e": ("mean over DKD, SPKD and HSAKD of (method + JDA - method + weak2)", "07_compatibility"),
    "f": ("CCD - HSAKD with a frozen teacher, and fewer bytes", "09_ccd_versus_hsakd"),
}

#: Those with HSAKD, which pairs the stages of teacher and student one by one.
WITH_HSAKD = ("e", "f")


@dataclass(frozen=True)
class Judgement:
    """A primary contrast, measured or not.

    cheaper: whether it needs fewer bytes; None where its claim is silent. parts: of a mean over pairs of arms, the
    difference of each pair, over the seeds that all pairs have.
    """

    name: str
    text: str
    study: str
    differences: tuple[float, ...]
    interval: Interval
    verdict: Verdict
    cheaper: bool | None = None
    parts: Mapping[tuple[str, str], float] = field(default_factory=dict)


def judge(store: Store, setting: Setting, names: Sequence[str] = tuple(CONTRASTS)) -> list[Judgement]:
    """Primary contrasts at a setting, by default all, from what the store holds. Nothing is typed by hand.

    Those with HSAKD are not measured where the setting's networks do not go with it.
    """
    chapters = {name: CONTRASTS[name][1] for name in names if setting.fits("hsakd") or name not in WITH_HSAKD}
    studies = {chapter: create_study(chapter, setting) for chapter in dict.fromkeys(chapters.values())}
    frames = {chapter: runs_frame(study, store) for chapter, study in studies.items()}
    return [
        _judge(name, studies[chapters[name]], frames[chapters[name]])
        if name in chapters
        else Judgement(name, *CONTRASTS[name], (), mean_interval([], PRIMARY_LEVEL), Verdict.NOT_MEASURED)
        for name in names
    ]


def _judge(name: str, study: Study, frame: pd.DataFrame) -> Judgement:
    contrast = study.contrast(name)
    by_seed = contrast_values(contrast, frame)
    differences = tuple(by_seed.values())
    interval = mean_interval(differences, PRIMARY_LEVEL)
    word = judge_contrast(study, contrast, interval)
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
            "contrast": f"{j.name}: {j.text}",
            "difference": f"{j.interval.mean:+.2f}" if j.interval.n else "",
            f"{100 * PRIMARY_LEVEL:.2f} % interval": span(j.interval, "+.2f"),
            "n": j.interval.n,
            "verdict": _word(j.verdict, verdicts),
        }
        for j in judgements
    ]
    return pd.DataFrame(rows).set_index("contrast").rename_axis(None)


def claims_frame(judgements: list[Judgement], verdicts: bool) -> pd.DataFrame:
    """One row per claim: its text and its verdict, from those of its contrasts."""
    rows = [
        {
            "claim": claim.name,
            "says": claim.says,
            "decided by": ", ".join(claim.contrasts),
            "verdict": claim_word(claim, judgements, verdicts),
        }
        for claim in CLAIMS
    ]
    return pd.DataFrame(rows).set_index("claim")


def claim_word(claim: Claim, judgements: Sequence[Judgement], verdicts: bool) -> str:
    """The verdict of a claim, from those of its contrasts, or that there is none (see `contrasts_frame`)."""
    words = {j.name: j.verdict for j in judgements}
    return _word(claim_verdict([words[name] for name in claim.contrasts]), verdicts)


def profiles_frame(setting: Setting) -> pd.DataFrame:
    """The verdict on each claim at every profile that gives verdicts, from what the stores hold: a column for each."""
    columns = {}
    for name, scale in PROFILES.items():
        if scale.verdicts:
            here = setting if name == setting.profile.name else Setting.of(name, device=setting.machine.device)
            columns[name] = claims_frame(judge(Store(name), here), here.verdicts).verdict
    return pd.DataFrame(columns).rename_axis("claim")


def gaps_frame(store: Store, setting: Setting) -> pd.DataFrame:
    """What each primary contrast still lacks: runs there, forecast of the others, and the line that trains them."""
    rows = []
    for name, (text, study_name) in CONTRASTS.items():
        study = create_study(study_name, setting)
        contrast = study.contrast(name)
        specs = needed(spec for arm in contrast.weights for spec in study.specs(arm))
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


def _word(word: Verdict, verdicts: bool) -> str:
    return str(word) if verdicts or word is Verdict.NOT_MEASURED else NO_VERDICT


def claims_markdown(judgements: list[Judgement], verdicts: bool) -> str:
    """The claims with the differences that decide them, in points, and their verdicts, as a Markdown table."""
    frame, found = claims_frame(judgements, verdicts), {j.name: j.interval for j in judgements}
    lines = ["| claim | says | found | verdict |", "|---|---|---|---|"]
    for claim in CLAIMS:
        differences = "<br>".join(f"{name}: {in_words(found[name])}" for name in claim.contrasts)
        lines.append(f"| {claim.name} | {claim.says} | {differences} | {frame.verdict[claim.name]} |")
    return "\n".join(lines)


def readme_table(store: Store, setting: Setting) -> str:
    """The same for the README, from a store."""
    table = claims_markdown(judge(store, setting), setting.verdicts)
    return table.replace(f"| {Verdict.NOT_MEASURED} |", f"| {Verdict.NOT_MEASURED} yet |")
