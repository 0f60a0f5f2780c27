"""Near-duplicate texts by MinHash (Broder 1997) and banding: time grows with the number of texts, not its square."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

# 32 bands of 4: texts of similarity 0.7 meet in at least one band with probability 0.9998.
BANDS, BAND_ROWS = 32, 4
PERMUTATIONS = BANDS * BAND_ROWS
SEED = 1
CHUNK = 20_000
# Within a band, each text is compared with this many neighbours; nearly all buckets are smaller.
NEIGHBOURS = 8
# The estimate of similarity from 128 permutations has a standard deviation of 0.04.
MARGIN = 0.12

RUN = 5

Tokens = Callable[[str], set[str]]

_WORD = re.compile(r"\w+")


def normal_text(text: str) -> str:
    """Two texts with the same normal text are duplicates: case, punctuation and spaces do not count."""
    return " ".join(_WORD.findall(text.casefold()))


def similarity(one: str, other: str) -> float:
    """How alike two texts are, 0 to 1: the Jaccard similarity of their words or of their runs of five letters,
    whichever is greater. Words see through a changed order, letters through changed endings."""
    return _similarity(normal_text(one), normal_text(other))


def cluster_texts(texts: Sequence[str], threshold: float) -> list[int]:
    """A cluster for each text: texts whose `similarity` is at least `threshold`, directly or over others, share it.

    The clusters of a set of texts do not depend on their order. A cluster's number is the index of its first text.
    """
    normal = [normal_text(text) for text in texts]
    distinct = sorted(set(normal))
    place = {text: index for index, text in enumerate(distinct)}
    root = list(range(len(distinct)))
    for tokens in (_words, _runs):
        for a, b in _candidates(distinct, tokens, threshold):
            one, other = find_root(root, a), find_root(root, b)
            if one != other and _similarity(distinct[a], distinct[b]) >= threshold:
                root[max(one, other)] = min(one, other)
    first: dict[int, int] = {}
    return [first.setdefault(find_root(root, place[text]), index) for index, text in enumerate(normal)]


def find_root(root: list[int], index: int) -> int:
    """The representative of an index in a union-find forest, whose paths it halves."""
    while root[index] != index:
        root[index] = root[root[index]]
        index = root[index]
    return index


def _words(normal: str) -> set[str]:
    return set(normal.split(" "))


def _runs(normal: str) -> set[str]:
    return {normal[start : start + RUN] for start in range(max(1, len(normal) - RUN + 1))}


def _similarity(one: str, other: str) -> float:
    return max(_jaccard(tokens(one), tokens(other)) for tokens in (_words, _runs))


def _jaccard(a: set[str], b: set[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def _candidates(distinct: list[str], tokens: Tokens, threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs that share a band and whose estimated similarity is near or above the threshold; some more than once."""
    if len(distinct) < 2:
        return
    digests = _digests(distinct, tokens)
    for band in range(BANDS):
        rows = np.ascontiguousarray(digests[:, band * BAND_ROWS : (band + 1) * BAND_ROWS]).view(np.uint64)
        keys = rows[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ rows[:, 1]
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for step in range(1, NEIGHBOURS + 1):
            same = np.flatnonzero(ordered[:-step] == ordered[step:])
            if not len(same):
                break
            yield from _alike(digests, order[same], order[same + step], threshold)


def _alike(
    digests: NDArray[np.uint32], left: NDArray[np.intp], right: NDArray[np.intp], threshold: float
) -> Iterator[tuple[int, int]]:
    for start in range(0, len(left), CHUNK):
        a, b = left[start : start + CHUNK], right[start : start + CHUNK]
        near = (digests[a] == digests[b]).mean(axis=1) >= threshold - MARGIN
        yield from zip(a[near].tolist(), b[near].tolist(), strict=True)


def _digests(distinct: list[str], tokens: Tokens) -> NDArray[np.uint32]:
    digests = np.empty((len(distinct), PERMUTATIONS), dtype=np.uint32)
    for start in range(0, len(distinct), CHUNK):
        chunk = [list(tokens(text)) for text in distinct[start : start + CHUNK]]
        digests[start : start + len(chunk)] = RMinHash.digest_matrix_from_token_sets(
            chunk, PERMUTATIONS, SEED
        ).to_rows()
    return digests
