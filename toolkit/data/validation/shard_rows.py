"""The rows of a Parquet file of chat rows, as far as they can be read. Knows nothing of what is right in a row."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.data.validation.findings import Findings
from toolkit.data.validation.shards import MOST_ROWS, Shard, damage, said

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 2_000
BATCH_BYTES = 32_000_000


class Turn(NamedTuple):
    """A message; None where the file has null."""

    role: str | None
    content: str | None


@dataclass(slots=True)
class Row:
    """A row as a file holds it: `number` counts from 0 within the split, `turns` is None where there are none."""

    number: int
    turns: list[Turn] | None
    values: dict[str, str | None]


def read_batches(shard: Shard, first: int, found: Findings) -> Iterator[list[Row]]:
    """The rows of a file, as far as they can be read; the rest is found. `first` is the number of its first row.

    Memory is that of a few thousand rows, or of a few dozen megabytes when they are long.
    """
    import pyarrow.parquet

    number = first
    try:
        with pyarrow.parquet.ParquetFile(shard.path) as file:
            for group in range(file.num_row_groups):
                rows = max(0, min(file.metadata.row_group(group).num_rows, MOST_ROWS))
                yield from _read_group(file, group, number, shard, found)
                number += rows
    except damage() as error:
        found.add("schema.file", shard.split, number, text=f"{shard.name}: {said(error, shard.path)}")


def _read_group(file: Any, group: int, first: int, shard: Shard, found: Findings) -> Iterator[list[Row]]:
    facts = file.metadata.row_group(group)
    size = max(1, min(BATCH_ROWS, BATCH_BYTES * facts.num_rows // max(facts.total_byte_size, 1)))
    number = first
    try:
        for batch in file.iter_batches(size, row_groups=[group], columns=["messages", *shard.columns]):
            rows = _rows(batch, number, shard, found)
            number += len(rows)
            yield rows
    except damage() as error:
        lost = first + facts.num_rows - number
        text = f"{shard.name}: {lost:,} rows can not be read: {said(error, shard.path)}"
        found.add("schema.file", shard.split, number, text=text)


def _rows(batch: pyarrow.RecordBatch, first: int, shard: Shard, found: Findings) -> list[Row]:
    names = batch.schema.names
    values = {}
    for name in shard.columns:
        values[name], broken = _texts(batch.column(names.index(name)))
        for place in broken:
            found.add("schema.text", shard.split, first + place, text=f"`{name}`: {values[name][place]}")
    turns, broken = _turns(batch.column(names.index("messages")))
    for place in broken:
        found.add("schema.text", shard.split, first + place, text="`messages`")
    columns = list(values.values())
    return [
        Row(first + place, turns[place], dict(zip(shard.columns, row, strict=True)))
        for place, row in enumerate(zip(*columns, strict=True) if columns else ((),) * len(turns))
    ]


def _turns(column: Any) -> tuple[list[list[Turn] | None], list[int]]:
    """The turns of each row, and the rows that hold texts which are not UTF-8."""
    import pyarrow.compute as compute

    flat = compute.list_flatten(column)
    names = [field.name for field in flat.type]
    roles, broken_roles = _texts(compute.struct_field(flat, [names.index("role")]))
    contents, broken_contents = _texts(compute.struct_field(flat, [names.index("content")]))
    rows: list[list[Turn] | None] = []
    starts = []
    start = 0
    for length in compute.list_value_length(column).to_pylist():
        starts.append(start)
        end = start + (length or 0)
        rows.append(None if length is None else list(map(Turn, roles[start:end], contents[start:end])))
        start = end
    broken = {_row_at(starts, place) for place in (*broken_roles, *broken_contents)}
    return rows, sorted(broken)


def _row_at(starts: list[int], place: int) -> int:
    """The row whose turns hold the one at a place; rows without turns begin where the next one does."""
    return bisect_right(starts, place) - 1


def _texts(column: Any) -> tuple[list[str | None], list[int]]:
    """The texts of a column, and the places of those that are not UTF-8; of these, what can be read."""
    import pyarrow
    import pyarrow.types as types

    column = getattr(column, "storage", column)
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_integer(column.type):
        column = column.cast(pyarrow.string())
    try:
        return column.to_pylist(), []
    except UnicodeDecodeError:
        return _decoded(column.cast(pyarrow.large_binary()).to_pylist())


def _decoded(values: list[bytes | None]) -> tuple[list[str | None], list[int]]:
    texts: list[str | None] = []
    broken = []
    for place, value in enumerate(values):
        text = None if value is None else value.decode("utf-8", "replace")
        texts.append(text)
        if value is not None and text is not None and text.encode() != value:
            broken.append(place)
    return texts, broken
