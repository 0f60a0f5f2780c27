"""Invents creature names, English and Korean, from clipped word roots of a creature's attributes."""

import re
from random import Random

from toolkit.model.tiny.making.synthetic_creature import Creature
from toolkit.model.tiny.making.synthetic_words import Entry, frames, lexicon

VOWELS = "aeiouy"
UGLY = re.compile(
    r"[^aeiouy]{4}|[aeiou]{3}|(.)\1\1|^([^aeiouy])\2|[^aeiouylrnm][^aeiouylrnmhstck][^aeiouylrwh]|q[^u]|[jvq]$"
)
HARD_START = re.compile(
    r"^(?!sh|ch|th|wh|ph|st|sp|sc|sk|sl|sm|sn|sw|[bcdfgkpt][lr]|tw|gn|kn|qu|scr|spr|str)[^aeiouy]{2}"
)
HARD_END = re.compile(r"[^aeiouylrnms][^aeiouyhskt]$|[rl][rln]$|[nm][rl]$")


def _entries(creature: Creature) -> list[Entry]:
    """Return the attributes that lend their roots, the telling ones more than once."""
    words = lexicon()
    parts = [words["part"][part.name] for part in creature.parts]
    likeness, element = words["likeness"][creature.likeness], words["element"][creature.element]
    colour, size = words["colour"][creature.colour], words["size"][creature.size]
    return [
        likeness,
        likeness,
        likeness,
        element,
        element,
        *parts,
        *parts,
        words["body"][creature.body],
        colour,
        size,
    ]


def _fuse(left: str, right: str) -> str:
    """Join two roots, letting a shared letter overlap and a vowel clash vanish."""
    for length in (3, 2, 1):
        if left[-length:] == right[:length]:
            return left + right[length:]
    if left[-1] in VOWELS and right[0] in VOWELS:
        return left[:-1] + right
    return left + right


def _clip(root: str, rng: Random) -> str:
    """Shorten a root now and then, keeping its first vowel."""
    keep = rng.randint(3, 5)
    clipped = root[:keep]
    return clipped if any(letter in VOWELS for letter in clipped) else root


def _ending(rng: Random) -> str:
    """Return a name ending."""
    return rng.choice(frames()["endings"]["english"])


def _candidate(creature: Creature, rng: Random) -> str:
    """Build one name: two roots, a root and an ending, or two clipped roots and an ending."""
    first, second = rng.sample(_entries(creature), 2)
    left, right = rng.choice(first.get("en")), rng.choice(second.get("en"))
    if left == right or rng.random() < 0.3:
        return _fuse(left, _ending(rng))
    if rng.random() < 0.72:
        return _fuse(_clip(left, rng), right)
    return _fuse(_fuse(_clip(left, rng)[:3], _clip(right, rng)[:4]), _ending(rng))


def _sounds_good(name: str) -> bool:
    """Tell whether a name has 4 to 11 letters and can be said aloud."""
    return 4 <= len(name) <= 11 and not any(rule.search(name) for rule in (UGLY, HARD_START, HARD_END))


def invent_name(creature: Creature, rng: Random, taken: frozenset[str] = frozenset()) -> str:
    """Invent an English-style name whose lower case is not in taken."""
    while True:
        name = _candidate(creature, rng)
        if name.isascii() and name.isalpha() and _sounds_good(name) and name not in taken:
            return name.capitalize()


def invent_korean_name(creature: Creature, rng: Random, taken: frozenset[str] = frozenset()) -> str:
    """Invent a Korean name of two to five syllables that is not in taken."""
    while True:
        first, second = rng.sample(_entries(creature), 2)
        left, right = rng.choice(first.get("ko")), rng.choice(second.get("ko"))
        style = rng.random()
        if style < 0.45:
            name = left + right
        elif style < 0.75:
            name = left[:1] + right
        else:
            name = left + rng.choice(frames()["endings"]["korean"])
        if 2 <= len(name) <= 5 and left != right and name not in taken:
            return name
