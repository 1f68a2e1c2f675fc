"""Machine translation: is another spelling of a sentence an augmentation that helps distillation?

Inspired by dual distillation (Wan et al., 2024), kNN-KD (Yang et al., 2022) and BPE-dropout (Provilkov et al., 2020).
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kdlib.elsewhere.translation.parallel import GRAMMAR, HELP, MANUALS, load_text
from kdlib.elsewhere.translation.spec import Terms, TranslationSpec, View
from kdlib.lab.recipe import Policy
from kdlib.methods.taxonomy import Taxonomy
from kdlib.study.arms import Arm, Contrast, MeasuredArm, by_label
from kdlib.study.setting import Setting, Study

LABELS, KD, NEIGHBOURS, SEQUENCES = "labels", "KD", "kNN-KD", "sequence KD"
ALIKE, DUAL = "consistency", "kNN-KD + consistency"
#: What a student learns from -> what is added to its labels.
TEACHING: Mapping[str, Terms] = {
    LABELS: Terms(),
    KD: Terms(words=1.0),
    NEIGHBOURS: Terms(neighbours=1.0),
    SEQUENCES: Terms(sequences=True),
    ALIKE: Terms(consistency=1.0),
    DUAL: Terms(neighbours=1.0, consistency=1.0),
}
UNTAUGHT = (LABELS, ALIKE)  # without a teacher
TEXT, ENCODER = "more sources", "more sources + encoder"
#: What a student learns from text without translations, the sources of the pairs that it has not: its base, a student
#: of its own pairs and labels alone, writes what stands in place of their targets.
BESIDE: Mapping[str, Terms] = {TEXT: Terms(), ENCODER: Terms(encoder=1.0)}
PLAIN, SPELT, LITTLE, MUCH = "plain", "BPE-dropout 0.1", "replacement 0.1", "replacement 0.3"
#: What the second presentation of a pair reads: a view, and its strength.
VIEWS: Mapping[str, tuple[View, float]] = {
    PLAIN: ("plain", 0.0), SPELT: ("bpe-dropout", 0.1), LITTLE: ("replacement", 0.1), MUCH: ("replacement", 0.3),
}  # fmt: skip
#: View -> what a pair becomes, for the taxonomy.
BECOMES: Mapping[str, str] = {
    PLAIN: "a sentence, twice",
    SPELT: "a sentence and another spelling of it",
    LITTLE: "a sentence and one with other pieces",
    MUCH: "a sentence and one with other pieces",
}
FIRST = tuple((view, taught) for taught in (LABELS, KD) for view in (PLAIN, SPELT))  # those of demonstrations
MORE = (
    *((view, taught) for taught in (LABELS, KD) for view in (LITTLE, MUCH)),
    (PLAIN, NEIGHBOURS), (SPELT, NEIGHBOURS), (PLAIN, SEQUENCES),
    (PLAIN, ALIKE), (SPELT, ALIKE), (PLAIN, DUAL), (SPELT, DUAL),
)  # fmt: skip
SCARCE = 5  # divisor of the pairs where there is text without translations
UNTRANSLATED = ((PLAIN, LABELS), *((view, taught) for taught in BESIDE for view in (PLAIN, SPELT)))
FEWER = (5, 2)  # divisors of the pairs that are learnt from; each is learnt from so many times more often
#: Metric of a run -> what it is called.
METRICS: Mapping[str, str] = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "token_accuracy": "right pieces, %",
    "external_bleu": "BLEU on the manuals",
}
MARGIN = 0.5  # of BLEU
PRIMARY = 1  # contrasts of this chapter that share an error rate
LATER = 3  # the tier of all arms
INTERACTION = "spelling x teacher"


class Size(NamedTuple):
    """How much is trained: the text, and the fields of `TranslationSpec` that both networks have, and their own."""

    text: str
    both: Mapping[str, Any]
    teacher: Mapping[str, Any]
    student: Mapping[str, Any]


SIZES: Mapping[str, Size] = {
    "smoke": Size(
        GRAMMAR,
        {"pieces": 400, "tested": 4, "layers": 1, "heads": 2, "pairs_per_step": 8, "warm_up": 2},
        {"pairs": 16, "width": 16, "epochs": 1},
        {"pairs": 16, "width": 8, "epochs": 1},
    ),
    "quick": Size(
        GRAMMAR,
        {"pieces": 700, "tested": 60, "layers": 1, "pairs_per_step": 16, "warm_up": 50, "learning_rate": 8e-3},
        {"pairs": 2000, "width": 48, "heads": 4, "epochs": 2},
        {"pairs": 640, "width": 32, "heads": 2, "epochs": 4},
    ),
    "reference": Size(
        HELP,
        {"pieces": 4000, "evaluations": 2},
        {"pairs": 20_000, "width": 192, "layers": 3, "heads": 6, "epochs": 8, "learning_rate": 1e-3},
        {"pairs": 2500, "width": 96, "layers": 2, "heads": 4, "epochs": 16, "external": MANUALS},
    ),
    "paper": Size(
        HELP,
        {"pieces": 8000, "evaluations": 10, "warm_up": 4000, "pairs_per_step": 64, "pairs": 20_000, "epochs": 40},
        {"width": 512, "layers": 6, "heads": 8, "learning_rate": 7e-4},
        {"width": 256, "layers": 3, "heads": 4, "learning_rate": 1e-3, "external": MANUALS},
    ),
}


def create(setting: Setting, text: str = "auto") -> Study:
    """The study of chapter 25_translation: what the second presentation of a pair reads, by what is taught.

    text: parallel text, see `kdlib.elsewhere.translation.parallel`; auto is the profile's. One contrast is primary, and
    decides none of the book's claims: another spelling minus the plain one, both with KD, in BLEU. Demonstrations have
    the four arms of its interaction with the teacher, at one seed.
    """
    asked = planned(setting, text)
    arms = by_label(*(_arm(setting, *one) for one in asked))
    size = SIZES[setting.profile.name]
    external = text == "auto" and "external" in size.student
    measured = {
        arm.measurement(seed): _student(setting, text, *one, seed)
        for arm, one in zip(arms.values(), asked, strict=True)
        for seed in setting.seeds_of(arm)
    }
    contrasts, later = tuple(_contrasts(arms, external)), dict.fromkeys(measured, LATER)
    return Study("25_translation", setting, arms, contrasts, measured, series=_by_pairs(size, arms), later=later)


def planned(setting: Setting, text: str = "auto") -> list[tuple[str, str, int]]:
    """The arms of a setting: view, what is taught, and the divisor of the pairs, which text of one's own may not
    allow."""
    if setting.profile.trains:
        return [(*one, 1) for one in FIRST]
    divisors = FEWER if text == "auto" else ()
    fewer = [(view, KD, divisor) for divisor in divisors for view in (PLAIN, SPELT)]
    beside = [(*one, SCARCE) for one in UNTRANSLATED] if text == "auto" else []
    return [*((*one, 1) for one in (*FIRST, *MORE)), *fewer, *beside]


def label(view: str, taught: str, divisor: int = 1) -> str:
    """What an arm is called, of names of VIEWS, TEACHING and BESIDE, and of the pairs that it has."""
    return f"{view}, {taught}" + (f", 1/{divisor} of the pairs" if divisor > 1 else "")


def _student(setting: Setting, text: str, view: str, taught: str, divisor: int, seed: int) -> TranslationSpec:
    """The run of an arm and a seed."""
    size, (kind, p) = SIZES[setting.profile.name], VIEWS[view]
    fields: dict[str, Any] = {"view": kind, "p": p, **_fewer(size, divisor, taught in BESIDE)}
    if taught in BESIDE:
        fields["teacher"] = _student(setting, text, PLAIN, LABELS, divisor, seed)
    elif taught not in UNTAUGHT:
        fields["teacher"] = _spec(setting, text, size.teacher, seed=0)
    return _spec(setting, text, size.student, seed, terms={**TEACHING, **BESIDE}[taught], **fields)


def _fewer(size: Size, divisor: int, beside: bool) -> dict[str, int]:
    """The fields of a student that has fewer pairs, and is presented with as many sentences as any other: more often
    with its own, or with the sources of the others beside them."""
    pairs, epochs = (({**size.both, **size.student})[name] for name in ("pairs", "epochs"))
    own = pairs // divisor
    if beside:
        return {"pairs": own, "untranslated": pairs - own}
    return {"pairs": own, "epochs": epochs * divisor} if divisor > 1 else {}


def _by_pairs(size: Size, arms: Mapping[str, Arm]) -> dict[str, dict[str, float]]:
    """View -> its arms with KD -> how many pairs they have, fewest first; nothing where there is one number alone."""
    pairs = ({**size.both, **size.student})["pairs"]
    curves = {view: {label(view, KD, d): pairs // d for d in (*FEWER, 1)} for view in (PLAIN, SPELT)}
    return curves if all(set(curve) <= set(arms) for curve in curves.values()) else {}


def _arm(setting: Setting, view: str, taught: str, divisor: int) -> MeasuredArm:
    """Policies are of images: here none means anything."""
    seeds = "one" if setting.profile.trains else "usual" if (view, taught) in FIRST and divisor == 1 else "few"
    alone = taught in UNTAUGHT or taught in BESIDE  # a base reads plain spellings
    facts = Taxonomy(
        knowledge=() if taught in UNTAUGHT else ("answer", "feature") if taught == ENCODER else ("answer",),
        sees="student alone" if alone else "both the same",
        chosen_by="none", labels="the same", status="inspired by", task="translation",
    )  # fmt: skip
    return MeasuredArm(
        label(view, taught, divisor), Policy(name="weak2"), "translation", taxonomy=facts, seeds=seeds, tier=LATER,
        view=BECOMES[view], floor=_floor(setting, taught, divisor), metric="bleu",
    )  # fmt: skip


def _floor(setting: Setting, taught: str, divisor: int) -> str | None:
    """The student of as many pairs that learns from labels alone, where there is one."""
    there = not setting.profile.trains and taught != LABELS and divisor in (1, SCARCE)
    return label(PLAIN, LABELS, divisor) if there else None


def _spec(setting: Setting, text: str, own: Mapping[str, Any], seed: int, **fields: Any) -> TranslationSpec:
    """In float32: these networks are too small to gain by less. Another text than the profile's has no external one,
    and may have fewer pairs."""
    size = SIZES[setting.profile.name]
    given = {**size.both, **own, **fields}
    if text != "auto":
        given |= {"external": None, "pairs": min(given["pairs"], len(load_text(text).train))}
    machine = setting.machine.model_copy(update={"precision": "float32"})
    return TranslationSpec(data=size.text if text == "auto" else text, seed=seed, machine=machine, **given)


def _contrasts(arms: Mapping[str, Arm], external: bool) -> Iterable[Contrast]:
    """Those whose arms are there: the primary one first, then its interaction with the teacher."""
    own = {"metric": "bleu", "margin": MARGIN}
    pairs = {taught: (label(SPELT, taught), label(PLAIN, taught)) for taught in TEACHING}
    yield Contrast.of("M1", *pairs[KD], primary=True, among=PRIMARY, tier=LATER, **own)
    yield Contrast.interaction(
        INTERACTION, pairs[KD], pairs[LABELS], "another spelling - plain, with KD - with labels alone", **own
    )
    for view in (LITTLE, MUCH):
        gains = [(label(view, taught), label(PLAIN, taught)) for taught in (KD, LABELS)]
        if {arm for gain in gains for arm in gain} <= set(arms):
            words = f"{view} - plain, with KD - with labels alone"
            yield Contrast.interaction(f"{view} x teacher", *gains, words, **own)
    for arm, than in (
        pairs[LABELS],
        (label(PLAIN, KD), label(PLAIN, LABELS)),
        (label(LITTLE, KD), label(PLAIN, KD)),
        (label(MUCH, KD), label(PLAIN, KD)),
        (label(LITTLE, LABELS), label(PLAIN, LABELS)),
        (label(MUCH, LABELS), label(PLAIN, LABELS)),
        pairs[NEIGHBOURS],
        (label(PLAIN, NEIGHBOURS), label(PLAIN, KD)),
        (label(PLAIN, SEQUENCES), label(PLAIN, KD)),
        (label(PLAIN, ALIKE), label(PLAIN, LABELS)),
        pairs[ALIKE],
        (label(PLAIN, DUAL), label(PLAIN, NEIGHBOURS)),
        (label(SPELT, DUAL), label(PLAIN, DUAL)),
        *((label(SPELT, KD, divisor), label(PLAIN, KD, divisor)) for divisor in FEWER),
    ):
        if {arm, than} <= set(arms):
            yield Contrast.of(f"{arm} - {than}", arm, than, **own)
    yield from _of_more_sources(arms, own)
    arm, than = pairs[KD]
    for metric, words in list(METRICS.items())[1 : None if external else -1]:
        yield Contrast(f"M1, {words}", {arm: 1, than: -1}, f"{words}: {arm} - {than}", metric=metric, margin=MARGIN)


def _of_more_sources(arms: Mapping[str, Arm], own: Mapping[str, Any]) -> Iterable[Contrast]:
    """Text without translations, and the term of the encoder: what each adds to a student of few pairs."""
    for says, one, other in (
        (f"plain: {TEXT} - {LABELS}", (PLAIN, TEXT), (PLAIN, LABELS)),
        (f"plain: {ENCODER} - {LABELS}", (PLAIN, ENCODER), (PLAIN, LABELS)),
        *((f"{view}: {ENCODER} - without", (view, ENCODER), (view, TEXT)) for view in (PLAIN, SPELT)),
        (f"{TEXT}: {SPELT} - {PLAIN}", (SPELT, TEXT), (PLAIN, TEXT)),
    ):
        arm, than = label(*one, SCARCE), label(*other, SCARCE)
        if {arm, than} <= set(arms):
            yield Contrast(f"{arm} - {than}", {arm: 1.0, than: -1.0}, f"1/{SCARCE} of the pairs, {says}", **own)
