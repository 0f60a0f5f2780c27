"""Near-duplicate texts by MinHash (Broder 1997) and banding: time grows with the number of texts, not its square."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

# 32 bands of 4: texts of similarity 0.7 meet in at least one band with probability 0.9998.
BANDS, BAND_ROWS = 32, 4
PERMUTATIONS = BANDS * BAND_ROWS
SEED = 1
CHUNK = 5_000
# Of 64-bit hashes: odd, and near 2**64 divided by the golden ratio (Knuth 1973).
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
# Within a band, each text is compared with this many neighbours; nearly all buckets are smaller.
NEIGHBOURS = 8
# The estimate of similarity from 128 permutations has a standard deviation of 0.04.
MARGIN = 0.12

RUN = 5

Digests = NDArray[np.uint32]

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
    for digest in (_digest_words, _digest_runs):
        for a, b in _candidates(_digests(distinct, digest), threshold):
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


def _candidates(digests: Digests, threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs that share a band and whose estimated similarity is near or above the threshold; some more than once."""
    for band in range(BANDS):
        rows = np.ascontiguousarray(digests[:, band * BAND_ROWS : (band + 1) * BAND_ROWS]).view(np.uint64)
        keys = rows[:, 0] * MULTIPLIER ^ rows[:, 1]
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for step in range(1, NEIGHBOURS + 1):
            same = np.flatnonzero(ordered[:-step] == ordered[step:])
            if not len(same):
                break
            yield from _alike(digests, order[same], order[same + step], threshold)


def _alike(
    digests: Digests, left: NDArray[np.intp], right: NDArray[np.intp], threshold: float
) -> Iterator[tuple[int, int]]:
    for start in range(0, len(left), CHUNK):
        a, b = left[start : start + CHUNK], right[start : start + CHUNK]
        near = (digests[a] == digests[b]).mean(axis=1) >= threshold - MARGIN
        yield from zip(a[near].tolist(), b[near].tolist(), strict=True)


def _digests(distinct: list[str], digest: Callable[[list[str]], Any]) -> Digests:
    """MinHash digests, `[texts, permutations]`."""
    digests = np.empty((len(distinct), PERMUTATIONS), dtype=np.uint32)
    for start in range(0, len(distinct), CHUNK):
        chunk = distinct[start : start + CHUNK]
        digests[start : start + len(chunk)] = digest(chunk).to_rows()
    return digests


def _digest_words(texts: list[str]) -> Any:
    words = [text.split(" ") for text in texts]
    return RMinHash.digest_matrix_from_token_sets(words, PERMUTATIONS, SEED)


def _digest_runs(texts: list[str]) -> Any:
    """Of the runs of letters, hashed here for all texts at once: as tokens they would be most of the time."""
    padded = [text.ljust(RUN, "\0") for text in texts]
    letters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    lengths = np.fromiter(map(len, padded), dtype=np.uint64, count=len(padded))
    hashes = np.zeros(len(letters) - RUN + 1, dtype=np.uint64)
    for place in range(RUN):
        hashes = (hashes ^ letters[place : place + len(hashes)]) * MULTIPLIER
        hashes ^= hashes >> np.uint64(29)
    ends = np.cumsum(lengths)
    inside = np.ones(len(letters), dtype=bool)
    # A run that begins among a text's last letters would go on into the next text.
    for place in range(1, RUN):
        inside[ends.astype(np.intp) - place] = False
    offsets = np.concatenate(([0], np.cumsum(lengths - np.uint64(RUN - 1)))).astype(np.uint64)
    kept = hashes[inside[: len(hashes)]]
    return RMinHash.digest_matrix_from_flat_token_hashes(kept, offsets, PERMUTATIONS, SEED)
