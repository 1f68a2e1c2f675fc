"""What each chapter found, in a few sentences that are computed from its runs; first what to take home."""

from collections.abc import Callable, Mapping

import pandas as pd

from kdlib.chapters.ccd_versus_hsakd import LONGER
from kdlib.chapters.cosine_confidence import WEIGHT_NAMES
from kdlib.chapters.few_shot import EQUAL_EPOCHS, percent
from kdlib.chapters.one_picture import CCD, DKD, JDA, MEAN
from kdlib.chapters.one_picture import HSAKD as BRANCHES
from kdlib.chapters.registry import create_study
from kdlib.chapters.related_findings import (
    attention,
    detection,
    masked,
    oriented,
    resolution,
    retrieval,
    rivals,
    thresholds,
    translation,
    which_images,
)
from kdlib.chapters.wording import Found, direction, points
from kdlib.lab.forecasts import run_cost
from kdlib.lab.store import Store
from kdlib.study.judging import demonstration, teacher_in_words
from kdlib.study.setting import Setting, Study
from kdlib.study.shared_arms import GAIN, NO_TEACHER, SLOWLY
from kdlib.study.tables import joined, runs_frame

OPEN = "is not measured at this profile"
HSAKD = "HSAKD, frozen teacher"
PARAGRAPH = "\n\n"  # between what is to be taken home and what a chapter says besides


def finding(study: Study, frame: pd.DataFrame) -> str:
    """What a chapter found, in Markdown. Where no verdicts are given its first differences stand there, and no words.

    Intervals are those of paired differences over seeds: of primary contrasts at their own level, else at 95 %.
    """
    if not study.setting.verdicts:
        return demonstration(study, frame)
    return FINDINGS[study.name](Found(study, frame)) or f"The question of this chapter {OPEN}."


def tour(found: Found) -> str:
    """Distillation, and augmentation on top."""
    taught, more = found("distilled", NO_TEACHER), found("distilled, augmented", "distilled")
    if not taught or not more:
        return ""
    return f"Learning from the teacher too changes top-1 by {points(taught)}, augmented views on top by {points(more)}."


def blind_teacher(found: Found) -> str:
    """Whom JDA helps: students of the public teacher, of ours, or both."""
    gain = found.contrast("a1")
    if not gain:
        return ""
    teacher, ours = teacher_in_words(found.study), found.contrast(GAIN)
    helps = direction(gain, "helps", "harms", "neither helps nor harms, as far as can be told,")
    if ours:
        both = (gain.low > 0) == (ours.low > 0)
        head = f"**JDA {helps} with {teacher}{' and' if both else ', not'} with ours**"
        apart = f"{points(gain)} against two plain crops with the one, {points(ours)} with the others"
    else:
        head, apart = f"**JDA {helps} with {teacher}**", f"{points(gain)} against two plain crops"
    details = " ".join(filter(None, (_labels_alone(found), _turns(found))))
    return PARAGRAPH.join(filter(None, (f"{head}: {apart}.{_one_view(found)}", details)))


def _labels_alone(found: Found) -> str:
    """Whether JDA helps any training, or what the teacher makes of it."""
    alone, teaching = found.contrast("gain without a teacher"), found.contrast("teaching")
    if not alone or not teaching:
        return ""
    gain = direction(alone, "gain from it too", "lose by it", "are not shown to gain from it")
    apart = direction(teaching, "more than they do", "less than they do", "which is not told apart from that")
    return (
        f"Students that learn from labels alone {gain}: {points(alone)}; those of the teacher gain {points(teaching)} "
        f"{apart}."
    )


def _one_view(found: Found) -> str:
    """The two views of JDA against the published zero point, which passes over the images twice as often."""
    difference = found.contrast("JDA - one view")
    if not difference:
        return ""
    stands = direction(difference, "is also ahead of", "is behind", "is not told apart from")
    return (
        f" At equal views it {stands} one plain view of an image, with which a run passes over the images twice as "
        f"often: {points(difference)} with {teacher_in_words(found.study)}."
    )


def _turns(found: Found) -> str:
    below = found.untrained("rot4").get("rot4")
    if not below:
        return ""
    return (
        f"Students of four quarter turns did not train at this budget: {points(below)} against the same student "
        "without a teacher. JDA against rotation is therefore not tested here."
    )


def augmented_teacher(found: Found) -> str:
    """What JDA does to a teacher and to its students, and whose students are best."""
    teacher, students = found.contrast("b1"), found.contrast("b2")
    if not teacher or not students:
        return ""
    better = direction(teacher, "a better teacher", "a worse teacher", "no teacher that is shown better")
    taught = direction(students, "better students", "worse students", "students that are neither better nor worse")
    text = (
        f"**JDA makes {better}, and {taught}**: {points(teacher)} for the teacher, {points(students)} for its students."
    )
    ahead = found("KD + weak2, plain teacher", "KD + weak2, public teacher")
    if ahead:
        own = direction(ahead, "far better than", "worse than", "not told apart from")
        text += f" Students of our plain teacher are {own} those of {teacher_in_words(found.study)}: {points(ahead)}."
    words = ("helps", "harms", "is not shown to change")
    consistent = found.decided("S1", "Consistency over the epochs of a JDA teacher {} its students", words)
    return PARAGRAPH.join(filter(None, (text, consistent)))


def proportion(found: Found) -> str:
    """The published p against none and against all."""
    none, always = found.contrast("c1"), found.contrast("c2")
    if not none or not always:
        return ""
    inside = none.low > 0 and always.low > 0
    head = "**Some augmentation is better than none and than all**" if inside else "**No inner optimum is shown**"
    return f"{head}: p = 0.3 against none {points(none)}, against p = 1 {points(always)}."


def few_shot(found: Found) -> str:
    """The gain at the named fraction, and at equal epochs; and views that are made where the teacher looks."""
    gain, share = found.contrast("d"), percent(found.study.setting.profile.few_shot_fraction)
    if not gain:
        return ""
    helps = direction(gain, "helps", "harms", "is not shown to help")
    text = f"**JDA {helps} where images are few**: {points(gain)} against two plain crops at {share} of the images."
    return PARAGRAPH.join(filter(None, (text + _equal_epochs(found), attention(found))))


def _equal_epochs(found: Found) -> str:
    jda = [label for label in found.study.arms if label.endswith(f"{EQUAL_EPOCHS}: JDA")]
    gains = {label.split(",")[0]: found(label, label.replace("JDA", "weak2")) for label in jda}
    nothing = "brings nothing that can be told from zero"
    parts = [
        f"{direction(gain, 'still helps', 'harms', nothing)} at {share} ({points(gain)})"
        for share, gain in gains.items()
        if gain
    ]
    return f" In the few steps that equal epochs leave it {joined(parts)}." if parts else ""


def compatibility(found: Found) -> str:
    """The mean gain that was to decide, and the mean without the method that did not train."""
    mean, unturned = found.contrast("e"), found.contrast("e without turned views", strictly=True)
    if not mean:
        return ""
    below = found.untrained(*found.study.contrast("e").weights)
    if not below or not unturned:
        return f"**What JDA adds to other methods**: {points(mean)} on average."
    adds = direction(unturned, "helps", "harms", "is not shown to help")
    return (
        f"**JDA {adds} the methods that trained**: {points(unturned)} on average. The mean that was to decide, "
        f"{points(mean)}, rests on {joined(below)}, which did not train at this budget (below the same student "
        "without a teacher)."
    )


def cosine_confidence(found: Found) -> str:
    """Whether the extra weight helps, and whether the cosine does."""
    ccd, mean, one = (WEIGHT_NAMES[name] for name in ("cosine", "mean", "one"))
    extra, cosine, rival = found(mean, one), found(ccd, mean), found("DKD + JDA", ccd)
    if not extra or not cosine:
        return ""
    weight = f"The extra weight {direction(extra, 'helps', 'harms', 'is not shown to help')}"
    also = "and so does the cosine" if extra.low > 0 else "the cosine does"
    does = direction(cosine, also, "the cosine does not", "the cosine does not")
    text = (
        f"**{weight}; {does}**: one constant weight of the same total brings {points(extra)}, CCD against it "
        f"{points(cosine)}."
    )
    if not rival:
        return text
    ahead = direction(rival, "ahead of", "behind", "not told apart from")
    return f"{text} DKD on the same views, which needs no more storage, is {ahead} CCD: {points(rival)}."


def ccd_versus_hsakd(found: Found) -> str:
    """What HSAKD did, before anything is said of CCD."""
    lead = found.contrast("f")
    if not lead:
        return ""
    ccd, hsakd = (run_cost(found.study.specs(arm)[0]).training_bytes / 1e6 for arm in ("CCD", HSAKD))
    storage = f"In training CCD keeps {ccd:.2f} MB, HSAKD {hsakd:.2f} MB."
    below = found.untrained(HSAKD).get(HSAKD)
    if below:
        return (
            f"**HSAKD did not train here**: {points(below)} against the same student without a teacher. So this says "
            f"nothing about CCD, which is ahead of it by {points(lead)}. {storage}"
        )
    is_ahead = direction(lead, "is ahead of HSAKD", "is behind HSAKD", "and HSAKD are not told apart")
    return f"**CCD {is_ahead}**: {points(lead)}. {storage}{_elsewhere(found)}"


def _elsewhere(found: Found) -> str:
    others = {words: found(f"CCD, {words}", f"{HSAKD}, {words}") for words in (SLOWLY, LONGER)}
    return "".join(f" At {words}: {points(interval)}." for words, interval in others.items() if interval)


def one_picture(found: Found) -> str:
    """How CCD stands to what it is made of, and to its rivals, with what they keep in training."""
    stands = ("is ahead of", "is behind", "is not told apart from")
    named = {JDA: "KD on its views", MEAN: "a constant weight of the same total", DKD: "DKD on its views"}
    shown = {words: interval for arm, words in named.items() if (interval := found(CCD, arm))}
    text = [f"it {direction(interval, *stands)} {words}: {points(interval)}" for words, interval in shown.items()]
    if not text:
        return ""
    kept = [f"{run_cost(found.study.specs(arm)[0]).training_bytes / 1e6:.2f} MB" for arm in (CCD, BRANCHES)]
    lead, below = found(CCD, BRANCHES), found.untrained(BRANCHES)
    rival = "not trained enough to compare" if below else f"{points(lead)} from it" if lead else "not measured"
    return f"**CCD in one sentence**: {'; '.join(text)}. In training it keeps {kept[0]}, HSAKD ({rival}) {kept[1]}."


def another_student(found: Found) -> str:
    """Whether the gain depends on the student."""
    pairs = [contrast for contrast in found.study.contrasts if contrast.name.startswith("interaction")]
    shown = {contrast.text: interval for contrast in pairs if (interval := found.contrast(contrast.name))}
    return "; ".join(f"{text}: {points(interval)}" for text, interval in shown.items()) + "." if shown else ""


def view_bank(found: Found) -> str:
    """Stored views against fresh ones."""
    arms = [label for label in found.study.arms if label.startswith("V = ")]
    shown = {arm: interval for arm in arms if (interval := found(arm, "fresh views"))}
    if not shown:
        return ""
    lines = [f"{arm} {points(interval)}" for arm, interval in shown.items()]
    return f"Students of V stored sets of views against students of fresh ones: {'; '.join(lines)}."


#: Chapter -> its sentences. The others compare nothing.
FINDINGS: Mapping[str, Callable[[Found], str]] = {
    "00_tour": tour,
    "03_blind_teacher": blind_teacher,
    "04_augmented_teacher": augmented_teacher,
    "05_proportion": proportion,
    "06_few_shot": few_shot,
    "07_compatibility": compatibility,
    "08_cosine_confidence": cosine_confidence,
    "09_ccd_versus_hsakd": ccd_versus_hsakd,
    "14_view_bank": view_bank,
    "17_another_student": another_student,
    "19_rivals": rivals,
    "20_which_images": which_images,
    "21_resolution": resolution,
    "22_retrieval": retrieval,
    "23_thresholds": thresholds,
    "24_detection": detection,
    "25_translation": translation,
    "26_oriented": oriented,
    "27_masked": masked,
    "28_one_picture": one_picture,
}
#: The chapters whose findings a reader should take home.
TAKEN_HOME = ("03_blind_teacher", "08_cosine_confidence", "09_ccd_versus_hsakd")


def taken_home(store: Store, setting: Setting) -> str:
    """What a reader should take home at a setting, as a numbered list in Markdown: the head of each such finding."""
    studies = [create_study(name, setting) for name in TAKEN_HOME]
    heads = [finding(study, runs_frame(study, store)).split(PARAGRAPH)[0] for study in studies]
    return "\n".join(f"{number}. {head}" for number, head in enumerate(heads, 1))
