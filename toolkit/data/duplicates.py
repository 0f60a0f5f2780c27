"""Texts in; one cluster number a text out, by MinHash (Broder 1997) and banding: not every pair is compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashDigestMatrix
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# 32 bands of 4: texts of similarity 0.7 meet in at least one band with probability 0.9998.
BANDS, BAND_ROWS = 32, 4
PERMUTATIONS = BANDS * BAND_ROWS
SEED = 1
CHUNK = 5_000
# Mixes 64-bit hashes: odd, and near 2**64 divided by the golden ratio (Knuth 1973).
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
# Within a band, each text is compared with this many neighbours; nearly all buckets are smaller.
NEIGHBOURS = 8
# The estimate of similarity from 128 permutations has a standard deviation of 0.04.
MARGIN = 0.12
RUN = 5

Digests = NDArray[np.uint32]
Places = NDArray[np.intp]

_WORD = re.compile(r"\w+")


def normal_text(text: str) -> str:
    """Two texts with the same normal text are duplicates: case, punctuation and spaces do not count."""
    return " ".join(_WORD.findall(text.casefold()))


def cluster_texts(texts: Iterable[str], threshold: float) -> list[int]:
    """The cluster of each text: texts of at least this similarity, directly or through others, share one.

    The similarity of two texts, 0 to 1, is the Jaccard similarity of their words or of their runs of five letters,
    whichever is greater: words see through a changed order, letters through changed endings. The clusters of a set of
    texts do not depend on their order. A cluster's number is the index of its first text.
    """
    normal = [normal_text(text) for text in texts]
    distinct = sorted(set(normal))
    joined: list[tuple[int, int]] = []
    label = np.arange(len(distinct))
    for digest in (_digest_words, _digest_runs):
        for left, right in _candidates(_digests(distinct, digest), threshold):
            apart = label[left] != label[right]
            pairs = zip(left[apart].tolist(), right[apart].tolist(), strict=True)
            if near := [(a, b) for a, b in pairs if _similarity(distinct[a], distinct[b]) >= threshold]:
                joined += near
                label = first_connected(len(distinct), joined)
    of_text = dict(zip(distinct, label.tolist(), strict=True))
    first: dict[int, int] = {}
    return [first.setdefault(of_text[text], index) for index, text in enumerate(normal)]


def first_connected(count: int, pairs: Sequence[tuple[int, int]]) -> Places:
    """For each of `count` items, the first item that pairs connect it with, directly or through others."""
    if not pairs:
        return np.arange(count)
    left, right = np.asarray(pairs, dtype=np.intp).T
    graph = coo_array((np.ones(len(pairs), dtype=bool), (left, right)), shape=(count, count))
    component: Places = connected_components(graph, directed=False)[1]
    first: Places = np.empty(count, dtype=np.intp)
    # The last one written stays, which is the first of its component.
    first[component[::-1]] = np.arange(count)[::-1]
    return first[component]


def _words(normal: str) -> set[str]:
    return set(normal.split(" "))


def _runs(normal: str) -> set[str]:
    return {normal[start : start + RUN] for start in range(max(1, len(normal) - RUN + 1))}


def _similarity(one: str, other: str) -> float:
    return max(_jaccard(tokens(one), tokens(other)) for tokens in (_words, _runs))


def _jaccard(a: set[str], b: set[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def _candidates(digests: Digests, threshold: float) -> Iterator[tuple[Places, Places]]:
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
            for start in range(0, len(same), CHUNK):
                left, right = order[same[start : start + CHUNK]], order[same[start : start + CHUNK] + step]
                near = (digests[left] == digests[right]).mean(axis=1) >= threshold - MARGIN
                yield left[near], right[near]


def _digests(distinct: list[str], digest: Callable[[list[str]], RMinHashDigestMatrix]) -> Digests:
    """MinHash digests, `[texts, permutations]`."""
    digests = np.empty((len(distinct), PERMUTATIONS), dtype=np.uint32)
    for start in range(0, len(distinct), CHUNK):
        chunk = distinct[start : start + CHUNK]
        digests[start : start + len(chunk)] = digest(chunk).to_rows()
    return digests


def _digest_words(texts: list[str]) -> RMinHashDigestMatrix:
    words = [text.split(" ") for text in texts]
    return RMinHash.digest_matrix_from_token_sets(words, PERMUTATIONS, SEED)


def _digest_runs(texts: list[str]) -> RMinHashDigestMatrix:
    """Digests of runs of letters, hashed for all texts at once: as separate tokens they would take most of the time."""
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
