"""The synthetic creatures: same seed same text, readable length and grammar, varied wording, usable names."""

import re
from random import Random

import pytest

from tiny_base import synthetic
from tiny_base.synthetic import frames, gerund, join, lexicon, third, tidy, verb_phrase

WRONG_ARTICLE = re.compile(r"\ba (?=[aio]|e(?!u)|u(?!ni(?!n)|se))(?!one\b)|\ban (?=[bcdfgjklmnpqrstvwxyz])", re.I)
FORBIDDEN = re.compile(r"pok[eé]mon|\b(?:golem|ditto|electrode|persian|mew|abra|muk|seel|hypno)\b", re.I)


def _texts(seed: int, count: int) -> list[str]:
    """Write count descriptions, the registers in turn."""
    rng = Random(seed)
    registers = [synthetic.REGISTERS[index % 6] for index in range(count)]
    return [synthetic.describe(synthetic.sample_creature(rng), rng, register) for register in registers]


def _trigrams(text: str) -> set[tuple[str, ...]]:
    """Return the word trigrams of a text."""
    words = re.findall(r"[a-z-]+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))


def test_same_seed_gives_the_same_text() -> None:
    assert _texts(3, 60) == _texts(3, 60)
    assert _texts(3, 60) != _texts(4, 60)


def test_texts_have_readable_length_and_no_open_slots() -> None:
    texts = _texts(5, 600)
    assert sum(20 <= len(text.split()) <= 60 for text in texts) >= 570
    assert not [text for text in texts if re.search(r"[{}*%~|_]", text)]
    assert len(set(texts)) == 600


def test_articles_and_words() -> None:
    texts = _texts(7, 900)
    assert not [text for text in texts if WRONG_ARTICLE.search(text)]
    assert not [text for text in texts if FORBIDDEN.search(text)]
    assert all(text[0].isupper() or text[0].isdigit() for text in texts)


def test_six_registers_have_many_frames() -> None:
    assert len(synthetic.REGISTERS) == 6
    for register in synthetic.REGISTERS:
        groups = frames()[register]
        assert sum(len(rows) for name, rows in groups.items() if name != "plans") >= 25
        assert all(name in groups for plan in groups["plans"] for name in plan.split())


def test_riddles_speak_in_the_first_person() -> None:
    rng = Random(11)
    riddles = [synthetic.describe(synthetic.sample_creature(rng), rng, "riddle") for _ in range(200)]
    assert all(re.search(r"\b(I|me|my)\b", text) for text in riddles)
    assert not [text for text in riddles if re.search(r"\b(its|itself)\b|\bI (has|is)\b", text)]


def test_two_descriptions_share_meaning_not_wording() -> None:
    rng = Random(13)
    overlaps, shared = [], 0
    for _ in range(200):
        creature = synthetic.sample_creature(rng)
        texts = [synthetic.describe(creature, rng, register) for register in rng.sample(synthetic.REGISTERS, 2)]
        first, second = (_trigrams(text) for text in texts)
        overlaps.append(len(first & second) / len(first | second))
        likeness = [word.replace("-", " ") for word in lexicon()["likeness"][creature.likeness].say]
        shared += all(any(word in text.lower().replace("-", " ") for word in likeness) for text in texts)
    assert sum(overlaps) / len(overlaps) < 0.15
    assert shared >= 190


def test_facts_keep_their_order() -> None:
    rng = Random(17)
    keys = [[key for key, _ in synthetic.facts(synthetic.sample_creature(rng))] for _ in range(20)]
    assert all(row == ["body", "likeness", "colour", "element", "parts"] for row in keys)


def test_names_are_pronounceable_and_never_taken() -> None:
    rng = Random(23)
    names = [synthetic.invent_name(synthetic.sample_creature(rng), rng) for _ in range(400)]
    assert all(re.fullmatch(r"[A-Z][a-z]{3,10}", name) for name in names)
    assert len(set(names)) > 380
    taken = frozenset(name.lower() for name in names)
    again = Random(23)
    fresh = [synthetic.invent_name(synthetic.sample_creature(again), again, taken) for _ in range(400)]
    assert not taken & {name.lower() for name in fresh}


def test_korean_names_are_short_hangul() -> None:
    rng = Random(29)
    names = [synthetic.invent_korean_name(synthetic.sample_creature(rng), rng) for _ in range(400)]
    assert all(re.fullmatch(r"[가-힣]{2,5}", name) for name in names)


@pytest.mark.parametrize(
    ("verb", "singular", "participle"),
    [
        ("carry", "carries", "carrying"),
        ("lie", "lies", "lying"),
        ("squirt", "squirts", "squirting"),
        ("be", "is", "being"),
    ],
)
def test_inflection(verb: str, singular: str, participle: str) -> None:
    assert (third(verb), gerund(verb)) == (singular, participle)


def test_phrases_and_articles_are_put_right() -> None:
    assert verb_phrase("*spin and *sway to music", "g") == "spinning and swaying to music"
    assert tidy("a orange fox, . a one-eyed cat") == "An orange fox. A one-eyed cat"
    assert join(["a", "b", "c"]) == "a, b and c"
