"""Texts in; one cluster number a text out, by MinHash (Broder 1997) and banding: not every pair is compared."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashDigestMatrix
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from toolkit.data.batches import Engine, Rows

if TYPE_CHECKING:
    import pyarrow as pa

DIGEST_BYTES = 12
# Characters of a text that near duplicates are found by; exact ones are found by all.
COMPARED_CHARACTERS = 2_000
# 32 bands of 4: texts of similarity 0.7 meet in at least one band with probability 0.9998. Of each minimum the lower 16
# bits are kept, so that a band is a number of 64; others are equal in them once in 65,536 times.
BANDS, BAND_ROWS = 32, 4
PERMUTATIONS = BANDS * BAND_ROWS
SEED = 1
CHUNK = 5_000
# Mixes 64-bit hashes: odd, and near 2**64 divided by the golden ratio (Knuth 1973).
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
# Within a band, each text is compared with this many neighbours; nearly all buckets are smaller.
NEIGHBOURS = 8
# Bands whose pairs are compared at once, not those that earlier rounds joined: the first bands find nearly all.
ROUNDS = (1, 1, 2, 4, 8, 16)
# The estimate of similarity from 128 permutations has a standard deviation of 0.04.
MARGIN = 0.12
RUN = 5

Digests = NDArray[np.uint16]
Places = NDArray[np.intp]

_WORD = re.compile(r"\w+")
_BETWEEN_WORDS = {code: " " for code in range(128) if not _WORD.match(chr(code))}


def normal_text(text: str) -> str:
    """Two texts with the same normal text are duplicates: case, punctuation and spaces do not count."""
    folded = text.casefold()
    return " ".join(folded.translate(_BETWEEN_WORDS).split() if folded.isascii() else _WORD.findall(folded))


def text_digest(text: str) -> bytes:
    """Twelve bytes that are the same for duplicates alone: a million texts are a quarter of a gigabyte."""
    return hashlib.blake2b(normal_text(text).encode(), digest_size=DIGEST_BYTES).digest()


def cluster_texts(
    engine: Engine, rows: Rows, column: str, digests: NDArray[np.bytes_], threshold: float
) -> NDArray[np.intp]:
    """The cluster of each row: texts of at least this similarity, directly or through others, share one.

    The similarity of two texts, 0 to 1, is the Jaccard similarity of their words or of their runs of five letters,
    whichever is greater: words see through a changed order, letters through changed endings. The clusters of a set of
    texts do not depend on their order. A cluster's number is the index of its first text.

    Args:
        column: That of the texts, of which the first `COMPARED_CHARACTERS` are compared.
        digests: The `text_digest` of each row; rows whose digest is empty are compared with none.
    """
    ordered, first, of_row = np.unique(digests, return_index=True, return_inverse=True)
    compared = np.flatnonzero(ordered != b"")
    rank = np.full(len(digests), -1)
    rank[first[compared]] = np.arange(len(compared))
    if not len(compared):
        return np.arange(len(digests))
    joined: list[tuple[int, int]] = []
    label = np.arange(len(compared))
    for view in (digest_words, digest_runs):
        matrix, pairs_of = partial(_in_order, rank, len(compared)), partial(band_pairs, threshold)
        bands = engine.group(MinHash(view, column), rows, [column], matrix, pairs_of, range(BANDS))
        for count in ROUNDS:
            pairs = np.unique(np.concatenate(list(islice(bands, count))), axis=0)
            pairs = pairs[label[pairs[:, 0]] != label[pairs[:, 1]]]
            if not len(pairs):
                continue
            places = first[compared[pairs]]
            texts = next(engine.take(rows, [column], places.ravel(), places.size))[column].to_pylist()
            normal = [normal_text(text[:COMPARED_CHARACTERS]) for text in texts]
            near = [_similarity(a, b) >= threshold for a, b in zip(normal[::2], normal[1::2], strict=True)]
            if any(near):
                joined += map(tuple, pairs[near].tolist())
                label = first_connected(len(compared), joined)
    cluster = np.arange(len(ordered))
    cluster[compared] = compared[label]
    return np.where(digests == b"", np.arange(len(digests)), numbered(cluster[of_row]))


class Clusters(NamedTuple):
    """The clusters of some texts: `number` of each by its `text_digest`."""

    digests: NDArray[np.bytes_]
    number: Places

    def of(self, digests: NDArray[np.bytes_]) -> Places | None:
        """The cluster of each text by its digest, as `cluster_texts` gives it, where these are the same texts."""
        texts = np.flatnonzero(digests != b"")
        known, place = np.unique(self.digests, return_index=True)
        if not np.array_equal(known, np.unique(digests[texts])):
            return None
        clusters = np.arange(len(digests))
        clusters[texts] = texts[numbered(self.number[place][np.searchsorted(known, digests[texts])])]
        return clusters


def numbered(clusters: Places) -> Places:
    """Clusters by the index of their first text, whatever their numbers were."""
    _, first, members = np.unique(clusters, return_index=True, return_inverse=True)
    return first[members]


@dataclass(frozen=True, slots=True)
class MinHash:
    """Makes MinHash digests of texts, by their words or by their runs of letters."""

    view: Callable[[list[str]], RMinHashDigestMatrix]
    column: str

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The column `minhash`: `PERMUTATIONS` numbers of 16 bits."""
        import pyarrow as pa

        normal = [normal_text((text or "")[:COMPARED_CHARACTERS]) for text in rows[self.column].to_pylist()]
        digests = array("I")
        for digest in self.view(normal).to_rows():
            digests.fromlist(digest)
        kind, data = pa.binary(2 * PERMUTATIONS), pa.py_buffer(np.frombuffer(digests, np.uint32).astype(np.uint16))
        return pa.table({"minhash": pa.FixedSizeBinaryArray.from_buffers(kind, len(normal), [None, data])})


def _in_order(rank: Places, count: int, batches: Iterable[pa.Table]) -> Digests:
    """Digests by the rank of their row, `[texts, permutations]`; those of rows without a rank are left out."""
    digests, start = np.empty((count, PERMUTATIONS), dtype=np.uint16), 0
    for batch in batches:
        for chunk in batch["minhash"].chunks:
            ranked = rank[start : start + len(chunk)]
            rows = np.frombuffer(chunk.buffers()[1], np.uint16).reshape(-1, PERMUTATIONS)[chunk.offset :]
            digests[ranked[ranked >= 0]] = rows[: len(chunk)][ranked >= 0]
            start += len(chunk)
    return digests


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


def band_pairs(threshold: float, digests: Digests, band: int) -> Places:
    """Pairs of texts that share a band and whose estimated similarity is near or above the threshold, `[pairs, 2]`."""
    keys = digests.view(np.uint64)[:, band]
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    found = [np.empty((0, 2), dtype=np.intp)]
    for step in range(1, NEIGHBOURS + 1):
        same = np.flatnonzero(ordered[:-step] == ordered[step:])
        for start in range(0, len(same), CHUNK):
            left, right = order[same[start : start + CHUNK]], order[same[start : start + CHUNK] + step]
            near = (digests[left] == digests[right]).mean(axis=1) >= threshold - MARGIN
            found.append(np.stack((left[near], right[near]), axis=1))
    return np.concatenate(found)


def digest_words(texts: list[str]) -> RMinHashDigestMatrix:
    """Digests of the words of normal texts."""
    words = [text.split(" ") for text in texts]
    return RMinHash.digest_matrix_from_token_sets(words, PERMUTATIONS, SEED)


def digest_runs(texts: list[str]) -> RMinHashDigestMatrix:
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
