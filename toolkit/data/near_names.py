"""A text and names in; the first word that is nearly one of them out: misspelt, with an ending, or of the same root.

Names of creatures are made of words, and short words have many neighbours, so the way a word is written decides:

* In lower case a word counts for a name of seven letters or more (`pikachoo`, `charizardlike`): one letter away from a
  shorter name there often is an ordinary word (`monkey` and Mankey), or one that begins with it (`abrasive` and Abra).
* With a capital inside a sentence, or in capitals, a word counts for a name of five letters or more (`Mewto`, `MEWTO`).
* A Korean word counts for a name of three syllables or more, letter by letter, and may carry particles.

A word that texts about other families use in lower case is an ordinary word there (`gives_name_away`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from rapidfuzz.distance import OSA

from toolkit.core.answers import fold
from toolkit.data.grammar import PARTICLES

if TYPE_CHECKING:
    import pyarrow as pa

SHORTEST, SHORTEST_IN_LOWER_CASE, SHORTEST_STEM = 5, 7, 5
FEWEST_SYLLABLES = 3

_LETTERS = re.compile(r"[^\W\d_]+")
# `Pika-chu` is one word here.
WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LATIN = re.compile(r"[a-z\u00df-\u024f]+")
_ENDING = re.compile(r"(?<=.{5})(?:ings?|ers?|ed|ies|es|s|y|ly|like|ish|ians?|e)$")
# Where a capital says nothing: wider than the start of a sentence in `grammar`, which gives a mask its capital.
_CAPITAL_EXPECTED = re.compile(r"(?:^|[.!?…:\n][\"'”’)\]]*\s*)[\"'“‘(\[—-]*$")


class _Latin(NamedTuple):
    letters: str
    head: str
    tail: str
    stem: str


@lru_cache(maxsize=100_000)
def _latin(name: str) -> _Latin | None:
    """A Latin name's letters, without the spaces and marks in it; None when it is too short or in other letters.

    A word that is one edit away has its first half or its second half.
    """
    letters = "".join(_LETTERS.findall(fold(unicodedata.normalize("NFC", name))))
    if len(letters) < SHORTEST or not _LATIN.fullmatch(letters):
        return None
    half = len(letters) // 2
    return _Latin(letters, letters[:half], letters[half:], _stem(letters))


def _stem(word: str) -> str:
    """A word without an English ending, when five letters are left."""
    return _ENDING.sub("", word)


@lru_cache(maxsize=100_000)
def _korean(name: str) -> str | None:
    """A Korean name's syllables, None when there are too few."""
    syllables = "".join(letter for letter in unicodedata.normalize("NFC", name) if "가" <= letter <= "힣")
    return syllables if len(syllables) >= FEWEST_SYLLABLES else None


def near_name(text: str, folded: str, names: Iterable[str]) -> tuple[int, str] | None:
    """The first word of a text that is nearly one of the names: its place and the word as written, or None.

    Args:
        folded: The text as `masking.fold` makes it.
        names: Names that do not stand in the text themselves.
    """
    for name in names:
        latin, korean = _latin(name), _korean(name)
        if latin is not None and (latin.head in folded or latin.tail in folded):
            hit = next(_near_latin(text, folded, latin), None)
        elif korean is not None:
            hit = _near_korean(text, korean)
        else:
            hit = None
        if hit is not None:
            return hit
    return None


def gives_name_away(hits: Sequence[tuple[str, Hashable]], used: Iterable[tuple[str, Hashable]]) -> list[bool]:
    """Whether each near-name gives its name away: no text about others has the word in lower case.

    Args:
        hits: The word of each near-name, and the family of its text, or its creature or answer.
        used: The same for every text of the dataset that has one of these words in lower case (`WORD`).
    """
    users: dict[str, set[Hashable]] = defaultdict(set)
    for word, owner in used:
        # Two are enough to tell that there is one beside the text's own.
        if len(users[word]) < 2:
            users[word].add(owner)
    return [not users[word.lower()] - {owner} for word, owner in hits]


@dataclass(frozen=True, slots=True)
class FindWords:
    """Finds which of some words each text of a column has."""

    words: frozenset[str]
    column: str

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The column `words`."""
        import pyarrow as pa

        words = [sorted(self.words.intersection(WORD.findall(text or ""))) for text in rows[self.column].to_pylist()]
        return pa.table({"words": pa.array(words, pa.list_(pa.string()))})


def words_by_place(batches: Iterable[pa.Table]) -> Iterator[tuple[str, int]]:
    """Each word of the column `words` of some batches, in order, and the place of its row among all."""
    import pyarrow.compute as pc

    start = 0
    for batch in batches:
        words = batch["words"].combine_chunks()
        places = (pc.list_parent_indices(words).to_numpy() + start).tolist()
        yield from zip(pc.list_flatten(words).to_pylist(), places, strict=True)
        start += len(words)


def _near_latin(text: str, folded: str, name: _Latin) -> Iterator[tuple[int, str]]:
    for found in WORD.finditer(folded):
        word = found[0].replace("-", "") if "-" in found[0] else found[0]
        if not (word.startswith(name.head) or word.endswith(name.tail)):
            continue
        if _is_near(word, name) and _counts(text, found.start(), found.end(), name):
            yield found.start(), text[found.start() : found.end()]


def _is_near(word: str, name: _Latin) -> bool:
    if word.startswith(name.letters):
        return True
    if abs(len(word) - len(name.letters)) <= 1 and OSA.distance(word, name.letters, score_cutoff=1) <= 1:
        return True
    return len(name.stem) >= SHORTEST_STEM and _stem(word) == name.stem


def _counts(text: str, start: int, end: int, name: _Latin) -> bool:
    if len(name.letters) >= SHORTEST_IN_LOWER_CASE:
        return True
    word = text[start:end]
    if word.isupper():
        return not text.isupper()
    return word.istitle() and not _CAPITAL_EXPECTED.search(text[max(0, start - 20) : start])


def _near_korean(text: str, name: str) -> tuple[int, str] | None:
    # A word has the name's first syllable or the others, or it is more than one letter away.
    if name[0] not in text and name[1:] not in text:
        return None
    letters = unicodedata.normalize("NFD", name)
    for found in WORD.finditer(text):
        word = found[0]
        if not (word[0] == name[0] or word[1:].startswith(name[1:])):
            continue
        # A syllable more or less is two letters.
        begun = unicodedata.normalize("NFD", word[: len(name)])
        if PARTICLES.fullmatch(word, len(name)) and OSA.distance(begun, letters, score_cutoff=1) <= 1:
            return found.start(), word
    return None
