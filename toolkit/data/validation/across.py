"""Checks that compare rows: repeated texts, families and creatures over splits, repeated ids, balance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from toolkit.data.duplicates import cluster_texts
from toolkit.data.validation.findings import FIRST_PLACES, Findings, Place, excerpt
from toolkit.data.validation.remembered import Beginnings, Numbers, Remembered, Texts

HELD_OUT_OF_KNOWN = ("validation", "test")
COMPARED_CHARACTERS = 2_000
"""Near duplicates are compared by so many characters of each text; exact ones as a whole."""

FAR = 5
"""A creature is out of balance with so many times the rows of the median creature, or so many times fewer."""
FEWEST_FOR_MEDIAN = 5
# Of fifty thousand creatures with about as many rows each, one has three instead of seventeen by chance.
LEAST_MORE = 10
LEAST_DEVIATIONS = 5

Describe = Callable[[int], str]


def compare_rows(rows: Remembered, near_duplicate: float, found: Findings) -> None:
    """Find what only all rows together show.

    Args:
        near_duplicate: Similarity from which two texts are nearly the same.
    """
    _check_ids(rows, found)
    first = _firsts(rows)
    _check_repeated(rows, first, found)
    _check_near(rows, np.unique(first[(first >= 0) & rows.worded]), near_duplicate, found)
    _check_families(rows, found)
    _check_creatures(rows, found)
    _check_balance(rows, found)


def not_comparable(rows: Remembered, has_families: bool, creatures: str | None) -> dict[str, str]:
    """Checks between rows that this dataset does not allow, and why.

    Args:
        creatures: Why there are no creatures to compare, None when there are.
    """
    reasons: dict[str, str] = {}
    present = {rows.splits[index] for index in np.unique(rows.split)}
    if len(present) < 2:
        reasons |= {"dup.exact": "only one split has rows", "dup.near": "only one split has rows"}
    if not has_families:
        reasons["split.family"] = "no column `family`"
    elif "unseen" not in present:
        reasons["split.family"] = "no split `unseen`"
    if creatures is not None:
        return reasons | {"split.creature": creatures, "balance": creatures}
    if "train" not in present:
        return reasons | {"split.creature": "no split `train`", "balance": "no split `train`"}
    if not present & set(HELD_OUT_OF_KNOWN):
        reasons["split.creature"] = "no split `validation` or `test`"
    if len(np.unique(_known(rows.creatures.codes()[rows.of_splits("train")]))) < FEWEST_FOR_MEDIAN:
        reasons["balance"] = f"fewer than {FEWEST_FOR_MEDIAN} creatures in `train`"
    return reasons


def _known(codes: Numbers) -> Numbers:
    return codes[codes >= 0]


def place_of(rows: Remembered, row: int, text: str) -> Place:
    """Where a row is, for a finding; `text` is an excerpt already."""
    id = rows.ids.column()[row].as_py()
    where = rows.splits[int(rows.split[row])]
    return Place(where, int(rows.number[row]), None if id is None else excerpt(id), text)


def add_rows(rows: Remembered, code: str, where: Numbers, describe: Describe, found: Findings) -> None:
    """Note a finding for each of some rows, given in order."""
    places = [place_of(rows, int(row), describe(int(row))) for row in where[:FIRST_PLACES]]
    found.add_all(code, len(where), places)


def _text_of(column: Texts, row: int) -> str:
    return excerpt(str(column.column()[row].as_py()))


def _check_ids(rows: Remembered, found: Findings) -> None:
    codes = rows.ids.codes()
    _, first = np.unique(codes, return_index=True)
    again = np.ones(len(codes), dtype=bool)
    again[first] = False
    again[codes < 0] = False
    add_rows(rows, "schema.id", np.flatnonzero(again), lambda row: _text_of(rows.ids, row), found)


def _firsts(rows: Remembered) -> Numbers:
    """For each row the first one with the same text; -1 for rows without text."""
    _, first, inverse = np.unique(rows.text, return_index=True, return_inverse=True)
    return np.where(rows.text == 0, -1, first[inverse])


def _check_repeated(rows: Remembered, first: Numbers, found: Findings) -> None:
    again = np.flatnonzero((first >= 0) & (first != np.arange(len(first))))
    origin = first[again]
    elsewhere = rows.split[again] != rows.split[origin]
    differs = rows.answer[again] != rows.answer[origin]

    def describe(row: int) -> str:
        return _beside(rows, "as", int(first[row]), row)

    add_rows(rows, "dup.exact", again[elsewhere], describe, found)
    add_rows(rows, "dup.exact-within", again[~elsewhere & ~differs], describe, found)
    add_rows(rows, "label.conflict", again[differs], describe, found)


def _beside(rows: Remembered, how: str, other: int, row: int) -> str:
    where = f"{how} {rows.splits[int(rows.split[other])]} row {rows.number[other]}"
    return f"{where}: {_text_of(rows.descriptions, row)}"


def _check_near(rows: Remembered, distinct: Numbers, near_duplicate: float, found: Findings) -> None:
    """Distinct texts that are nearly the same; `distinct` are their rows, in order."""
    texts = Beginnings(rows.descriptions.column(), distinct, COMPARED_CHARACTERS)
    clusters = np.asarray(cluster_texts(texts, near_duplicate), dtype=np.int64)
    later = np.flatnonzero(clusters != np.arange(len(clusters)))
    again, origin = distinct[later], distinct[clusters[later]]
    like = dict(zip(again.tolist(), origin.tolist(), strict=True))
    elsewhere = rows.split[again] != rows.split[origin]

    def describe(row: int) -> str:
        return _beside(rows, "like", like[row], row)

    add_rows(rows, "dup.near", again[elsewhere], describe, found)
    add_rows(rows, "dup.near-within", again[~elsewhere], describe, found)


def _check_families(rows: Remembered, found: Findings) -> None:
    codes, unseen = rows.families.codes(), rows.of_splits("unseen")
    straddling = np.isin(codes, _known(codes[unseen])) & ~unseen
    add_rows(rows, "split.family", np.flatnonzero(straddling), lambda row: _text_of(rows.families, row), found)


def _check_creatures(rows: Remembered, found: Findings) -> None:
    codes, train = rows.creatures.codes(), rows.of_splits("train")
    if not train.any():
        return
    unknown = rows.of_splits(*HELD_OUT_OF_KNOWN) & (codes >= 0) & ~np.isin(codes, codes[train])
    add_rows(rows, "split.creature", np.flatnonzero(unknown), lambda row: _text_of(rows.creatures, row), found)


def _check_balance(rows: Remembered, found: Findings) -> None:
    """Creatures whose rows of `train` are more than five times those of the median creature, or fewer than a fifth.

    The places are the creatures' first rows, the most unbalanced creatures first.
    """
    train = np.flatnonzero(rows.of_splits("train") & (rows.creatures.codes() >= 0))
    _, first, counts = np.unique(rows.creatures.codes()[train], return_index=True, return_counts=True)
    if len(counts) < FEWEST_FOR_MEDIAN:
        return
    median = float(np.median(counts))
    far = _far(counts, median)
    away = np.abs(np.log(counts / median))
    order = sorted(np.flatnonzero(far).tolist(), key=lambda place: (-away[place], first[place]))
    told = {int(train[first[place]]): int(counts[place]) for place in order}

    def describe(row: int) -> str:
        return f"{_text_of(rows.creatures, row)}: {told[row]:,} rows, {median:g} are usual"

    add_rows(rows, "balance", np.asarray(list(told), dtype=np.int64), describe, found)


def _far(counts: NDArray[np.int64], median: float) -> NDArray[np.bool_]:
    """Beyond five times the median or below a fifth of it, and not by chance (a count's deviation is its root)."""
    often: NDArray[np.bool_] = (counts > FAR * median) & (counts - median >= LEAST_MORE)
    rare: NDArray[np.bool_] = (counts * FAR < median) & (median - counts > LEAST_DEVIATIONS * np.sqrt(median))
    return often | rare
