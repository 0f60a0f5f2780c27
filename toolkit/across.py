"""The validator's checks that compare rows: repeated texts, families and creatures over splits, repeated ids."""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from typing import Any

from toolkit.duplicates import cluster_texts, normal_text
from toolkit.findings import Findings
from toolkit.recipe import DatasetSettings

HELD_OUT_OF_KNOWN = ("validation", "test")


class AcrossRows:
    """What must be remembered of every row: of a million rows, about 300 MB with their texts."""

    def __init__(self, found: Findings, columns: set[str]) -> None:
        self._found = found
        self._columns = columns
        self._splits: list[str] = []
        self._ids: set[bytes] = set()
        # Hash of a text -> where it was first: place in the lists below.
        self._first: dict[bytes, int] = {}
        self._texts: list[str] = []
        self._split_of = array("i")
        self._row_of = array("q")
        self._id_of: list[str | None] = []
        self._answers: list[bytes] = []
        self._families: dict[str, dict[str, list[tuple[int, str | None]]]] = defaultdict(dict)
        self._creatures: dict[str, dict[str, list[tuple[int, str | None]]]] = defaultdict(dict)

    def add(self, row: dict[str, Any], split: str, number: int, prompt: str, answer: str | None) -> None:
        """Remember a row; repeated texts and ids are found at once."""
        if split not in self._splits:
            self._splits.append(split)
        id = row.get("id")
        if id is not None:
            digest = _digest(id)
            if digest in self._ids:
                self._found.add("schema.id", split, number, id, id)
            self._ids.add(digest)
        for groups, column in ((self._families, "family"), (self._creatures, "creature")):
            if row.get(column):
                groups[row[column]].setdefault(split, []).append((number, id))
        self._add_text(row.get("description") or prompt, split, number, id, _digest(answer or ""))

    def _add_text(self, text: str, split: str, number: int, id: str | None, answer: bytes) -> None:
        key = _digest(normal_text(text))
        first = self._first.get(key)
        if first is None:
            self._first[key] = len(self._texts)
            self._texts.append(text)
            self._split_of.append(self._splits.index(split))
            self._row_of.append(number)
            self._id_of.append(id)
            self._answers.append(answer)
            return
        where = f"as {self._splits[self._split_of[first]]} row {self._row_of[first]}: {text}"
        if self._splits[self._split_of[first]] != split:
            self._found.add("dup.exact", split, number, id, where)
        elif self._answers[first] == answer:
            self._found.add("dup.exact-within", split, number, id, where)
        if self._answers[first] != answer:
            self._found.add("label.conflict", split, number, id, where)

    def finish(self) -> None:
        """Find what only all rows together show."""
        self._check_near()
        for family, by_split in sorted(self._families.items()):
            if "unseen" in by_split:
                for split, rows in by_split.items():
                    if split != "unseen":
                        for number, id in rows:
                            self._found.add("split.family", split, number, id, family)
        if "train" not in self._splits:
            return
        for creature, by_split in sorted(self._creatures.items()):
            if "train" not in by_split:
                for split in HELD_OUT_OF_KNOWN:
                    for number, id in by_split.get(split, ()):
                        self._found.add("split.creature", split, number, id, creature)

    def _check_near(self) -> None:
        if len(self._splits) < 2:
            return
        clusters = cluster_texts(self._texts, DatasetSettings().near_duplicate)
        members: dict[int, list[int]] = defaultdict(list)
        for place, cluster in enumerate(clusters):
            members[cluster].append(place)
        for first, places in members.items():
            for place in places:
                if self._split_of[place] != self._split_of[first]:
                    where = (
                        f"like {self._splits[self._split_of[first]]} row {self._row_of[first]}: {self._texts[place]}"
                    )
                    split = self._splits[self._split_of[place]]
                    self._found.add("dup.near", split, self._row_of[place], self._id_of[place], where)

    def skipped(self) -> dict[str, str]:
        """Checks that need splits which there are not, and why they could not be done."""
        reasons: dict[str, str] = {}
        if len(self._splits) < 2:
            reasons |= {"dup.exact": "only one split", "dup.near": "only one split"}
        if "family" in self._columns and "unseen" not in self._splits:
            reasons["split.family"] = "no split `unseen`"
        if "creature" in self._columns and not set(self._splits) & set(HELD_OUT_OF_KNOWN):
            reasons["split.creature"] = "no split `validation` or `test`"
        return reasons


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
