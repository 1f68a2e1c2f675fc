"""What chapters say they found follows the runs, whichever way they go."""

import math
import re

import numpy as np
import pytest

from kdlib.chapters import findings
from kdlib.chapters.registry import create_study
from kdlib.lab.store import Store
from kdlib.study import tables
from kdlib.study.setting import Setting
from kdlib.study.stats import Interval

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture
def told(invented):
    """told(chapter, {arm: mean top-1}): the finding after runs of all planned seeds, which differ a little."""

    def tell(chapter: str, values: dict[str, float], profile: str = "reference") -> str:
        study, store = create_study(chapter, Setting.of(profile, device="cpu")), Store(profile)
        for k, (arm, mean) in enumerate(values.items()):
            specs = study.specs(arm)
            for spec, noise in zip(specs, np.roll(np.linspace(-0.2, 0.2, len(specs)), k), strict=True):
                store.put(invented(spec, profile, top1=mean + float(noise)))
        return findings.finding(study, tables.runs_frame(study, Store(profile)))

    return tell


TEACHERS = {"weak2": 40, "no teacher": 33, "rot4": 35, "our teacher: weak2": 44}


@pytest.mark.parametrize(
    ("jda", "ours", "head"),
    [
        (43, 44, "**JDA helps with the public ResNet-56, not with ours**"),
        (43, 47, "**JDA helps with the public ResNet-56 and with ours**"),
        (37, 44, "**JDA harms with the public ResNet-56 and with ours**"),
        (40, 44, "**JDA neither helps nor harms, as far as can be told, with the public ResNet-56 and with ours**"),
    ],
)
def test_the_blind_teacher_says_whom_jda_helps(told, jda, ours, head):
    text = told("03_blind_teacher", TEACHERS | {"JDA": jda, "our teacher: JDA": ours})
    assert text.startswith(f"{head}: {jda - 40:+.2f} points [") or text.startswith(head) and jda == 40
    assert "quarter turns" not in text


@pytest.mark.parametrize(
    ("one", "words"), [(45, "is behind"), (41, "is also ahead of"), (43, "is not told apart from")]
)
def test_it_says_how_jda_stands_to_one_view(told, one, words):
    text = told("03_blind_teacher", TEACHERS | {"JDA": 43, "our teacher: JDA": 44, "one view": one})
    assert (
        f"with the others. At equal views it {words} one plain view of an image, with which a run passes over" in text
    )
    (points,) = re.findall(r"twice as often: (\S+) points \[", text)
    assert float(points) == pytest.approx(43 - one, abs=0.1)  # five of JDA's ten seeds


@pytest.mark.parametrize(
    ("alone", "words", "more"),
    [
        (30, "lose by it: -3", "+6"),
        (33, "are not shown to gain from it: ", "+3"),
        (35, "gain from it too: +2", "+1"),
    ],
)
def test_it_says_whether_jda_helps_without_a_teacher(told, alone, words, more):
    text = told("03_blind_teacher", TEACHERS | {"JDA": 43, "no teacher, JDA": alone})
    head, details = text.split(findings.PARAGRAPH)
    assert details.startswith(f"Students that learn from labels alone {words}") and "labels" not in head
    (teaching, end) = re.findall(r"those of the teacher gain (\S+) points \[\S+ \S+\] (.*?)\.", text)[0]
    assert float(teaching) == pytest.approx(float(more), abs=0.35) and end == "more than they do"


def test_it_says_when_turned_views_did_not_train(told):
    text = told("03_blind_teacher", TEACHERS | {"JDA": 43, "rot4": 20})
    assert text.startswith("**JDA helps with the public ResNet-56**: ")
    assert "did not train at this budget: -1" in text and text.endswith(
        "JDA against rotation is therefore not tested here."
    )


CCD = {"w = mean(w)": 41.5, "w = 1 (KD + JDA)": 40, "no teacher": 30, "DKD + JDA": 45}


@pytest.mark.parametrize(
    ("ccd", "mean", "head"),
    [
        (41.4, 41.5, "**The extra weight helps; the cosine does not**"),
        (44, 41.5, "**The extra weight helps; and so does the cosine**"),
        (44, 40, "**The extra weight is not shown to help; the cosine does**"),
        (38, 38, "**The extra weight harms; the cosine does not**"),
    ],
)
def test_the_cosine_is_credited_with_what_it_adds(told, ccd, mean, head):
    text = told("08_cosine_confidence", CCD | {"CCD": ccd, "w = mean(w)": mean})
    assert text.startswith(head)
    assert f"DKD on the same views, which needs no more storage, is ahead of CCD: +{int(45 - ccd - 0.3)}." in text


def test_hsakd_below_no_teacher_says_nothing_about_ccd(told):
    runs = {"CCD": 41, "HSAKD, frozen teacher": 29, "no teacher": 33}
    text = told("09_ccd_versus_hsakd", runs)
    assert text.startswith("**HSAKD did not train here**: -4.00 points [") and "this says nothing about CCD" in text
    assert text.endswith("In training CCD keeps 4.45 MB, HSAKD 16.66 MB.")
    for hsakd, head in ((36, "**CCD is ahead of HSAKD**"), (45, "**CCD is behind HSAKD**")):
        assert told("09_ccd_versus_hsakd", runs | {"HSAKD, frozen teacher": hsakd}).startswith(head)


def test_methods_that_did_not_train_are_named(told):
    rows = {"DKD": (40, 41), "SPKD": (40, 42), "HSAKD": (9, 23)}
    runs = {f"{m} + {v}": top1 for m, pair in rows.items() for v, top1 in zip(("weak2", "JDA"), pair, strict=True)}
    text = told("07_compatibility", runs | {"no teacher": 33})
    assert text.startswith("**JDA helps the methods that trained**: +1.50 points [")
    assert "rests on HSAKD + JDA and HSAKD + weak2, which did not train" in text
    assert told("07_compatibility", runs | {"no teacher": 5}).startswith("**What JDA adds to other methods**: +5.67")


def test_other_chapters_follow_their_differences(told):
    assert "changes top-1 by +7.00" in told("00_tour", {"no teacher": 33, "distilled": 40, "distilled, augmented": 42})
    students = {
        f"KD + {v}, {t}": 40 - (t == "JDA teacher") for v in ("weak2", "JDA") for t in ("plain teacher", "JDA teacher")
    }
    text = told("04_augmented_teacher", students | {"plain teacher": 50, "JDA teacher": 52})
    assert text.startswith("**JDA makes a better teacher, and worse students**: +2.00 points")
    assert "onsisten" not in text
    runs = students | {f"KD + {v}, JDA + consistency teacher": 41 for v in ("weak2", "JDA")} | {"no teacher": 30}
    text = told("04_augmented_teacher", runs | {"plain teacher": 50, "JDA teacher": 52})
    assert "\n\n**Consistency over the epochs of a JDA teacher helps its students**: +2.00 points [" in text
    assert told("05_proportion", {"p = 0": 38, "p = 0.3": 41, "p = 1": 36}).startswith("**Some augmentation is better")
    assert told("05_proportion", {"p = 1": 43}).startswith("**No inner optimum is shown**")
    few = {"10 %: weak2": 20, "10 %: JDA": 28, "5 %, equal epochs: weak2": 5, "5 %, equal epochs: JDA": 5}
    text = told("06_few_shot", few)
    assert text.startswith("**JDA helps where images are few**: +8.00 points")
    assert "leave it brings nothing that can be told from zero at 5 % (" in text and text.endswith("]).")
    text = told("06_few_shot", few | {"10 %, equal epochs: weak2": 6, "10 %, equal epochs: JDA": 9})
    assert "told from zero at 5 % (" in text and "]) and still helps at 10 % (+3.00 points [" in text
    holes = few | {"5 %: no teacher": 9, "5 %: attention drop": 12, "5 %: random drop": 10}
    text = told("06_few_shot", holes)
    assert "\n\n**A hole where the teacher looks is better than the same hole elsewhere**: +2.00 points [" in text
    text = told("06_few_shot", holes | {"5 %: random drop, anew": 15})
    assert "]. Against a place that is new in each view it is behind: -3." in text


def test_rivals_are_told_from_what_their_weight_does_alone(told):
    runs = {"no teacher": 33, "CRLD": 44, "CCD, CRLD's weight": 42, "TeKAP": 40, "TeKAP, no noise": 40}
    text = told("19_rivals", runs)
    assert text.startswith("**At equal weight for the teacher CRLD is better than CCD**: +2.00 points [")
    assert "**TeKAP's noise is not shown to do anything, against the same loss without it**: +0.00 points [" in text
    text = told("19_rivals", {"CRLD": 30, "TeKAP": 38})
    assert text.startswith("R1: CRLD - CCD, CRLD's weight is not tested: CRLD did not train. **TeKAP's noise harms")


def test_energy_is_told_from_chance(told):
    runs = {"no teacher": 33, "JDA where energy is high": 44, "JDA at random": 42}
    head = "**JDA on the half of which the teacher is least certain {} JDA on a random half**: {} points ["
    assert told("20_which_images", runs).startswith(head.format("is better than", "+2.00"))
    runs |= {"JDA where energy is high": 42, "T rises with energy": 40, "one T": 42}
    text = told("20_which_images", runs)
    assert text.startswith(head.format("is not told apart from", "+0.00"))
    assert "A temperature that rises with the energy harms: -2.00 points [" in text and text.endswith("one for all.")
    text = told("20_which_images", runs | {"DKD, T rises with energy": 45, "DKD, one T": 42})
    assert text.endswith("].") and "In the two parts of DKD it helps: +3.00 points [" in text
    text = told("20_which_images", {"JDA at random": 30})
    assert text.startswith("W1: JDA where energy is high - JDA at random is not tested: JDA at random did not train.")


def test_resolution_says_who_should_see_more_and_whom_jda_helps(told):
    runs = {"no teacher, small": 20, "no teacher": 33, "weak2, small, consistent": 30, "weak2, small, asymmetric": 32}
    head = "**A teacher that sees more than its small student {} one that sees the same**: {} points ["
    assert told("21_resolution", runs).startswith(head.format("is better than", "+2.00"))
    assert told("21_resolution", runs | {"weak2, small, consistent": 35}).startswith(
        head.format("is worse than", "-3.00")
    )
    runs |= {"JDA, small, asymmetric": 35, "weak2": 40, "JDA": 47}
    text = told("21_resolution", runs)
    assert "JDA before the averaging helps the small student: +3.00 points [" in text
    assert "less than the student of whole images (-3.9" in text
    assert "more than the student of whole images (+" in told("21_resolution", runs | {"JDA": 41})
    assert "fewer details" not in text
    text = told("21_resolution", runs | {"coarse views": 38})
    assert "For a student of whole images a second view of fewer details harms: -2." in text
    text = told(
        "21_resolution", {"weak2, small, asymmetric": 10, "no teacher, small": 20, "weak2, small, consistent": 30}
    )
    assert text.startswith("L1: weak2, small, asymmetric - weak2, small, consistent is not tested: ")


@pytest.mark.parametrize(
    ("checked", "words", "difference"),
    [(33, "finds more than", "+3"), (27, "finds less than", "-3"), (30, "is not told apart from", "+0")],
)
def test_retrieval_says_whether_the_check_pays_and_where(invented, checked, words, difference):
    study, store = create_study("22_retrieval", Setting.of("reference", device="cpu")), Store("reference")
    values = {"JDA, cluster check": checked, "JDA, no check": 30, "weak2, cluster check": 31, "weak2, no check": 31}
    for k, (arm, mean) in enumerate(values.items()):
        if k == 2:  # the interaction is not there yet
            head = f"**Under JDA a student of the cluster check {words} one of all views**: {difference}.00 points ["
            alone = findings.finding(study, tables.runs_frame(study, Store("reference")))
            assert alone.startswith(head) and alone.endswith("].")
        specs = study.measured(arm).values()
        for spec, noise in zip(specs, np.roll(np.linspace(-0.2, 0.2, len(specs)), k), strict=True):
            store.put(invented(spec, "reference", own_map=mean + float(noise)))
    text = findings.finding(study, tables.runs_frame(study, Store("reference")))
    apart = {"+3": "more", "-3": "less", "+0": "neither more nor less, as far as can be told,"}[difference]
    assert text.startswith(head)
    assert f"The check does {apart} under JDA than under two plain crops: {difference}.00 points [" in text


@pytest.mark.parametrize(
    ("jda", "words", "difference"),
    [(7, "is smaller after JDA", "-3"), (13, "is larger after JDA", "+3"), (10, "is not shown to change", "+0")],
)
def test_thresholds_are_told_from_auc(invented, jda, words, difference):
    study, store = create_study("23_thresholds", Setting.of("reference", device="cpu")), Store("reference")
    for k, (arm, loss) in enumerate({"weak2": 10, "JDA": jda, "CCD": jda + 1, "no teacher": None}.items()):
        noises = np.roll(np.linspace(-0.2, 0.2, len(study.specs(arm))), k)
        for spec, noise in zip(study.specs(arm), noises, strict=True):
            store.put(invented(spec, "reference", top1=40 if loss else 33))
            if loss:
                found = {c.metric: loss + float(noise) for c in study.contrasts} | {"auc": 90.0 - k + float(noise)}
                store.put(invented(study.measurements[f"{arm}, seed {spec.seed}"], "reference", **found))
    text = findings.finding(study, tables.runs_frame(study, Store("reference")))
    head = f"**What frozen thresholds lose on corrupted images, of F1, {words}**: {difference}.00 points ["
    assert text.startswith(head)
    assert "AUC on the same images falls: -1.00 points [" in text
    assert "CCD loses more than KD + JDA: +1.00 points [" in text and text.endswith("of F1.")


@pytest.mark.parametrize(
    ("spelt", "words", "difference"),
    [(14, "helps", "+2"), (10, "harms", "-2"), (12, "is not shown to help", "+0")],
)
def test_translation_says_whether_another_spelling_helps_and_whom(invented, spelt, words, difference):
    study, store = create_study("25_translation", Setting.of("reference", device="cpu")), Store("reference")
    values = {"plain, labels": 9, "BPE-dropout 0.1, labels": 9, "plain, KD": 12, "BPE-dropout 0.1, KD": spelt}
    for k, (arm, value) in enumerate((values | {"replacement 0.3, KD": 8}).items()):
        specs = study.measured(arm)
        for spec, noise in zip(specs.values(), np.roll(np.linspace(-0.2, 0.2, len(specs)), k), strict=True):
            store.put(invented(spec, "reference", bleu=value + float(noise)))
    text = findings.finding(study, tables.runs_frame(study, Store("reference")))
    assert text.startswith(f"**Another spelling of each sentence {words} distillation**: {difference}.00 points [")
    assert f"with the teacher than with labels alone: {difference}.00 points [" in text
    assert "The teacher itself helps: +3.00 points [" in text
    assert "Replacing 30 % of the pieces changes it by -4" in text


def test_nothing_is_said_without_runs_and_nothing_is_claimed_at_demonstrations(told):
    for chapter in findings.FINDINGS:
        assert told(chapter, {}) == "The question of this chapter is not measured at this profile."
    text = told("03_blind_teacher", {"JDA": 60, "weak2": 50}, "quick")
    assert (
        text.startswith("*A demonstration, from which nothing follows: a1: JDA - weak2 +10.00 points (two seeds)")
        and "helps" not in text
    )


def test_directions_need_the_whole_interval():
    for low, high, word in ((0.1, 2, "more"), (-2, -0.1, "less"), (-0.1, 2, "neither"), (-2, 0.1, "neither")):
        assert findings.direction(Interval((low + high) / 2, low, high, 5, 0.95), "more", "less", "neither") == word
    assert findings.points(Interval(2.776, 1.885, math.pi, 5, 0.95)) == "+2.78 points [+1.89, +3.14]"
