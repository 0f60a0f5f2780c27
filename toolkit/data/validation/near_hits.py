"""Which of the words that are nearly a name are no ordinary words: known when all rows of a dataset were read."""

from __future__ import annotations

import sys
from array import array
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from toolkit.data.near_names import WORD
from toolkit.data.validation.across import add_rows
from toolkit.data.validation.findings import Findings
from toolkit.data.validation.remembered import Remembered

# A word that this many others use; two are enough to tell that there is one beside the row's own.
OWNERS = 2


class NearHits:
    """Rows and the word in each that is nearly its name."""

    def __init__(self) -> None:
        self._rows = array("q")
        self._hits: list[tuple[str, str]] = []

    def add(self, row: int, hit: tuple[str, str]) -> None:
        """Note a row's word and the excerpt around it."""
        self._rows.append(row)
        self._hits.append((sys.intern(hit[0]), hit[1]))

    def finish(self, rows: Remembered, found: Findings) -> None:
        """Note the rows whose word no other creature's description has in lower case."""
        if not self._hits:
            return
        owners = _owners(rows)
        users = _users({word.lower() for word, _ in self._hits}, rows, owners)
        kept = [
            place
            for place, (row, (word, _)) in enumerate(zip(self._rows, self._hits, strict=True))
            if not users[word.lower()] - {int(owners[row])}
        ]
        texts = {self._rows[place]: self._hits[place][1] for place in kept}
        add_rows(rows, "leak.near-name", np.asarray(list(texts), dtype=np.int64), texts.__getitem__, found)


def _owners(rows: Remembered) -> NDArray[np.int64]:
    """Who a row is about: its family, else its creature, else its answer."""
    families, creatures = rows.families.codes(), rows.creatures.codes()
    if (families >= 0).all():
        return families
    return creatures if (creatures >= 0).all() else rows.answer.view(np.int64)


def _users(words: set[str], rows: Remembered, owners: NDArray[np.int64]) -> dict[str, set[int]]:
    """The owners of descriptions that have a word in lower case, no more than are needed."""
    users: dict[str, set[int]] = defaultdict(set)
    row = 0
    for chunk in rows.descriptions.column().chunks:
        for text in chunk.to_pylist():
            for word in words.intersection(WORD.findall(text)):
                if len(users[word]) < OWNERS:
                    users[word].add(int(owners[row]))
            row += 1
    return users
