"""Find creatures' names in a text and put masks in their place, in one pass whatever the number of names.

How a name is matched:

* The creature's own English or Korean name counts in any case, and with or without diacritics and apostrophes.
* Another creature's name counts when it has a capital letter. In lower case it counts unless it is an ordinary word
  (`golem`, `gloom`): one listed here, or one that the caller found in unrelated texts (`lower_case_words`).
* Each name of a cell that holds several (`불꼬리(Emberling)`) counts; one that may be a word (the `Sunny` of
  `Castform (Sunny)`) as a name of a language that is none of these:
* A name in a language other than the text's and other than English or Korean needs a capital letter and must not be
  an ordinary word: the Japanese romanisation of Moltres is `Fire`.
* A name never counts inside another word; a plural `s` and a possessive are not part of it. A Korean name begins
  where a word begins and may carry particles; one's own of three syllables or more counts wherever it stands.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, repeat
from typing import Any, NamedTuple

import ahocorasick

from toolkit.core.answers import ANSWER_LANGUAGES, Names, fold, names_in
from toolkit.data.grammar import PARTICLES, Masks, mask_english, mask_korean, tidy_english, tidy_korean

ORDINARY_WORDS = frozenset(
    {
        *("amoroso", "booster", "casey", "clic", "cocoon", "coil", "crab", "ditto", "dodo", "dolman", "draco"),
        *("electrode", "endivie", "fire", "freezer", "frison", "gallop", "ghost", "gloom", "golem", "gruff"),
        *("haunter", "lantern", "lilia", "lucky", "mandrillon", "mew", "mother", "oliva", "oratoria", "otaria"),
        *("persian", "pigeon", "pixy", "sand", "selfe", "showers", "slaking", "sleeper", "spear", "spectrum"),
        *("strike", "symbios", "tarsal", "tattu", "thunder", "thunders", "tic", "unknown"),
        *("brute bonnet", "flutter mane", "gouging fire", "great tusk", "iron boulder", "iron bundle", "iron crown"),
        *("iron hands", "iron leaves", "iron moth", "iron thorns", "iron treads", "iron valiant", "raging bolt"),
        *("roaring moon", "sandy shocks", "scream tail", "slither wing", "walking wake"),
        *("마그마", "투구", "고지", "팬텀", "부스터", "블루", "파이어", "슬리퍼", "마자", "우르"),
    }
)
"""Names, in any language, that English or Korean uses as words."""


# Beside a name in its cell: a number before it, quotes and other marks.
_AROUND = re.compile(r"^(?:(?:[#№] ?\d+|\d+[.)]|0\d+)[\s.:)-]+)?[^\w♀♂]*|[^\w♀♂]+$")


@lru_cache(maxsize=200_000)
def spellings(name: str) -> frozenset[str]:
    """Folded spellings under which a name is looked for: `Mr. Mime` also as `mr mime`, `Farfetch'd` as `farfetchd`,
    `Nidoran♀` as `nidoran`, `#004 “Vulpix”` as `vulpix`. Empty for a name of a single Latin letter or digit, which
    would be found everywhere."""
    base = fold(unicodedata.normalize("NFC", name)).strip()
    forms = {base, base.replace("'", ""), base.rstrip("♀♂"), base.rstrip("."), _AROUND.sub("", base)}
    forms |= {form.replace(". ", " ") for form in forms} | {form.replace(". ", ".") for form in forms}
    forms |= {form.replace(": ", ":") for form in forms} | {form.replace(": ", " ") for form in forms}
    forms |= {form.replace("-", " ") for form in forms}
    return frozenset(form for form in (form.strip() for form in forms) if len(form) > 1 or (form and form > "\u1100"))


class _Name(NamedTuple):
    """A spelling and whose it is: creature -> languages in which it is that creature's name."""

    spelling: str
    owners: dict[str, set[str]]


@dataclass(frozen=True, slots=True)
class Found:
    """A name in a text: `text[start:end]`, with a plural `s` included when there is one."""

    start: int
    end: int
    own: bool
    plural: bool


class Masker:
    """All names of a dataset, compiled.

    Args:
        names: Creature key -> language -> name.
        masks: Language of a text (`en`, `ko`) -> what stands in for names there.
        ordinary: Folded words that are names and ordinary words, besides `ORDINARY_WORDS`.
    """

    def __init__(
        self,
        names: Mapping[str, Mapping[str, str]],
        masks: Mapping[str, Masks],
        ordinary: Collection[str] = (),
    ) -> None:
        self._masks = masks
        self._ordinary = ORDINARY_WORDS | frozenset(ordinary)
        known: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for creature, by_language in names.items():
            for language, name in by_language.items():
                parts = names_in(name) if language in ANSWER_LANGUAGES else Names(())
                sure = ((part, language) for part in (name, *parts.sure))
                for part, as_name_in in chain(sure, zip(parts.likely, repeat(""))):
                    for spelling in spellings(part):
                        known[spelling][creature].add(as_name_in)
        self._automaton: Any = ahocorasick.Automaton()
        for spelling, owners in known.items():
            self._automaton.add_word(spelling, _Name(spelling, dict(owners)))
        if known:
            self._automaton.make_automaton()
        self._empty = not known

    def mask(self, text: str, creature: str, language: str) -> str:
        """The text with the creature's own names and all others replaced. `text` is NFC (as `clean_text` leaves it)."""
        found = self.find(text, creature, language)
        if not found:
            return text
        masks = self._masks.get(language, self._masks["en"])
        put = mask_korean if language == "ko" else mask_english
        done: list[str] = []
        place = 0
        for name, following in zip(found, [*found[1:], None], strict=True):
            sentence = text[: following.start] if following and language == "ko" else text
            kept, mask, place = put(
                sentence, place, name.start, name.end, masks.own if name.own else masks.other, name.plural
            )
            done += (kept, mask)
        done.append(text[place:])
        return (tidy_korean if language == "ko" else tidy_english)("".join(done), masks)

    def find(self, text: str, creature: str, language: str) -> list[Found]:
        """Names in the text, leftmost and longest first, never overlapping."""
        accepted = [
            Found(start, end + plural, creature in name.owners, bool(plural))
            for start, end, name, plural in self._bounded(text, creature)
            if self._counts(text[start:end], name, creature, language)
        ]
        accepted.sort(key=lambda found: (found.start, -found.end, not found.own))
        apart: list[Found] = []
        for found in accepted:
            if not apart or found.start >= apart[-1].end:
                apart.append(found)
        return apart

    def lower_case_words(self, text: str, creature: str) -> Iterator[str]:
        """Other creatures' names that the text uses in lower case, as ordinary words are."""
        for start, end, name, _ in self._bounded(text, creature):
            if creature not in name.owners and name.spelling.isascii() and text[start:end].islower():
                yield name.spelling

    def _bounded(self, text: str, creature: str) -> Iterator[tuple[int, int, _Name, int]]:
        """Names that begin and end where words do: start, end, name, length of its plural ending."""
        if self._empty:
            return
        for last, name in self._automaton.iter(fold(text)):
            start, end = last + 1 - len(name.spelling), last + 1
            plural = _ending(text, start, end, creature in name.owners)
            if plural is not None:
                yield start, end, name, plural

    def _counts(self, surface: str, name: _Name, creature: str, language: str) -> bool:
        if creature in name.owners and not name.owners[creature].isdisjoint(ANSWER_LANGUAGES):
            return True
        ordinary = name.spelling in self._ordinary
        if name.spelling > "\u1100":
            return not ordinary
        near = any(not languages.isdisjoint((language, "en")) for languages in name.owners.values())
        if surface == surface.lower():
            return near and not ordinary
        return near or not ordinary


def own_names_in(text: str, names: Iterable[str]) -> list[tuple[int, int]]:
    """Where a creature's own names stand in a text, matched as `Masker` matches them, sorted: (start, end)."""
    folded = fold(text)
    found = set()
    for name in names:
        for spelling in spellings(name):
            start = folded.find(spelling)
            while start >= 0:
                end = start + len(spelling)
                if _ending(text, start, end, own=True) is not None:
                    found.add((start, end))
                start = folded.find(spelling, start + 1)
    return sorted(found)


def _ending(text: str, start: int, end: int, own: bool) -> int | None:
    """Length of the plural ending after a name that stands as a word of its own, None if it is part of another word."""
    if _is_hangul(text[start]):
        return _korean_ending(text, start, end, own)
    if start and _joins(text[start - 1]) and _joins(text[start]):
        return None
    if end == len(text) or not _joins(text[end]) or not _joins(text[end - 1]):
        return 0
    if text[end] in "sS" and (end + 1 == len(text) or not _joins(text[end + 1])):
        return 1
    return None


def _korean_ending(text: str, start: int, end: int, own: bool) -> int | None:
    if own and end - start >= 3:
        return 0
    if start and _is_hangul(text[start - 1]):
        return None
    stop = end
    while stop < len(text) and _is_hangul(text[stop]):
        stop += 1
    return 0 if PARTICLES.fullmatch(text, end, stop) else None


def _joins(letter: str) -> bool:
    """Whether a letter or digit beside a Latin name makes it part of a longer word. Korean and Japanese ones do not."""
    return letter.isalnum() and letter < "\u1100"


def _is_hangul(letter: str) -> bool:
    return "\uac00" <= letter <= "\ud7a3"
