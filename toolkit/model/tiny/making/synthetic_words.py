"""Loads the word lists of the synthetic text and inflects English words."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

FILES = ("lexicon.toml", "lexicon_likeness.toml", "lexicon_parts.toml", "lexicon_life.toml")
FRAMES = "lexicon_frames.toml"
IRREGULAR = {
    "have": ("has", "having"),
    "be": ("is", "being"),
    "do": ("does", "doing"),
    "go": ("goes", "going"),
}
DOUBLED = re.compile(r"[^aeiou]*(qu)?[aeiou][^aeiouwxy]|forget|prefer|travel|tunnel")


@dataclass(frozen=True)
class Entry:
    """One value of an attribute: its wordings, its tags and its name roots."""

    name: str
    say: tuple[str, ...]
    extra: dict[str, tuple[str, ...]]

    def get(self, key: str) -> tuple[str, ...]:
        """Return a further list of the entry, empty where there is none."""
        return self.extra.get(key, ())


def _read(name: str) -> dict[str, Any]:
    """Parse one word list beside this module."""
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _entry(name: str, row: dict[str, str]) -> Entry:
    """Split the packed strings of one row."""
    phrases = {key: tuple(text.split("|")) for key, text in row.items() if key in {"say", "adj", "vp", "cmp", "exact"}}
    words = {key: tuple(text.split()) for key, text in row.items() if key not in phrases}
    return Entry(name, phrases.pop("say"), phrases | words)


@cache
def lexicon() -> dict[str, dict[str, Entry]]:
    """Return every attribute's entries by attribute and name."""
    tables = [_read(name) for name in FILES]
    return {key: {n: _entry(n, row) for n, row in rows.items()} for table in tables for key, rows in table.items()}


@cache
def frames() -> dict[str, dict[str, list[str]]]:
    """Return the sentence frames by register and group."""
    return _read(FRAMES)


def weighted(rng: Random, entries: list[Entry], tags: set[str], favoured: tuple[str, ...] = ()) -> Entry:
    """Draw an entry, those sharing tags far more often; entries lacking a needed trait never."""
    pool = [entry for entry in entries if not entry.get("n") or tags & set(entry.get("n"))]
    weights = [0.02 + len(tags & set(entry.get("t"))) ** 3 + 12 * (entry.name in favoured) for entry in pool]
    return rng.choices(pool, weights)[0]


def third(verb: str) -> str:
    """Return the third person singular of a verb."""
    if verb in IRREGULAR:
        return IRREGULAR[verb][0]
    if re.search(r"(s|x|z|ch|sh)$", verb):
        return verb + "es"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + "s"


def gerund(verb: str) -> str:
    """Return the -ing form of a verb."""
    if verb in IRREGULAR:
        return IRREGULAR[verb][1]
    if DOUBLED.fullmatch(verb):
        return verb + verb[-1] + "ing"
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return verb + "ing"


def _form(verb: str, form: str) -> str:
    """Inflect one verb: s third person, i first person, g gerund, b base."""
    if form == "s":
        return third(verb)
    if form == "g":
        return gerund(verb)
    return "am" if form == "i" and verb == "be" else verb


def verb_phrase(phrase: str, form: str) -> str:
    """Inflect a verb phrase whose verbs are starred, or else its first word."""
    if "*" not in phrase:
        phrase = "*" + phrase
    return re.sub(r"\*([a-z]+)", lambda match: _form(match[1], form), phrase)


def join(items: list[str]) -> str:
    """Join noun phrases with commas and a final "and"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _article(match: re.Match[str]) -> str:
    """Choose a or an by the sound of the next word."""
    word = match[2].lower()
    vowel = word[0] in "aeiou" and not re.match(r"(one|uni(?!n)|eu|use|usu)", word)
    silent = word.startswith(("hour", "honest", "heir"))
    return ("An" if match[1][0] == "A" else "an")[: 2 if vowel or silent else 1] + " " + match[2]


def tidy(text: str) -> str:
    """Put right articles, doubled punctuation, spaces and capitals."""
    text = re.sub(r"\b(an?|An?) (?=\w)(\S+)", _article, text)
    text = re.sub(r",\s*([,.;:!?])", r"\1", re.sub(r"\s+", " ", text)).strip()
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)
