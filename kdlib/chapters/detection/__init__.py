"""Detection: does distillation repair the loose boxes of geometric augmentation?

Shears and turns make of a box the upright box around it, which is too large for most objects. A teacher that looks at
the turned picture does not have that fault. So boxes and the teacher's answer are switched on and off on the second
view, for views that move boxes and for views that leave them as they are.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from kdlib.chapters.detectors import ALONE, BOTH, KD, LABELS, LATER, MARGIN, TAXONOMY, TERMS, Size, student
from kdlib.elsewhere.boxes.trees import NAME
from kdlib.elsewhere.boxes.views import Second
from kdlib.elsewhere.detection import DetectionSpec
from kdlib.lab.recipe import Policy
from kdlib.study.arms import Arm, Contrast, MeasuredArm, by_label
from kdlib.study.setting import Setting, Study

#: What is done to the second view -> what arms call it.
VIEWS: Mapping[Second, str] = {
    "weak2": "weak2", "photometric": "photometric", "geometric": "geometric", "jda": "JDA",
}  # fmt: skip
#: What becomes of a picture, in words.
BECOMES: Mapping[Second, str] = {
    "weak2": "two crops", "photometric": "a crop and one whose colours JDA changed",
    "geometric": "a crop and one that JDA sheared or turned, with its boxes",
    "jda": "a crop and a JDA crop, with its boxes",
}  # fmt: skip
#: Metric of `kdlib.elsewhere.boxes.precision` -> what it is called.
METRICS: Mapping[str, str] = {"ap50": "AP50", "ap75": "AP75", "ap": "AP50-95"}
PRIMARY = 3  # contrasts of this chapter that share an error rate
REPAIR = "KD x geometric views"
CONTROLS = ("gate, mean", "gate, shuffled")  # of the gate, see ADDED
#: What is added to an arm of labels and KD -> fields of `DetectionSpec`: inspired by ReAL and by DetNet.
ADDED: Mapping[str, Mapping[str, Any]] = {
    "relations": {"relation_weight": 1.0},
    "gate": {"gate": "agreement"},
    "gate, mean": {"gate": "mean"},
    "gate, shuffled": {"gate": "shuffled"},
    "relations, gate": {"relation_weight": 1.0, "gate": "agreement"},
    "strided": {"last": "strided"},
}
#: Of which view each is.
EXTRA: tuple[tuple[Second, str], ...] = (*(("jda", added) for added in ADDED), ("weak2", "strided"))
#: Profile -> its data set, if no other one is asked for.
DATA: Mapping[str, str] = {"smoke": "scenes", "quick": "scenes", "reference": "trees", "paper": "trees"}
SIZES: Mapping[str, Size] = {
    "smoke": Size((12, 4), (4, 6), 2, 4, 1),
    "quick": Size((200, 48), (8, 16), 60, 4, 1),
    "reference": Size((2000, 500), (16, 32), 940, 16, 4),
    "paper": Size((2000, 500), (32, 48), 3000, 16, 4),
}


def create(setting: Setting, boxes: str = "auto") -> Study:
    """The study of chapter 24_detection: what is done to the second view by what it learns from.

    boxes: the pictures, see `kdlib.elsewhere.boxes.load`; auto takes the profile's. Three contrasts are primary, and
    decide none of the book's claims; the third asks of other places, which only the photographs of trees have.
    Demonstrations have their four arms alone, at one seed.
    """
    data = DATA[setting.profile.name] if boxes == "auto" else boxes
    asked = _asked(setting)
    arms = by_label(*_arms(setting, asked))
    kinds = [*((second, terms, {}) for second, terms in asked), *_extra(setting)]
    study = Study("24_detection", setting, arms, tuple(_contrasts(arms, elsewhere=data == NAME)))
    measured, later = {}, {}
    for arm, (second, terms, fields) in zip(arms.values(), kinds, strict=True):
        for seed in setting.seeds_of(arm):
            spec = _spec(setting, data, second, terms, seed)
            measured[arm.measurement(seed)] = DetectionSpec.model_validate(dict(spec) | fields)
            later[arm.measurement(seed)] = study.tier(arm.label)
    return Study(study.name, setting, arms, study.contrasts, measured, later=later)


def label(second: Second, terms: str) -> str:
    """What an arm is called, of names of VIEWS and TERMS."""
    return f"{VIEWS[second]}, {terms}"


#: The contrast that says whether the teacher helps at all.
TEACHING = f"{METRICS['ap50']}: {label('weak2', BOTH)} - {label('weak2', ALONE)}"


def _asked(setting: Setting) -> list[tuple[Second, str]]:
    if setting.profile.trains:
        return [("weak2", BOTH), ("jda", BOTH), ("geometric", BOTH), ("geometric", LABELS)]
    return [*((second, terms) for second in VIEWS for terms in TERMS), ("weak2", ALONE)]


def _extra(setting: Setting) -> list[tuple[Second, str, Mapping[str, Any]]]:
    """Arms of labels and KD to which something is added; none at demonstrations."""
    return [] if setting.profile.trains else [(second, BOTH, ADDED[added]) for second, added in EXTRA]


def _arms(setting: Setting, asked: Iterable[tuple[Second, str]]) -> Iterable[MeasuredArm]:
    """The floor of students of a teacher is the one without."""
    few = setting.profile.trains
    floor = None if few else label("weak2", ALONE)
    for second, terms in asked:
        yield _arm(label(second, terms), second, "one" if few else "usual", None if terms == ALONE else floor)
    for second, added in () if few else EXTRA:
        yield _arm(f"{label(second, BOTH)}, {added}", second, "few", floor)


def _arm(words: str, second: Second, seeds: Any, floor: str | None) -> MeasuredArm:
    return MeasuredArm(
        words, Policy(name="weak2" if second == "weak2" else "jda"), "detection", taxonomy=TAXONOMY,
        view=BECOMES[second], seeds=seeds, tier=LATER, floor=floor, metric="ap50",
    )  # fmt: skip


def _spec(setting: Setting, data: str, second: Second, terms: str, seed: int) -> DetectionSpec:
    """The student of an arm."""
    size = SIZES[setting.profile.name]
    return student(DetectionSpec, setting, size, data, terms, seed, {}, second=second)


def _contrasts(arms: Mapping[str, Arm], elsewhere: bool) -> Iterable[Contrast]:
    """Those whose arms are there, the primary ones first."""
    jda, plain = label("jda", BOTH), label("weak2", BOTH)
    repaired = (label("geometric", BOTH), label("geometric", LABELS))
    yield Contrast.of("D1", jda, plain, primary=True, among=PRIMARY, tier=LATER, metric="ap50", margin=MARGIN)
    yield Contrast.of("D2", *repaired, primary=True, among=PRIMARY, tier=LATER, metric="ap75", margin=MARGIN)
    if elsewhere:
        text = f"threshold loss at other places: {jda} - {plain}"
        fields = {"metric": "threshold_loss", "margin": MARGIN, "among": PRIMARY, "says": "less"}
        yield Contrast("K2", {jda: 1.0, plain: -1.0}, text, primary=True, tier=LATER, **fields)
    gain = {second: (label(second, BOTH), label(second, LABELS)) for second in VIEWS}
    if set(gain["weak2"]) <= set(arms):
        for name, second in ((REPAIR, "geometric"), ("KD x photometric views", "photometric")):
            text = f"what KD adds on {second} views - on plain ones"
            yield Contrast.interaction(name, gain[second], gain["weak2"], text, metric="ap75", margin=MARGIN)
    for metric, arm, than in (
        ("ap75", label("geometric", BOTH), plain),
        ("ap75", label("photometric", BOTH), plain),
        ("ap75", label("geometric", KD), label("geometric", LABELS)),
        ("ap75", label("geometric", LABELS), label("photometric", LABELS)),
        ("ap75", *gain["jda"]),
        ("ap50", plain, label("weak2", ALONE)),
    ):
        if {arm, than} <= set(arms):
            yield _of(metric, arm, than)
    for second, added in EXTRA:
        arm = f"{label(second, BOTH)}, {added}"
        if arm in arms:
            yield _of("ap50", arm, label(second, BOTH))
    gated, *controls = (f"{label('jda', BOTH)}, {added}" for added in ("gate", *CONTROLS))
    for control in controls if gated in arms else ():
        yield _of("ap50", gated, control)
    for metric in ("ap75", "ap"):
        yield _of(metric, jda, plain)
    for metric in ("ap50", "ap"):
        yield _of(metric, *repaired)


def _of(metric: str, arm: str, than: str) -> Contrast:
    text = f"{METRICS[metric]}: {arm} - {than}"
    return Contrast(text, {arm: 1.0, than: -1.0}, text, metric=metric, margin=MARGIN)
