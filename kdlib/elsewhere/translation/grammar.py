"""A small grammar that makes pairs of sentences, English-like and German-like: for demonstrations, of no language.

What the pairs need beside words is agreement (articles and adjectives by gender, case and number, verbs by number),
word order (the verb second, participles, infinitives and verbs of side clauses last) and compound words, which are two
words on the one side and one on the other. Each pair follows from its part and its number alone.
"""

import random
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from kdlib.randomness import stream_seed

TRAIN, TEST = 3000, 300  # pairs
COMPOUND, ADJECTIVE, INDEFINITE, PLURAL, ADVERB, SIDE = 0.4, 0.4, 0.4, 0.3, 0.3, 0.1  # how often


class Noun(NamedTuple):
    """A noun of both languages: singular and plural, gender (m, f, n), and the form in front of another noun."""

    english: str
    english_plural: str
    gender: str
    german: str
    german_plural: str
    joint: str


class Verb(NamedTuple):
    """A verb of both languages: for one, for several, participle; and the German infinitive."""

    english: tuple[str, str, str]
    german: tuple[str, str, str]
    infinitive: str


class Phrase(NamedTuple):
    """A noun with its article and adjective, in both languages; plural: what its verb agrees with."""

    english: str
    german: str
    plural: bool


_NOUNS = """
garden gardens m Garten Gärten Garten|door doors f Tür Türen Tür|house houses n Haus Häuser Haus
school schools f Schule Schulen Schul|book books n Buch Bücher Buch|dog dogs m Hund Hunde Hunde
city cities f Stadt Städte Stadt|table tables m Tisch Tische Tisch|flower flowers f Blume Blumen Blumen
picture pictures n Bild Bilder Bilder|guard guards m Wächter Wächter Wächter|market markets m Markt Märkte Markt
lamp lamps f Lampe Lampen Lampen|child children n Kind Kinder Kinder|clock clocks f Uhr Uhren Uhren
bird birds m Vogel Vögel Vogel
"""
_VERBS = """
sees see seen sieht sehen gesehen|finds find found findet finden gefunden|shows show shown zeigt zeigen gezeigt
loves love loved liebt lieben geliebt|brings bring brought bringt bringen gebracht
hears hear heard hört hören gehört|seeks seek sought sucht suchen gesucht|asks ask asked fragt fragen gefragt
"""
_ADJECTIVES = "old alt|small klein|green grün|new neu|quiet still|young jung"
_ADVERBS = "today heute|now jetzt|often oft|here hier"
_MODALS = "can kann können|must muss müssen|should soll sollen"

THE = {("m", "who"): "der", ("m", "whom"): "den", "f": "die", "n": "das", "plural": "die"}
A = {("m", "who"): "ein", ("m", "whom"): "einen", "f": "eine", "n": "ein", "plural": "zwei"}
AFTER_THE = {("m", "who"): "e", ("m", "whom"): "en", "f": "e", "n": "e", "plural": "en"}
AFTER_A = {("m", "who"): "er", ("m", "whom"): "en", "f": "e", "n": "es", "plural": "e"}


@cache
def _table(text: str) -> tuple[tuple[str, ...], ...]:
    """The entries of a text, each as its words."""
    return tuple(tuple(entry.split()) for entry in text.strip().replace("\n", "|").split("|"))


@cache
def nouns() -> tuple[Noun, ...]:
    """All of them; any two make a compound."""
    return tuple(Noun(*row) for row in _table(_NOUNS))


@cache
def verbs() -> tuple[Verb, ...]:
    """All of them: each takes somebody who does it, and somebody or something to whom it is done."""
    return tuple(Verb((row[0], row[1], row[2]), (row[3], row[4], row[5]), row[4]) for row in _table(_VERBS))


def sentences(part: str) -> list[tuple[str, str]]:
    """The pairs of "train" or "test"; no source of the one is in the other, nor there twice."""
    pairs = {source: target for source, target in (sentence("train", i) for i in range(TRAIN))}
    if part == "train":
        return list(pairs.items())
    tested = {source: target for source, target in (sentence("test", i) for i in range(TEST)) if source not in pairs}
    return list(tested.items())


def sentence(part: str, index: int, seed: int = 0) -> tuple[str, str]:
    """One pair, (source, target).

    >>> sentence("train", 0) == sentence("train", 0) != sentence("test", 0)
    True
    """
    draw = random.Random(stream_seed(seed, f"grammar {part}", index))
    adverb = draw.choice(_table(_ADVERBS)) if draw.random() < ADVERB else None
    english, german = _main(draw, adverb)
    if draw.random() < SIDE:
        who, whom, verb = noun_phrase(draw, "who"), noun_phrase(draw, "whom"), draw.choice(verbs())
        english += f", because {who.english} {verb.english[who.plural]} {whom.english}"
        german += f", weil {who.german} {whom.german} {verb.german[who.plural]}"
    return f"{english[0].upper()}{english[1:]}.", f"{german[0].upper()}{german[1:]}."


def _main(draw: random.Random, adverb: Sequence[str] | None) -> tuple[str, str]:
    """A main clause: with a verb, with one that has happened, or with one that can, must or should."""
    who, whom, verb = noun_phrase(draw, "who"), noun_phrase(draw, "whom"), draw.choice(verbs())
    kind = draw.choice(("now", "done", "modal"))
    if kind == "now":
        english, second, last = verb.english[who.plural], verb.german[who.plural], ""
    elif kind == "done":
        english = f"{'have' if who.plural else 'has'} {verb.english[2]}"
        second, last = "haben" if who.plural else "hat", verb.german[2]
    else:
        modal, *finite = draw.choice(_table(_MODALS))
        english, second, last = f"{modal} {verb.english[1]}", finite[who.plural], verb.infinitive
    before = f"{adverb[0]} " if adverb else ""
    opening = f"{adverb[1]} {second} {who.german}" if adverb else f"{who.german} {second}"
    return f"{before}{who.english} {english} {whom.english}", f"{opening} {whom.german} {last}".rstrip()


def noun_phrase(draw: random.Random, case: str) -> Phrase:
    """A noun, or a compound of two; case: "who" acts, "whom" is acted on."""
    noun, plural, indefinite = draw.choice(nouns()), draw.random() < PLURAL, draw.random() < INDEFINITE
    english, german = (noun.english_plural, noun.german_plural) if plural else (noun.english, noun.german)
    if draw.random() < COMPOUND:
        first = draw.choice(nouns())
        english, german = f"{first.english} {english}", f"{first.joint}{german.lower()}"
    form = "plural" if plural else (noun.gender, case) if noun.gender == "m" else noun.gender
    articles, endings = (A, AFTER_A) if indefinite else (THE, AFTER_THE)
    words, there = ["two" if plural else "a"] if indefinite else ["the"], [articles[form]]
    if draw.random() < ADJECTIVE:
        adjective = draw.choice(_table(_ADJECTIVES))
        words.append(adjective[0])
        there.append(adjective[1] + endings[form])
    if words[0] == "a" and [*words, english][1][0] in "aeiou":
        words[0] = "an"
    return Phrase(" ".join([*words, english]), " ".join([*there, german]), plural)
