"""Parallel text: the grammar, files of the reader's own, and what is said of bad ones."""

import re

import pytest

from kdlib import choices
from kdlib.elsewhere.translation import grammar
from kdlib.elsewhere.translation.parallel import (
    FETCHED,
    FILES,
    GRAMMAR,
    check_name,
    load_text,
    locate,
    read_pairs,
    text_hash,
)


def test_pairs_of_the_grammar_follow_from_part_and_number_alone() -> None:
    text = load_text(GRAMMAR)
    assert 2900 < len(text.train) <= grammar.TRAIN and 200 < len(text.test) <= grammar.TEST
    assert text.train[0] == grammar.sentence("train", 0) and text.test[-1] == grammar.sentence("test", 299)
    assert not {source for source, _ in text.train} & {source for source, _ in text.test}
    assert len({source for source, _ in text.train}) == len(text.train)
    assert text_hash(text.train) == text_hash(grammar.sentences("train")) and len(text.fingerprint) == 16


ARTICLES = {("m", "who"): "Der", ("f", "who"): "Die", ("n", "who"): "Das"}


def test_sentences_agree_and_verbs_stand_where_they_should() -> None:
    """Of 3,000: a plain main clause begins with its noun, or with an adverb and then the verb; "weil" sends it last."""
    genders = {noun.german: noun.gender for noun in grammar.nouns()}
    finite = {form for verb in grammar.verbs() for form in verb.german[:2]} | {"hat", "haben"}
    finite |= {"kann", "können", "muss", "müssen", "soll", "sollen"}
    seen = {"article": 0, "adverb": 0, "side": 0}
    for _, target in load_text(GRAMMAR).train:
        main, _, side = target.rstrip(".").partition(", weil ")
        words = main.split()
        if words[0] in ("Heute", "Jetzt", "Oft", "Hier"):
            assert words[1] in finite
            seen["adverb"] += 1
        elif words[0] in ARTICLES.values() and words[1] in genders:
            gender = genders[words[1]]
            plural = any(noun.german_plural == words[1] for noun in grammar.nouns())
            assert words[0] == ARTICLES[gender, "who"] or plural
            seen["article"] += 1
        if side:
            assert side.split()[-1] in finite
            seen["side"] += 1
        for article, gender in re.findall(r"\b(den|einen) \w+en ([A-ZÄÖÜ]\w+)", target):
            assert genders.get(gender, "m") == "m", (article, target)
    assert min(seen.values()) > 100


def test_compounds_are_two_words_on_one_side_and_one_on_the_other() -> None:
    text = dict(load_text(GRAMMAR).train)
    compounds = [source for source in text if re.search(r"\bgarden doors?\b", source)]
    assert compounds and all(re.search(r"Gartentür(en)?\b", text[source]) for source in compounds)


def test_text_of_two_files_is_read_line_by_line(tmp_path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("the  dog \nthe cat\n", encoding="utf-8")
    target.write_text("der Hund\ndie\u00a0Katze", encoding="utf-8")
    assert read_pairs(source, target) == [("the dog", "der Hund"), ("the cat", "die Katze")]


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (b"one\ntwo\n", b"eins\n", "a has 2 lines and .*b 1; allowed are files of equally many"),
        (b"", b"eins\n", "a holds no sentence; allowed is a sentence in each line"),
        (b"\n\n", b"eins\n", "a holds no sentence"),
        (b"one\n", "zw\xf6lf\n".encode("latin-1"), "b is not UTF-8 at byte 2: save it as UTF-8"),
        (b"one\n\ntwo\n", b"eins\nzwei\ndrei\n", "a has an empty line, number 2; allowed is a sentence"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, source, target, said) -> None:
    (tmp_path / "a").write_bytes(source)
    (tmp_path / "b").write_bytes(target)
    with pytest.raises(ValueError, match=said) as refusal:
        read_pairs(tmp_path / "a", tmp_path / "b")
    assert "\n" not in str(refusal.value)


def test_a_folder_of_the_readers_own_is_read_again_when_it_changes(tmp_path) -> None:
    name = f"pairs:{tmp_path}"
    with pytest.raises(FileNotFoundError, match=r"has no train.source; allowed is a folder with train.source, "):
        load_text(name)
    for file in FILES:
        (tmp_path / file).write_text(f"{file} one\n{file} two\n")
    first = load_text(name)
    assert first.train == (("train.source one", "train.target one"), ("train.source two", "train.target two"))
    (tmp_path / "test.target").write_text("other\nwords\n")
    assert load_text(name).test[0] == ("test.source one", "other") and load_text(name).fingerprint != first.fingerprint


def test_what_is_not_fetched_says_how(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path))
    for name, command in (("help-texts", "fetch help-texts`"), ("manuals", "fetch help-texts manuals`")):
        with pytest.raises(FileNotFoundError, match=f"data = '{name}' is missing.*python -m kdlib {command}"):
            locate(name)
    assert FETCHED == choices.TEXTS


@pytest.mark.parametrize(
    ("name", "said"),
    [("cifar100", "is unknown; allowed are grammar, help-texts, manuals and pairs:FOLDER"), ("pairs:here", "root")],
)
def test_names_that_no_text_can_have_are_refused(name, said) -> None:
    with pytest.raises(ValueError, match=said):
        check_name(name)
