"""Rows of a table in text: delimited, JSON lines or a JSON list, plain or gzipped. Knows nothing of what they mean.

A row's number is that of the line where it begins, as an editor shows it; in a JSON list, its place in the list.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

from toolkit.core.errors import InputError
from toolkit.data.sources.encodings import asked_encoding, detected_encoding, not_decodable, perhaps_utf16

DELIMITED = (".csv", ".tsv")
JSON = (".jsonl", ".ndjson", ".json")
MAX_CELL = 10_000_000
"""Characters. A line may have twice as many."""

Row = tuple[int, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class TextTable:
    """A file, and what is known of it before its rows are read."""

    path: Path
    kind: str
    encoding: str
    delimiter: str = ""
    notes: tuple[str, ...] = ()


def open_text_table(path: Path, kind: str, encoding: str | None) -> TextTable:
    """What has to be known to read a file: its encoding, unless it is given, and what separates its columns.

    Raises:
        InputError: An unknown encoding, none that fits, or a damaged file.
    """
    asked = asked_encoding(encoding) if encoding is not None else None
    with _errors(path, "utf-8"):
        table = TextTable(path, kind, asked or detected_encoding(lambda: _binary(path), path))
    notes = [] if asked or table.encoding.startswith("utf-8") else [f"read as {table.encoding}"]
    if kind in JSON:
        return TextTable(path, kind, table.encoding, "", tuple(notes))
    delimiter = "\t" if kind == ".tsv" else _delimiter(table)
    if kind == ".csv" and delimiter != ",":
        notes.append(f"columns are separated by {delimiter!r}")
    return TextTable(path, kind, table.encoding, delimiter, tuple(notes))


def text_columns(table: TextTable) -> list[str]:
    """The columns of a file, from its header or first object.

    Raises:
        InputError: The file is empty or damaged, or has two columns of one name.
    """
    with _lines(table) as lines:
        if table.kind in DELIMITED:
            _, header = next(_delimited(table, lines))
            return [name for name in header if name]
        first = next(_objects(table, lines), None)
    if first is None:
        raise InputError(f"{table.path} is empty.", "Give a table with at least one row.")
    return list(first[1])


def text_rows(table: TextTable, needed: Sequence[str]) -> Iterator[Row]:
    """Every row that is not blank, by column, with its number.

    Args:
        needed: What every object of a JSON file must have.

    Raises:
        InputError: A row that can not be read; says which.
    """
    with _lines(table) as lines:
        if table.kind in DELIMITED:
            rows = _delimited(table, lines)
            _, header = next(rows)
            yield from ((number, dict(zip(header, cells, strict=True))) for number, cells in rows)
            return
        for number, row in _objects(table, lines):
            missing = [name for name in needed if name not in row]
            if missing:
                raise InputError(f"{table.path}, row {number} has no {missing[0]!r}.", "Correct the row, or remove it.")
            yield number, row


def _delimiter(table: TextTable) -> str:
    """What separates a CSV file's columns: the comma, unless the header has columns only by another mark."""
    with _lines(table) as lines:
        header = next((line for line in lines if line.strip()), "")
    columns = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in ",;\t|"}
    best = max(columns, key=lambda mark: columns[mark])
    return "," if columns[","] > 1 else best


def _delimited(table: TextTable, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """The header, then every row that is not blank, each as long as the header."""
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(lines, delimiter=table.delimiter, strict=True)
    header: list[str] | None = None
    for number, cells in _numbered(table, reader):
        if header is None:
            header = cells = _header(table, cells)
        elif len(cells) != len(header):
            raise InputError(
                f"{table.path}, row {number} has {len(cells)} fields where the header has {len(header)}.",
                "Correct the row; texts with the delimiter or line breaks in them need double quotes.",
            )
        yield number, cells
    if header is None:
        raise InputError(f"{table.path} is empty.", "Give a table with a header and at least one row.")


def _numbered(table: TextTable, reader: Any) -> Iterator[tuple[int, list[str]]]:
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{table.path}, row {number} can not be read: {error}.", "Look for a double quote too many or too few."
            ) from error
        if cells is None:
            return
        if cells:
            yield number, cells


def _header(table: TextTable, cells: list[str]) -> list[str]:
    """The header's names. Those that are blank, as for a numbering of the rows, can not be chosen and may repeat."""
    names = [name.strip() for name in cells]
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise InputError(f"{table.path} has the column {repeated[0]!r} twice.", "Rename one of them.")
    if any("\0" in name for name in names):
        raise perhaps_utf16(table.path)
    return names


def _objects(table: TextTable, lines: Iterator[str]) -> Iterator[Row]:
    if table.kind == ".json":
        text = "".join(lines)
        if text.lstrip().startswith("["):
            values = _parsed(table, 1, text)
            yield from ((number, _object(table, number, value)) for number, value in enumerate(values, 1))
            return
        lines = iter(text.split("\n"))
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _object(table, number, _parsed(table, number, line))


def _parsed(table: TextTable, number: int, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = f": {error}" if isinstance(error, _RepeatedKeyError) else ""
        raise InputError(
            f"{table.path}, row {number} is not JSON{reason}.", "Write one JSON object on each line."
        ) from error


def _object(table: TextTable, number: int, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{table.path}, row {number} is not a JSON object.", "Write one JSON object on each line.")
    return value


class _RepeatedKeyError(ValueError):
    """An object says one thing twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(f"it has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


@contextmanager
def _lines(table: TextTable) -> Iterator[Iterator[str]]:
    """The file's lines, without a byte-order mark; what can go wrong while they are read becomes an InputError."""
    newline = "" if table.kind in DELIMITED else "\n"
    with (
        _errors(table.path, table.encoding),
        _binary(table.path) as binary,
        TextIOWrapper(binary, table.encoding, newline=newline) as stream,
    ):
        yield _bounded(stream, table.path)


def _bounded(stream: TextIOWrapper, path: Path) -> Iterator[str]:
    number = 0
    while line := stream.readline(2 * MAX_CELL):
        number += 1
        if len(line) == 2 * MAX_CELL and not line.endswith(("\n", "\r")):
            raise InputError(f"{path}, row {number} is longer than {2 * MAX_CELL:,} characters.", "Shorten its texts.")
        yield line.removeprefix("\ufeff") if number == 1 else line


def _binary(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


@contextmanager
def _errors(path: Path, encoding: str) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        raise not_decodable(lambda: _binary(path), path, encoding) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path} is damaged: its gzip stream ends too early or is none.", "Get the file again."
        ) from error
    except OSError as error:
        raise InputError(
            f"{path} can not be read: {error.strerror or error}.", "Check the path and its permissions."
        ) from error
