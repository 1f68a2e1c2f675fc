"""What the chapters on related systems found, in a few sentences that are computed from their runs."""

from kdlib.chapters.detection import REPAIR, TEACHING
from kdlib.chapters.few_shot import DROP, smallest
from kdlib.chapters.masked import ALL, ALONE
from kdlib.chapters.masked import PLAIN as UNMASKED
from kdlib.chapters.oriented import HELPS
from kdlib.chapters.oriented import INTERACTION as TURNED
from kdlib.chapters.resolution import COARSE, label
from kdlib.chapters.retrieval import INTERACTION
from kdlib.chapters.thresholds import LOSS
from kdlib.chapters.translation import INTERACTION as SPELLING
from kdlib.chapters.translation import KD, LABELS, MUCH, PLAIN
from kdlib.chapters.translation import label as translated
from kdlib.chapters.which_images import DKD_ONE, DKD_RISING, RULES
from kdlib.chapters.wording import Found, direction, points


def rivals(found: Found) -> str:
    """Both primary contrasts, where all of their arms trained."""
    alike = ("is better than", "is worse than", "is not told apart from")
    noise = ("helps", "harms", "is not shown to do anything")
    text = [
        found.decided("R1", "At equal weight for the teacher CRLD {} CCD", alike),
        found.decided("R2", "TeKAP's noise {}, against the same loss without it", noise),
    ]
    return " ".join(filter(None, text))


def which_images(found: Found) -> str:
    """Whether it matters which images are augmented, and whether energy tells a good temperature."""
    words = ("is better than", "is worse than", "is not told apart from")
    text = found.decided("W1", "JDA on the half of which the teacher is least certain {} JDA on a random half", words)
    rule, dkd = found(RULES["rising"], RULES["constant"]), found(DKD_RISING, DKD_ONE)
    gains = ("helps", "harms", "is not shown to do anything")
    if rule:
        text += (
            f" A temperature that rises with the energy {direction(rule, *gains)}: {points(rule)} against one for all."
        )
    if dkd:
        text += f" In the two parts of DKD it {direction(dkd, *gains)}: {points(dkd)}."
    return text.strip()


def attention(found: Found) -> str:
    """Whether a view is better made where the teacher looks, and whether a place that is new each time does more."""
    words = ("is better than", "is worse than", "is not told apart from")
    text = found.decided("P1", "A hole where the teacher looks {} the same hole elsewhere", words)
    group = smallest(found.study.setting)
    anew = found(group + DROP, f"{group}random drop, anew")
    if not text or not anew:
        return text
    stands = direction(anew, "is ahead", "is behind", "is not told apart")
    return f"{text} Against a place that is new in each view it {stands}: {points(anew)}."


def resolution(found: Found) -> str:
    """Whether the teacher should see more than its student, and whether JDA helps both resolutions alike."""
    words = ("is better than", "is worse than", "is not told apart from")
    text = found.decided("L1", "A teacher that sees more than its small student {} one that sees the same", words)
    gain = found(label("JDA", "small", "asymmetric"), label("weak2", "small", "asymmetric"))
    more = found.contrast("JDA x resolution, small, asymmetric")
    if not gain or not more:
        return text
    helps = direction(gain, "helps", "harms", "is not shown to help")
    apart = direction(more, "more than", "less than", "no more and no less, as far as can be told, than")
    alike = f"JDA before the averaging {helps} the small student: {points(gain)}, {apart} the student of whole images"
    text = f"{text} {alike} ({points(more)}).".strip()
    coarse = found(COARSE, "weak2")
    if not coarse:
        return text
    does = direction(coarse, "helps", "harms", "is not shown to help")
    return f"{text} For a student of whole images a second view of fewer details {does}: {points(coarse)}."


def retrieval(found: Found) -> str:
    """Whether it pays to drop augmented views that leave their cluster, and whether more so where views are strong."""
    words = ("finds more than", "finds less than", "is not told apart from")
    text = found.decided("H1", "Under JDA a student of the cluster check {} one of all views", words)
    more = found.contrast(INTERACTION)
    if not more:
        return text
    apart = direction(more, "more", "less", "neither more nor less, as far as can be told,")
    return f"{text} The check does {apart} under JDA than under two plain crops: {points(more)} of mAP.".strip()


def thresholds(found: Found) -> str:
    """Whether frozen thresholds lose less after JDA, what AUC says of the same images, and what CCD adds."""
    words = ("is larger after JDA", "is smaller after JDA", "is not shown to change")
    text = found.decided("K1", "What frozen thresholds lose on corrupted images, of F1, {}", words)
    area, ccd = found.contrast("AUC: JDA - weak2"), found.contrast(f"{LOSS}: CCD - JDA")
    if not area or not ccd:
        return text
    seen = direction(area, "rises", "falls", "is not shown to change")
    more = direction(ccd, "loses more than", "loses less than", "is not told apart from")
    return f"{text} AUC on the same images {seen}: {points(area)}. CCD {more} KD + JDA: {points(ccd)} of F1."


def detection(found: Found) -> str:
    """Whether its teacher helps a detector at all, whether JDA helps a taught one, and whether the teacher repairs what
    geometric views do to boxes."""
    text = []
    if taught := found.contrast(TEACHING):
        does = direction(taught, "helps", "harms", "is not shown to change")
        text.append(f"**On plain crops KD {does} a detector**, against none: {points(taught)} of AP50.")
    better = ("is better than", "is worse than", "is not told apart from")
    shifted = ("is larger after JDA", "is smaller after JDA", "is not shown to be another after JDA")
    text += [
        found.decided("D1", "Under KD a detector of JDA {} one of two plain crops", better),
        found.decided("D2", "On geometric views a detector of labels and KD {} one of labels alone", better),
        found.decided("K2", "What a threshold that was chosen at home loses at other places, of F1, {}", shifted),
    ]
    if more := found.contrast(REPAIR):
        adds = direction(more, "more", "less", "neither more nor less, as far as can be told,")
        text.append(f"The teacher adds {adds} there than on plain views: {points(more)} of AP75.")
    return " ".join(filter(None, text))


def translation(found: Found) -> str:
    """Whether another spelling helps a student that is taught, whether more so than one of labels alone, and whether a
    teacher helps at all."""
    words = ("helps", "harms", "is not shown to help")
    text = found.decided("M1", "Another spelling of each sentence {} distillation", words)
    plain, labels = translated(PLAIN, KD), translated(PLAIN, LABELS)
    more, taught = found.contrast(SPELLING), found.contrast(f"{plain} - {labels}")
    if not more or not taught:
        return text
    apart = direction(more, "more", "less", "neither more nor less, as far as can be told,")
    gains = direction(taught, "helps", "harms", "is not shown to help")
    said = f"It does {apart} with the teacher than with labels alone: {points(more)} of BLEU."
    much = found.contrast(f"{translated(MUCH, KD)} - {plain}")
    replaced = f" Replacing 30 % of the pieces changes it by {points(much)}." if much else ""
    return f"{text} {said} The teacher itself {gains}: {points(taught)} of BLEU.{replaced}".strip()


def masked(found: Found) -> str:
    """Whether a masked view helps the distillation of features, where from, and whether features help at all."""
    words = ("helps", "harms", "is not shown to help")
    text = found.decided("V1", "Masking half of the student's view {} the distillation of features", words)
    view, taught = found(ALL, UNMASKED), found(UNMASKED, ALONE)
    if not text or not view or not taught:
        return text
    alike = direction(view, "helps too", "harms", "is not shown to do anything")
    gains = direction(taught, "helps", "harms", "is not shown to help")
    said = f"With the same tokens taught as without a mask it {alike}: {points(view)}."
    return f"{text} {said} Distillation itself {gains}: {points(taught)} against fine-tuning alone."


def oriented(found: Found) -> str:
    """Whether any-angle views help a student of a teacher that never saw those angles, and what that teacher does on
    them."""
    better = ("is better than", "is worse than", "is not told apart from")
    text = found.decided(
        "O1", "With a teacher that never saw turned objects, a student of any angle {} one of two plain crops", better
    )
    helps, more = found.contrast(HELPS), found.contrast(TURNED)
    if not helps or not more:
        return text
    does = direction(helps, "helps", "harms", "is not shown to do anything")
    apart = direction(more, "more than", "less than", "which is not told apart from what it does")
    said = f"On turned views the blind teacher {does} beside the labels: {points(helps)} of AP50, {apart} on plain ones"
    return f"{text} {said} ({points(more)}).".strip()
