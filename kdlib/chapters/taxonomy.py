"""Where each system of the book stands: what is taught, on which views, against which zero point, and what came out.

Systems are the methods, by what they bring, and the chapters that decide a claim. A method says the rest about itself
(`kdlib.methods.taxonomy`); all of a chapter's row follows from its contrasts, their arms and the arms' methods.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from kdlib.chapters import CHAPTERS
from kdlib.chapters.registry import create_study
from kdlib.lab.recipe import Policy
from kdlib.lab.store import Store
from kdlib.methods import METHODS, Taxonomy, find_method
from kdlib.study.arms import Arm, Contrast, MeasuredArm, OwnTeacher
from kdlib.study.judging import judge, verdict_text
from kdlib.study.setting import Setting, Study
from kdlib.study.stats import Verdict
from kdlib.study.tables import contrast_interval, runs_frame, signed, span

#: Method -> the chapter and the contrast that say what it brings, primary or not; a first stage has none.
ASKED: Mapping[str, tuple[str, str]] = {
    "ce": ("03_blind_teacher", "gain without a teacher"),
    "kd": ("03_blind_teacher", "a1"),
    "ccd": ("08_cosine_confidence", "CCD - w = mean(w)"),
    "four_term": ("08_cosine_confidence", "all four terms - x, CE on x~"),
    "dkd": ("07_compatibility", "gain of DKD"),
    "crld": ("19_rivals", "R1"),
    "tekap": ("19_rivals", "R2"),
    "ls": ("19_rivals", "gain of standardised"),
    "dist": ("19_rivals", "gain of DIST"),
    "energy_kd": ("20_which_images", "T rises with energy - one T"),
    "energy_dkd": ("20_which_images", "DKD, T rises with energy - DKD, one T"),
    "resolution_ce": ("21_resolution", "no teacher, small - no teacher"),
    "resolution": ("21_resolution", "L1"),
    "spkd": ("07_compatibility", "gain of SPKD"),
    "crd": ("07_compatibility", "gain of CRD"),
    "sskd": ("07_compatibility", "gain of SSKD"),
    "hsakd": ("07_compatibility", "gain of HSAKD"),
    "soteacher": ("04_augmented_teacher", "S1"),
}
#: View policy -> what an image becomes.
VIEWS: Mapping[str, str] = {
    "weak1": "a crop",
    "weak2": "two crops",
    "twin": "a crop, twice",
    "jda": "a crop and a JDA crop",
    "rot2": "a crop and one turn of it",
    "rot4": "a crop and its three turns",
    "randaugment": "a crop and a RandAugment crop",
    "cutout": "a crop and one with a hole",
    "crld": "a crop and CRLD's strong one",
    "coarse": "a crop and one of fewer details",
    "cutmix": "a crop and a mix of two images",
    "share": "two crops, a share of all under JDA",
    "he_da": "two crops, of chosen images one augmented",
    "attention_crop": "a crop and one of where the teacher looks",
    "attention_drop": "a crop and one with a hole where the teacher looks",
}
#: View policy -> what it says instead of its method, where the teacher has a hand in it.
CHOSEN: Mapping[str, Mapping[str, str]] = {
    "he_da": {"chosen_by": "energy"},
    "attention_crop": {"chosen_by": "attention", "status": "inspired by"},
    "attention_drop": {"chosen_by": "attention", "status": "inspired by"},
}
#: How a method spreads a view -> what it becomes.
SPREADS: Mapping[str, str] = {
    "none": "",
    "turns": "in four turns",
    "turned crops": "in four turns, cropped apart",
}
#: Chapters whose design was concluded from records, not read.
INFERRED = ("05_proportion", "07_compatibility")
PLAIN = ("weak1", "weak2")  # views that are not augmented
NOTHING = "–"


@dataclass(frozen=True)
class Row:
    """A system. Each field is a cell, of one or several lines of a few words."""

    #: name of the method, or of the chapter
    system: str
    #: what the networks are for
    task: str
    #: what the student is taught of the teacher
    knowledge: str
    #: what an image becomes
    view: str
    #: who is shown the views
    sees: str
    #: what chooses or weighs views
    chosen_by: str
    #: of augmented views
    labels: str
    #: what is taken away in the difference
    zero: str
    #: the difference, its interval, and what they say
    verdict: str
    #: "verified" or "inspired by", of a chapter for each contrast, where they differ
    status: str


def rows(store: Store, setting: Setting) -> list[Row]:
    """The methods, and then the chapters that have a primary contrast at the setting, each in its order.

    Raises ValueError for a method without a taxonomy, or without a contrast if it trains a student of a teacher.
    """
    studies = {name: create_study(name, setting) for name in CHAPTERS}
    verdicts = {name: _verdicts(study, store) for name, study in studies.items()}
    deciding = [name for name, study in studies.items() if primary(study)]
    methods = [_of_method(name, studies, verdicts) for name in METHODS]
    return methods + [_of_chapter(studies[name], verdicts[name]) for name in deciding]


def primary(study: Study) -> list[Contrast]:
    """The contrasts of a study that decide something, if they are its own: chapter 12 repeats those of others."""
    return [c for c in study.contrasts if c.primary] if study.name != "12_verdicts" else []


def taxonomy_of(name: str) -> Taxonomy:
    """What a registered method says about itself. Raises ValueError if it says nothing."""
    found = find_method(name).taxonomy
    if found is None:
        raise ValueError(f"taxonomy of method {name!r} is None; allowed is a kdlib.methods.Taxonomy in its definition")
    return found


def zero_point(contrast: Contrast) -> str:
    """What a contrast takes away: an arm, or those of all pairs; of more arms than two what its text says."""
    if contrast.pairs:
        return "; ".join(than for _, than in contrast.pairs)
    taken = [arm for arm, weight in contrast.weights.items() if weight < 0]
    return taken[0] if len(contrast.weights) == 2 else contrast.text.rpartition(" - ")[2]


def _verdicts(study: Study, store: Store) -> dict[str, str]:
    """Contrast -> its difference, interval and verdict in a cell."""
    frame = runs_frame(study, store)
    return {contrast.name: _verdict(study, contrast, frame) for contrast in study.contrasts}


def _verdict(study: Study, contrast: Contrast, frame: pd.DataFrame) -> str:
    interval = contrast_interval(contrast, frame)
    if not interval.n:
        return str(Verdict.NOT_MEASURED)
    text = verdict_text(study, contrast, frame)
    if contrast.primary and study.setting.verdicts:
        judged = judge(study, contrast, frame)
        text = judged.word if judged.verdict is judged.rule else text  # a word with its teacher holds that of the rule
    return f"{signed(interval)} {span(interval, '+.2f')}, {text}"


def _of_method(name: str, studies: Mapping[str, Study], verdicts: Mapping[str, Mapping[str, str]]) -> Row:
    facts, definition = taxonomy_of(name), find_method(name)
    zero = verdict = NOTHING
    if name in ASKED:
        chapter, asked = ASKED[name]
        contrast = studies[chapter].contrast(asked)  # a demonstration lacks some
        zero = zero_point(contrast) if contrast else NOTHING
        verdict = verdicts[chapter].get(asked, str(Verdict.NOT_MEASURED))
    elif definition.trains_student and definition.needs_teacher:
        raise ValueError(f"method {name!r} is not in ASKED; allowed are the contrasts that say what it brings")
    view = "two crops, one augmented" if definition.views == (2,) else "a crop, plain or augmented"
    return Row(
        name, view=_spread(view, definition.spread), zero=zero, verdict=verdict, sees=facts.sees, **_shared([facts])
    )


def _of_chapter(study: Study, verdicts: Mapping[str, str]) -> Row:
    contrasts = primary(study)
    asked = {contrast.name: [study.arms[label] for label in _asked(contrast)] for contrast in contrasts}
    arms = [arm for some in asked.values() for arm in some]
    facts = [_facts(arm) for arm in arms]
    each = {name: _shared([_facts(arm) for arm in some])["status"] for name, some in asked.items()}
    status = _several(each.values() if len(set(each.values())) == 1 else (f"{n}: {word}" for n, word in each.items()))
    found = [f"{contrast.name}: {verdicts[contrast.name]}" for contrast in contrasts]
    unmeasured = {verdicts[contrast.name] for contrast in contrasts} == {str(Verdict.NOT_MEASURED)}
    shared = _shared(facts)
    return Row(
        study.name,
        view=_several(_view(arm) for arm in arms),
        sees=_several(_sees(arm) for arm in arms),
        zero=_several(f"{contrast.name}: {zero_point(contrast)}" for contrast in contrasts),
        verdict=str(Verdict.NOT_MEASURED) if unmeasured else _several(found),
        **shared | {"status": "inspired by" if study.name in INFERRED else status},
    )


def _asked(contrast: Contrast) -> list[str]:
    """The arms that a contrast is about: the first one, of a mean over pairs the first of each."""
    return [arm for arm, _ in contrast.pairs] or [next(iter(contrast.weights))]


def _shared(facts: Sequence[Taxonomy]) -> dict[str, str]:
    """The cells that are what the methods say, each word once; a single reconstruction makes all of it one."""
    return {
        "task": _several(fact.task for fact in facts),
        "knowledge": _several(word for fact in facts for word in fact.knowledge) or NOTHING,
        "chosen_by": _several(fact.chosen_by for fact in facts),
        "labels": _several(fact.labels for fact in facts),
        "status": "verified" if all(fact.status == "verified" for fact in facts) else "inspired by",
    }


def _facts(arm: Arm) -> Taxonomy:
    """What the method of an arm says, or a measured arm itself, and what its views do."""
    if isinstance(arm, MeasuredArm) and arm.taxonomy:
        return arm.taxonomy
    return taxonomy_of(arm.method).model_copy(update=CHOSEN.get(arm.policy.name, {}))


def _view(arm: Arm) -> str:
    """What an image, or another input, becomes; only methods of classification spread a view."""
    if isinstance(arm, MeasuredArm) and arm.view:
        return arm.view
    view = VIEWS[arm.policy.name]
    return view if isinstance(arm, MeasuredArm) else _spread(view, find_method(arm.method).spread)


def _sees(arm: Arm) -> str:
    """Who is shown the views of an arm. A teacher of ours may have been trained on augmented ones, or by a method."""
    if arm.is_teacher:
        return "teacher alone"
    own = arm.teacher if isinstance(arm.teacher, OwnTeacher) else OwnTeacher(Policy(name=PLAIN[0]))
    words = [own.policy.name] * (own.policy.name not in PLAIN) + [own.method] * (own.method != "ce")
    return f"{_facts(arm).sees}, after a teacher of {' by '.join(words)}" if words else _facts(arm).sees


def _spread(view: str, kind: str) -> str:
    return f"{view}, {SPREADS[kind]}" if SPREADS[kind] else view


def _several(words: Iterable[str]) -> str:
    """Different words, a line each, in their order."""
    return "\n".join(dict.fromkeys(words))
