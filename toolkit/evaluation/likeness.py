"""How much a name looks like the names of a list, by its letters and their neighbours.

Korean is read by the sounds of its syllables (jamo), because no list of names holds all syllables.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from random import Random

import numpy as np
from numpy.typing import NDArray

from toolkit.core.text import has_hangul
from toolkit.data.answers import fold

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
    for held_out in _parts(real, seed):
        hidden = set(held_out)
        model = NameModel(name for name in real if name not in hidden)
        others = np.sort([model.bits(name) for name in held_out])
        bits = [model.bits(name) for name in names]
        # More bits are less alike.
        below = len(others) - np.searchsorted(others, bits, side="right")
        ties = np.searchsorted(others, bits, side="right") - np.searchsorted(others, bits, side="left")
        shares.append((below + ties / 2) / len(others))
    return np.asarray(np.mean(shares, axis=0))


def _parts(real: Sequence[str], seed: int) -> list[list[str]]:
    """The names in `FOLDS` parts at random, those that begin alike together unless that leaves too few groups."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in real:
        groups[symbols(name)[:SHARED_START]].append(name)
    kept = list(groups.values()) if len(groups) >= FOLDS else [[name] for name in real]
    Random(seed).shuffle(kept)
    return [[name for group in kept[part::FOLDS] for name in group] for part in range(FOLDS)]
