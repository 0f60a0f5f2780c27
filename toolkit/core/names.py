"""Names as texts: has one the form of a name, is it a copy of another, how much does it look like the names of a list?

`docs/metrics.md` explains what is made of it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import process
from rapidfuzz.distance import OSA

from toolkit.core.answers import SAME_SCRIPT, fold, names_in, script_of
from toolkit.core.text import has_hangul

Script = Literal["en", "ko", "both"]
SCRIPTS: tuple[Script, ...] = ("en", "ko", "both")

SHORTEST_COPY = 4
"""Letters (jamo in Korean) from which a name one edit away is a copy; shorter names have too many neighbours."""
LEAST_LIKE = 0.05
"""The percentile of likeness that an invention must reach; 95 % of real names do."""
# Names compared with all known ones at once: 50,000 known names then take 12 MB.
COMPARED_AT_ONCE = 256

_LETTER = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_ENGLISH = rf"[{_LETTER}][{_LETTER}0-9'’.♀♂-]{{1,13}}(?:(?:: ?| )[{_LETTER}0-9][{_LETTER}0-9'’.♀♂-]{{0,12}})?"
_KOREAN = r"(?:[가-힣♀♂]{2,8}|[가-힣♀♂]{1,7}(?:[0-9A-Z]|:[가-힣]))"
_OTHER = rf"(?![{_LETTER}가-힣])[^\W_]"
_FORMS = {
    "en": re.compile(_ENGLISH),
    "ko": re.compile(_KOREAN),
    "both": re.compile(rf"(?:[가-힣♀♂]|{_KOREAN}) \({_ENGLISH}\)"),
    # Words of neither script, after their combining marks are left out.
    "other": re.compile(rf"{_OTHER}(?:{_OTHER}|['’.・·♀♂-]){{1,13}}(?: {_OTHER}(?:{_OTHER}|['’.-]){{0,12}})?"),
}
_REPEATED = re.compile(r"(.)\1\1|(..+)\2\2")
_WITHOUT_VOWEL = re.compile(r"(?<![a-z])[b-df-hj-np-tv-xz]{4,}(?![a-z])")


def answer_script(answers: Iterable[str]) -> Script | None:
    """The script that nine tenths of the answers share, None when they share none or it is neither Latin nor Hangul."""
    scripts = Counter(script_of(answer) for answer in answers)
    return next((form for form in SCRIPTS if scripts[form] and scripts[form] >= SAME_SCRIPT * scripts.total()), None)


def is_well_formed(name: str, script: Script | None = None) -> bool:
    """Whether a text has the form of one name: one or two capitalised words, or a word of Hangul, or both; not babble.

    A letter three times in a row, more letters three times in a row, a word of four Latin letters and more without a
    vowel, a capital right after a small letter, or a full stop within a word, is babble.

    Args:
        script: The expected form; None takes any, and names in other alphabets.
    """
    name = unicodedata.normalize("NFC", name)
    bare = "".join(letter for letter in name if not unicodedata.category(letter).startswith("M"))
    forms = _FORMS.values() if script is None else [_FORMS[script]]
    return (
        any(form.fullmatch(bare) for form in forms)
        and not any(word[0].islower() or not any(map(str.isalnum, word)) for word in re.split(r"[ (]+", bare))
        and any(map(str.isalpha, bare))
        and _REPEATED.search(bare.lower()) is None
        and _WITHOUT_VOWEL.search(fold(bare)) is None
        and not any(
            (one.islower() and other.isupper()) or (one == "." and other.isalnum()) for one, other in pairwise(bare)
        )
    )


@lru_cache(maxsize=200_000)
def _key(name: str) -> str:
    """The form in which names are compared: letters, vowel signs and digits alone."""
    return "".join(symbol for symbol in symbols(name) if unicodedata.category(symbol)[0] in "LMN")


def name_keys(answer: str) -> list[str]:
    """The key of each name in an answer: equal keys are one name, in any case and with any marks."""
    return [_key(name) for name in names_in(answer).sure]


def keys_of(answers: Iterable[str]) -> set[str]:
    """The keys of the names in all answers."""
    return {key for answer in answers for key in name_keys(answer)} - {""}


def are_new(names: Sequence[str], known: Collection[str]) -> list[bool]:
    """Whether each name, of an answer of two both, is neither a known one nor one edit away from one.

    Args:
        names: The names, copies included.
        known: Keys of the known names.
    """
    said = {part for name in names for part in name_keys(name)}
    copies = {*known, *(key for key, _ in near_copies(said.difference(known), known))}
    return [all(part and part not in copies for part in name_keys(name)) for name in names]


def begins_known(name: str, known: Collection[str]) -> bool:
    """Whether a word of a name begins with a known one, by its key, as in `Venusaurus`, and adds to it."""
    words = (part for word in name.split() for part in name_keys(word))
    return any(word[:length] in known for word in words for length in range(SHORTEST_COPY, len(word) + 1))


def nearest_name(name: str, among: Iterable[str]) -> tuple[str, int]:
    """The answer with the name that is nearest to one of `name`'s, and the letters (jamo in Korean) between the two.

    A letter left out, put in or replaced, or two neighbours that change places, is one (optimal string alignment).
    """
    spelt = {key: answer for answer in among for key in reversed(name_keys(answer))}
    found = [process.extractOne(part, spelt.keys(), scorer=OSA.distance) for part in name_keys(name)]
    key, distance, _ = min(found, key=lambda one: one[1])
    return spelt[key], int(distance)


def near_copies(keys: Collection[str], others: Collection[str]) -> Iterator[tuple[str, str]]:
    """Pairs of a key and the same or another: one insertion, deletion, substitution or swap of neighbours away."""
    these, those = (sorted(key for key in some if len(key) >= SHORTEST_COPY) for some in (keys, others))
    for start in range(0, len(these) if those else 0, COMPARED_AT_ONCE):
        some = these[start : start + COMPARED_AT_ONCE]
        distances = process.cdist(some, those, scorer=OSA.distance, score_cutoff=1, dtype=np.uint8)
        for one, other in np.argwhere(distances <= 1):
            yield some[one], those[other]


# How much a name looks like the names of a list, by its letters and their neighbours. Korean is read by the sounds of
# its syllables (jamo), because no list of names holds all syllables.

FEWEST = 20
"""Names of one script below which likeness is not measured."""
ORDER = 3
FOLDS = 5
# Creatures of one family share how their names begin, and a family is either trained on or not.
SHARED_START = 3

_START, _END = "\0", "\n"


@lru_cache(maxsize=200_000)
def symbols(name: str) -> str:
    """A name as symbols: letters in lower case without Latin diacritics, Hangul as jamo."""
    return unicodedata.normalize("NFD", fold(unicodedata.normalize("NFC", name)))


class NameModel:
    """Symbol trigrams of a list of names, interpolated with bigrams, single symbols and a uniform share.

    The weights are those of Witten and Bell (1991, method C): a context that occurs n times, with t different symbols
    after it, leaves t / (n + t) to the next shorter context.

    Args:
        names: Names to learn, at least one.
    """

    def __init__(self, names: Iterable[str]) -> None:
        followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for name in names:
            for context, symbol in _events(name):
                for length in range(ORDER):
                    followers[context[ORDER - 1 - length :]][symbol] += 1
        # Symbols that no name has count as one.
        self._uniform = 1 / (len(followers[""]) + 1)
        self._counts = {context: dict(counter) for context, counter in followers.items()}
        self._totals = {context: counter.total() for context, counter in followers.items()}

    def bits(self, name: str) -> float:
        """How surprising a name is: bits for each symbol, its end counted as one."""
        surprise = [-math.log2(self._probability(context, symbol)) for context, symbol in _events(name)]
        return sum(surprise) / len(surprise)

    def _probability(self, context: str, symbol: str) -> float:
        probability = self._uniform
        for length in range(ORDER):
            counts = self._counts.get(context[ORDER - 1 - length :])
            if counts is None:
                break
            total = self._totals[context[ORDER - 1 - length :]]
            probability = (counts.get(symbol, 0) + len(counts) * probability) / (total + len(counts))
        return probability


def _events(name: str) -> Iterable[tuple[str, str]]:
    """Each symbol with the `ORDER - 1` before it."""
    text = _START * (ORDER - 1) + symbols(name) + _END
    return ((text[place - ORDER + 1 : place], text[place]) for place in range(ORDER - 1, len(text)))


def likeness(answers: Sequence[str], real: Iterable[str], seed: int) -> list[list[float]] | None:
    """The percentile of each name in each answer among the names in real answers; else as `percentiles`."""
    parts = [names_in(answer).sure for answer in answers]
    names = sorted({name for of_one in parts for name in of_one})
    shares = percentiles(names, [name for answer in real for name in names_in(answer).sure], seed)
    if shares is None:
        return None
    found = dict(zip(names, shares, strict=True))
    return [[found[name] for name in of_one] for of_one in parts]


def percentiles(names: Sequence[str], real: Collection[str], seed: int) -> list[float] | None:
    """For each name, the share of real names that look less like real names than it does, ties counted half.

    The real names are split into five parts. A name is compared with each part by a model of the other four, which has
    seen neither, and the five shares are averaged: names like the real ones average about 0.5. Names that begin alike
    are in one part. Hangul names are compared with Hangul names, all others with all others.

    Args:
        names: Names other than the real ones, which a model that has seen them finds likely.
        real: Names to compare with; copies count once.
        seed: Decides the parts.

    Returns:
        None when neither script has `FEWEST` real names. A name in a script that has fewer gets 0.
    """
    found = np.zeros(len(names))
    measured = False
    for hangul in (False, True):
        of_script = sorted({symbols(name) for name in real if has_hangul(name) is hangul})
        if len(of_script) < FEWEST:
            continue
        measured = True
        places = [place for place, name in enumerate(names) if has_hangul(name) is hangul]
        found[places] = _mean_shares([names[place] for place in places], of_script, seed)
    return [float(share) for share in found] if measured else None


def _mean_shares(names: Sequence[str], real: Sequence[str], seed: int) -> NDArray[np.float64]:
    if not names:
        return np.zeros(0)
    shares = []
    for held_out in _folds(real, seed):
        hidden = set(held_out)
        model = NameModel(name for name in real if name not in hidden)
        others = np.sort([model.bits(name) for name in held_out])
        bits = [model.bits(name) for name in names]
        # More bits are less alike; ties count half.
        first, last = np.searchsorted(others, bits, side="left"), np.searchsorted(others, bits, side="right")
        shares.append((len(others) - (first + last) / 2) / len(others))
    return np.asarray(np.mean(shares, axis=0))


def _folds(real: Sequence[str], seed: int) -> list[list[str]]:
    """The names in `FOLDS` parts at random, those that begin alike together unless that leaves too few groups."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in real:
        groups[symbols(name)[:SHARED_START]].append(name)
    kept = list(groups.values()) if len(groups) >= FOLDS else [[name] for name in real]
    Random(seed).shuffle(kept)
    return [[name for group in kept[part::FOLDS] for name in group] for part in range(FOLDS)]
