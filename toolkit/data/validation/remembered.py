"""What the validator remembers of every row so that rows can be compared: of a million rows, about 400 MB.

Texts lie in Arrow buffers and everything else in arrays: a million Python objects of each kind would be gigabytes.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from toolkit.data.duplicates import normal_text

if TYPE_CHECKING:
    import pyarrow

Numbers = NDArray[np.int64]

FLUSH_ROWS = 5_000
FLUSH_CHARACTERS = 16_000_000


class Texts:
    """A column of texts, some of them missing."""

    def __init__(self) -> None:
        self._fresh: list[str | None] = []
        self._size = 0
        self._chunks: list[pyarrow.Array] = []

    def append(self, text: str | None) -> None:
        self._fresh.append(text)
        self._size += len(text or "")
        if len(self._fresh) >= FLUSH_ROWS or self._size >= FLUSH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        if self._fresh:
            self._chunks.append(pyarrow.array(self._fresh, pyarrow.large_string()))
            self._fresh, self._size = [], 0

    @classmethod
    def missing(cls, rows: int) -> Texts:
        """A column that has no text in any row."""
        import pyarrow

        column = cls()
        column._chunks.append(pyarrow.nulls(rows, pyarrow.large_string()))
        return column

    def column(self) -> pyarrow.ChunkedArray:
        """All of them as one column."""
        import pyarrow

        self._flush()
        return pyarrow.chunked_array(self._chunks, pyarrow.large_string())

    def codes(self) -> Numbers:
        """A number for each row, the same for the same text; -1 where it is missing."""
        # The chunks of a column share one dictionary.
        codes = [chunk.indices.fill_null(-1).to_numpy() for chunk in self.column().dictionary_encode().chunks]
        return np.concatenate([np.empty(0, np.int64), *codes]).astype(np.int64)


class Remembered:
    """The rows of all splits, in the order in which they were read.

    Attributes:
        splits: Names of the splits, in their order.
        split: For each row the index of its split.
        number: For each row its number within the split.
        text: Hash of the description's normal text, or of itself where it has no words; 0 where there is none.
        worded: Whether the description has words.
        answer: Hash of the answer, 0 for none.
    """

    def __init__(self, splits: Sequence[str]) -> None:
        self.splits = list(splits)
        self._index = {split: index for index, split in enumerate(splits)}
        self._split, self._number = array("b" if len(splits) < 128 else "q"), array("q")
        self._text, self._answer, self._worded = array("Q"), array("Q"), array("b")
        self.ids, self.descriptions, self.creatures, self.families = Texts(), Texts(), Texts(), Texts()

    def add(
        self,
        split: str,
        number: int,
        id: str | None,
        description: str,
        answer: str | None,
        creature: str | None,
        family: str | None,
    ) -> None:
        """Remember a row."""
        self._split.append(self._index[split])
        self._number.append(number)
        normal = normal_text(description)
        self._text.append(_hash(normal or description))
        self._worded.append(bool(normal))
        self._answer.append(_hash(answer))
        for column, value in (
            (self.ids, id),
            (self.descriptions, description),
            (self.creatures, creature),
            (self.families, family),
        ):
            column.append(value)

    def __len__(self) -> int:
        return len(self._number)

    @property
    def split(self) -> Numbers:
        return np.frombuffer(self._split, dtype=np.dtype(self._split.typecode)).astype(np.int64)

    @property
    def number(self) -> Numbers:
        return np.frombuffer(self._number, dtype=np.int64)

    @property
    def text(self) -> NDArray[np.uint64]:
        return np.frombuffer(self._text, dtype=np.uint64)

    @property
    def worded(self) -> NDArray[np.bool_]:
        return np.frombuffer(self._worded, dtype=np.bool_)

    @property
    def answer(self) -> NDArray[np.uint64]:
        return np.frombuffer(self._answer, dtype=np.uint64)

    def of_splits(self, *names: str) -> NDArray[np.bool_]:
        """Whether each row is of one of these splits."""
        return np.isin(self.split, [self.splits.index(name) for name in names if name in self.splits])


class Beginnings(Sequence[str]):
    """The first characters of some texts of a column, made when they are asked for."""

    def __init__(self, column: pyarrow.ChunkedArray, rows: Numbers, characters: int) -> None:
        self._column, self._rows, self._characters = column, rows, characters

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return Beginnings(self._column, self._rows[place], self._characters)
        return str(self._column[int(self._rows[place])])[: self._characters]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._rows), FLUSH_ROWS):
            for text in self._column.take(self._rows[start : start + FLUSH_ROWS]).to_pylist():
                yield text[: self._characters]


def _hash(text: str | None) -> int:
    if not text:
        return 0
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
