"""The paragraphs of the claims: they say what the judgements are, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from kdlib import findings, tables
from kdlib.claims import CLAIMS, CONTRASTS, Judgement
from kdlib.stats import PRIMARY_LEVEL, Verdict, mean_interval, power, verdict
from kdlib.studies import Setting

NOISE = np.array([-1, -0.5, 0, 0.5, 1])
GAIN, LOSS, OPEN = 3 + NOISE / 10, NOISE / 10 - 2, 0.5 + NOISE
PAPER = {"paper": {claim.name: "not measured" for claim in CLAIMS}}


def judgement(name: str, differences: np.ndarray, planned: int = 5, cheaper: bool | None = None) -> Judgement:
    interval = mean_interval(differences, PRIMARY_LEVEL)
    word = verdict(interval, planned, "no better" if name == "b2" else "better")
    return Judgement(name, CONTRASTS[name][0], CONTRASTS[name][1], tuple(differences), interval, word, cheaper)


def told(values: dict[str, np.ndarray] | None = None, verdicts: bool = True, elsewhere=PAPER, **fields):
    values = values or {}
    judged = [judgement(name, values.get(name, np.array([])), **fields) for name in CONTRASTS]
    return findings.paragraphs(judged, verdicts, elsewhere)


def test_each_claim_has_its_own_and_begins_with_its_words():
    texts = told()
    assert list(texts) == [claim.name for claim in CLAIMS]
    for claim in CLAIMS:
        assert texts[claim.name] == f"*{claim.says}* **Not measured.** What is missing is listed below."


def test_the_page_has_all_of_them_and_looks_at_the_other_profiles(isolated):
    setting = Setting.of("reference", device="cpu")
    judged = [judgement(name, GAIN if name == "d" else np.array([])) for name in CONTRASTS]
    shown = findings.markdown(judged, setting).split("\n\n")
    assert [text.split(" ")[0] for text in shown] == [f"**({claim.name})**" for claim in CLAIMS]
    assert shown[3].endswith("At the scale of profile paper it is not measured.") and "reference" not in shown[3]


def test_a_claim_that_holds():
    text = told({"d": GAIN})["d"]
    low, high = mean_interval(GAIN, PRIMARY_LEVEL).low, mean_interval(GAIN, PRIMARY_LEVEL).high
    assert "**Supported.**" in text
    assert (
        f"+3.00 points (99.4 % interval [{low:+.2f}, {high:+.2f}], n = 5), all of the interval is above zero." in text
    )
    assert "With the teacher and at the budget of this profile the claim holds." in text
    assert text.endswith("At the scale of profile paper it is not measured.")


def test_a_claim_that_fails_says_which_part():
    text = told({"a1": LOSS, "a2": GAIN})["a"]
    assert "**Contradicted.**" in text and "all of the interval is below zero" in text
    assert "At this scale the claim fails: a1 goes against it; a2 alone would support it." in text
    both = told({"c1": LOSS, "c2": LOSS})["c"]
    assert "c1 and c2 go against it." in both
    small = told({"d": NOISE / 20})["d"]
    assert "zero is inside, and a gain of 0.3 points is not" in small and "the claim fails." in small


def test_students_that_are_better_contradict_the_claim_that_they_are_not():
    assert "b2 goes against it; b1 alone would support it." in told({"b1": GAIN, "b2": GAIN})["b"]
    assert "With the teacher and at the budget of this profile the claim holds." in told({"b1": GAIN, "b2": LOSS})["b"]


def test_an_open_claim_says_how_many_seeds_would_do():
    text = told({"e": OPEN})["e"]
    spread = np.std(OPEN, ddof=1)
    assert "**Inconclusive.**" in text and "zero is inside, and so are gains above 0.3 points" in text
    assert "neither confirmed nor refuted." in text
    number = int(text.split("four of five studies with ")[1].split(" seeds")[0])
    assert power(0.5, spread, number) >= 0.8 > power(0.5, spread, number - 1)
    assert f"vary by {spread:.2f} points" in text and text.count("against the 5 here") == 1
    hopeless = told({"e": 0.1 + 5 * NOISE})["e"]  # a smaller difference than the margin is not looked for
    assert "if the true one is +0.30 points, four of five studies with more than 200 seeds would find all" in hopeless


def test_where_no_gain_was_seen_seeds_would_tell_it_from_the_margin():
    """The number of seeds puts the upper end below the margin in four of five studies, by simulation."""
    differences = -0.2 + 2 * NOISE
    text = told({"e": differences})["e"]
    spread, number = np.std(differences, ddof=1), int(text.split("studies with ")[1].split(" seeds")[0])
    assert "**Inconclusive.**" in text and "if the true one is -0.20 points" in text
    assert "would find all of the interval below the margin of 0.3" in text
    draws = np.random.default_rng(7).normal(-0.2, spread, (4000, number))
    high = draws.mean(1) + t.ppf(1 - (1 - PRIMARY_LEVEL) / 2, number - 1) * draws.std(1, ddof=1) / np.sqrt(number)
    # at least 0.8, and whole seeds round up; four standard errors are 0.025
    assert np.mean(high < 0.3) == pytest.approx(0.82, abs=0.05)


def test_a_claim_that_is_half_measured_claims_nothing():
    text = told({"a1": GAIN})["a"]
    assert "**Not measured.**" in text
    assert (
        "all runs are there: runs of a2 are missing; a1 alone would support it. What is missing is listed below."
        in text
    )
    assert "a2 (" not in text
    part = told({"d": GAIN[:3]})["d"]  # three of five seeds: an estimate, and no word on where it lies
    assert "+2.95 points" in part and "n = 3)." in part and "**Not measured.**" in part and "above zero" not in part
    assert part.endswith("There is no verdict before all runs are there. What is missing is listed below.")


def test_bytes_are_part_of_what_was_found():
    assert "above zero, and it needs fewer bytes." in told({"f": GAIN}, cheaper=True)["CCD"]
    assert "above zero, but it does not need fewer bytes." in told({"f": GAIN}, cheaper=False)["CCD"]


@pytest.mark.parametrize("differences", [GAIN, LOSS, OPEN])
def test_a_demonstration_shows_numbers_and_judges_nothing(differences):
    text = told({"d": differences}, verdicts=False)["d"]
    assert text.endswith("n = 5).") and f"**{tables.NO_VERDICT.capitalize()}.**" in text
    assert not any(word.value in text.lower() for word in Verdict if word is not Verdict.NOT_MEASURED)


def test_too_few_seeds_are_said():
    text = told({"d": GAIN[:3]}, planned=3)["d"]
    assert "**Not enough seeds.**" in text and "Too few seeds were planned for a verdict." in text


@pytest.mark.parametrize(
    ("evenly", "at_random", "said"),
    [
        (GAIN, GAIN, "the cosine earns its gain: CCD beats even weights and random ones."),
        (GAIN, OPEN, "nothing can be credited to the cosine here: CCD beats even weights, but not random ones."),
        (OPEN, OPEN, "nothing can be credited to the cosine here: CCD beats neither even weights nor random ones."),
        (OPEN, LOSS, "CCD beats neither even weights nor random ones; it is behind random ones."),
        (GAIN, GAIN[:2], "not measured, or with too few seeds to tell."),
        (np.array([]), GAIN, "not measured, or with too few seeds to tell."),
    ],
)
def test_the_cosine_is_credited_only_if_it_beats_every_control(evenly, at_random, said):
    intervals = {"even weights": mean_interval(evenly), "random ones": mean_interval(at_random)}
    assert findings.credited(intervals).endswith(said)


def test_a_mean_says_what_its_parts_are():
    parts = {("A + JDA", "A + weak2"): 9.0, ("B + JDA", "B + weak2"): -3.0}
    judged = [replace(judgement(name, GAIN), parts=parts if name == "e" else {}) for name in CONTRASTS]
    texts = findings.paragraphs(judged, True, PAPER)
    assert "; it is the mean of +9.00 (A + JDA against A + weak2), -3.00 (B + JDA against B + weak2)." in texts["e"]
    assert not any("the mean of A" in text for name, text in texts.items() if name != "e")
