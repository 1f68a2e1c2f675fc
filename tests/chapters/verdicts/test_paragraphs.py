"""A paragraph for each claim follows from the verdicts on its contrasts."""

import re

import pytest

from kdlib.chapters.claims import CLAIMS, claim_word, judge
from kdlib.chapters.verdicts.paragraphs import AGAINST, paragraphs
from kdlib.chapters.verdicts.reach import needs_of
from kdlib.chapters.wording import points
from kdlib.lab.store import Store
from kdlib.study.setting import Setting
from kdlib.study.stats import Verdict


def test_each_published_claim_has_its_numbers_its_word_and_what_is_lacking(tmp_path):
    setting, store = Setting.of("reference", device="cpu"), Store("reference", runs=tmp_path)
    judgements = {j.name: j for j in judge(store, setting)}
    needs = needs_of(store, setting)
    texts = paragraphs(store, setting).split("\n\n")
    for claim, text in zip(CLAIMS, texts, strict=True):
        mine = [judgements[name] for name in claim.contrasts]
        assert text.startswith(f"**{claim.name}: {claim_word(claim, mine, True)}.** The abstract says")
        assert claim.says in text and "profile reference" in text
        for j in mine:
            assert f"{j.title}, {points(j.interval)} ({j.judged.word})" in text
            lacking = re.search(rf"for {j.name}, (.*?)(?:; for|\.$)", text.split("settle it: ")[1])[1]
            if j.judged.verdict is Verdict.NOT_TESTED:
                assert all(arm in lacking for arm in j.judged.below) and "is left behind" in lacking
            if j.judged.verdict is Verdict.INCONCLUSIVE:
                assert lacking.startswith(f"{needs[j.name].seeds} seeds")
            if j.judged.teacher:
                assert lacking.startswith("another teacher")


def test_without_runs_every_claim_lacks_its_runs(isolated):
    texts = paragraphs(Store("paper"), Setting.of("paper", device="cpu")).split("\n\n")
    assert len(texts) == len(CLAIMS)
    for claim, text in zip(CLAIMS, texts, strict=True):
        assert "Nothing can be said of it yet." in text and text.count("its runs") == len(claim.contrasts)


@pytest.mark.usefixtures("isolated")
def test_a_demonstration_says_nothing_of_the_claims():
    text = paragraphs(Store("quick"), Setting.of("quick", device="cpu"))
    assert text == "*No verdict: a demonstration, or seeds of your own.*"


def test_every_verdict_has_its_words():
    assert set(AGAINST) == set(Verdict)
