"""Spellings: they say the same, and every draw follows from seed, epoch and pair."""

import random
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.elsewhere.translation import spelling
from kdlib.elsewhere.translation.parallel import GRAMMAR, load_text
from kdlib.elsewhere.translation.spelling import Speller, replaced, speller_of, spelt_anew


@pytest.fixture(scope="module")
def speller() -> Speller:
    return Speller.trained(load_text(GRAMMAR).train, 700)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text for pair in load_text(GRAMMAR).test[:60] for text in pair]


WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C"), exclude_characters="\u2581"),
                         min_size=1, max_size=8), min_size=1, max_size=5)  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(WORDS, st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_whatever_is_spelt_comes_back(words: list[str], p: float) -> None:
    made, text = _of_the_grammar(), " ".join(words)
    assert made.text(made.plain(text)) == text
    assert made.text(made.dropped(text, p, random.Random(5))) == text
    assert made.dropped(text, 0.0, random.Random(5)) == made.plain(text)


def _of_the_grammar() -> Speller:
    if not hasattr(_of_the_grammar, "made"):
        _of_the_grammar.made = Speller.trained(load_text(GRAMMAR).train[:500], 500)
    return _of_the_grammar.made


def test_without_dropout_the_spelling_is_that_of_sentencepiece(speller, texts) -> None:
    assert spelt_anew(speller, texts, 0.0, seed=3, epoch=1) == [speller.plain(text) for text in texts]


def test_dropout_leaves_merges_out_as_often_as_it_says(speller, texts) -> None:
    """A word of two characters that are merged into a piece stays one with probability 1 - p: 6 standard errors."""
    word = next(p for p in speller.ranks if len(p) == 2 and p[0] == spelling.BLANK)[1:]
    draws, p, count = random.Random(1), 0.3, 4000
    whole = sum(len(speller.dropped(word, p, draws)) == 1 for _ in range(count))
    assert abs(whole / count - (1 - p)) < 6 * (p * (1 - p) / count) ** 0.5
    characters = spelt_anew(speller, texts[:1], 1.0, 0, 0)[0]
    assert len(characters) == len(texts[0]) + 1
    lengths = [sum(map(len, spelt_anew(speller, texts, p, 0, 0))) for p in (0.0, 0.1, 0.5, 1.0)]
    assert lengths == sorted(lengths) and lengths[0] < lengths[1]


def test_draws_follow_from_seed_epoch_and_pair(speller, texts) -> None:
    one = spelt_anew(speller, texts, 0.3, 1, 2)
    assert spelt_anew(speller, texts[:9], 0.3, 1, 2) == one[:9]
    assert one != spelt_anew(speller, texts, 0.3, 1, 3) and one != spelt_anew(speller, texts, 0.3, 2, 2)


def test_another_process_draws_the_same() -> None:
    code = (
        "from kdlib.elsewhere.translation.spelling import *; from kdlib.elsewhere.translation.grammar import *; "
        "t = [sentence('train', i) for i in range(100)]; s = Speller.trained(t, 350); "
        "print(spelt_anew(s, [a for a, _ in t[:20]], .3, 1, 2))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with redirect_stdout(StringIO()) as here:
        exec(code, {})
    assert done.stdout == here.getvalue()


def test_the_vocabulary_is_made_from_training_text_only(isolated) -> None:
    train = [("the dog", "der Hund"), ("the dogs", "die Hunde")] * 3
    made = speller_of(train, 300)
    assert speller_of(train, 300) is made  # kept, and read once
    assert not {"z", "q", "Z"} & {c for piece in made.pieces[260:] for c in piece}
    assert made.text(made.plain("quiz Zaun")) == "quiz Zaun"
    assert speller_of([*train, ("quiz", "Zaun")], 300).pieces != made.pieces


def test_too_few_pieces_are_refused() -> None:
    train = [("".join(chr(0x4E00 + i) for i in range(200)), "b")]
    with pytest.raises(ValueError, match="pieces = 300 make no vocabulary of this text"):
        Speller.trained(train, 300)


def test_replaced_pieces_are_drawn_as_often_as_they_occur(speller) -> None:
    """A share of p is drawn anew, in proportion to the counts: 6 standard errors of each."""
    counts, p = torch.zeros(len(speller)), 0.3
    counts[[300, 301]] = torch.tensor([3.0, 1.0])
    plain = [[400] * 50 for _ in range(200)]
    mixed = replaced(plain, counts, p, seed=0, epoch=0)
    assert [len(ids) for ids in mixed] == [50] * 200 and replaced(plain, counts, p, 0, 0) == mixed
    flat = torch.tensor([i for ids in mixed for i in ids])
    share = (flat != 400).double().mean().item()
    assert abs(share - p) < 6 * (p * (1 - p) / 10_000) ** 0.5
    first = (flat == 300).sum().item() / (flat != 400).sum().item()
    assert abs(first - 0.75) < 6 * (0.75 * 0.25 / 3000) ** 0.5
    assert replaced(plain, counts, 0.0, 0, 0) == plain and replaced(plain, counts, p, 0, 1) != mixed
