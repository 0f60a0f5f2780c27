"""Tables in files: CSV, TSV, JSON lines, JSON and Parquet, the text formats also gzipped, one file or a pattern.

Every cell of a text file is a text: `NA`, `007` and `TRUE` are names like any other. A row's number is that of the line
where it begins, as an editor shows it; in a JSON list and in Parquet its place, from 1.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from charset_normalizer import from_bytes

from toolkit.core.errors import InputError, library_errors
from toolkit.core.folder import json_hash, sha256_file
from toolkit.core.recipe import SourceSettings
from toolkit.data.sources.records import Columns, Record, SourceFacts, choose_columns, records_of, refuse_other_settings

DELIMITED = (".csv", ".tsv")
JSON = (".jsonl", ".ndjson", ".json")
PARQUET = ".parquet"
KINDS = (*DELIMITED, *JSON, PARQUET)
SETTINGS = ("location", "description_column", "name_column", "name_language", "family_column", "encoding")

# Encodings of Korean and English tables: with all that exist to choose from, short western texts are often misread.
UNICODE = ["utf_16", "utf_16_le", "utf_16_be", "utf_32"]
WINDOWS = ["utf_8", "cp949", "cp1252"]
# Read for the detection of an encoding: 100 lines before the first one that is not UTF-8, and 1 MiB after it.
LINES_BEFORE, SAMPLE = 100, 1 << 20
BATCH_ROWS = 4096

TableRow = tuple[int, Mapping[str, object]]


class _Table(NamedTuple):
    """A file, and what is known of it before its rows are read."""

    path: Path
    kind: str
    encoding: str
    delimiter: str
    notes: tuple[str, ...]


def read_table(source: SourceSettings, languages: Sequence[str]) -> tuple[SourceFacts, Iterator[Record]]:
    """The rows of every file that `location` names, in the order of the files' names.

    `location` is a file or a pattern (`*`, `?`, `[...]`, and `**` for folders at any depth).

    Raises:
        InputError: No file, an unknown format or encoding, a missing column; while iterating, a damaged file with its
            row.
    """
    refuse_other_settings(source, *SETTINGS)
    paths, location = _find(source.location)
    tables = {name: _opened(path, source.encoding) for name, path in paths.items()}
    with library_errors(f"{source.location} cannot be read", "Check the permissions of its files."):
        hashes = {name: sha256_file(path) for name, path in paths.items()}
    chosen = {
        name: choose_columns(_columns(table), source, str(table.path), may_grow=table.kind in JSON)
        for name, table in tables.items()
    }
    notes = tuple(f"{name}: {note}" for name, table in tables.items() for note in table.notes)
    facts = SourceFacts("table", location, None, "other", json_hash(hashes), notes)

    def records() -> Iterator[Record]:
        for name, table in tables.items():
            for number, row in _rows(table, chosen[name]):
                where = f"{table.path}, row {number}"
                yield from records_of(row, chosen[name], facts, languages, f"{name}:{number}", where)

    return facts, records()


def _find(location: str | None) -> tuple[dict[str, Path], str]:
    """The files by the names that may be published, in their order, and the same for the location as a whole.

    A name is what the pattern's wildcards stand for, folders included: files in two folders may be called the same.
    """
    remedy = "Name a file, or a pattern such as 'data/*.csv', in `location`."
    if not location:
        raise InputError("The source table needs a file.", remedy)
    pattern = Path(location)
    base = next((folder for folder in pattern.parents if not re.search(r"[*?\[]", str(folder))), pattern)
    try:
        found = () if pattern.is_dir() else base.glob(str(pattern.relative_to(base)))
        paths = sorted(path for path in found if not path.is_dir())
    except (OSError, ValueError) as error:
        raise InputError(f"{location} cannot be searched for: {error}.", remedy) from error
    if pattern.is_file():
        paths, base = [pattern], pattern.parent
    if not paths:
        raise InputError(f"{location} {'is a folder' if pattern.is_dir() else 'matches no file'}.", remedy)
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is not a regular file, or is a broken link.", remedy)
        if _kind(path) not in KINDS:
            formats = f"Use {', '.join(KINDS)}; all but the last may end in .gz too."
            raise InputError(f"{path} is not a table that pkt reads.", formats)
    return {_readable(path.relative_to(base)): path for path in paths}, _readable(pattern.relative_to(base))


def _kind(path: Path) -> str:
    name = path.name.lower()
    inner = Path(name.removesuffix(".gz")).suffix
    return "" if inner == PARQUET and name.endswith(".gz") else inner


def _readable(path: Path) -> str:
    """A path as text that can be written: a file name need not be UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")


def _opened(path: Path, asked: str | None) -> _Table:
    kind, notes = _kind(path), []
    encoding = "" if kind == PARQUET else _known(asked) if asked is not None else _detected(path)
    if asked is None and encoding not in ("", "utf-8"):
        notes.append(f"read as {encoding}")
    delimiter = _delimiter(path, encoding) if kind == ".csv" else "\t"
    if kind == ".csv" and delimiter != ",":
        notes.append(f"columns are separated by {delimiter!r}")
    return _Table(path, kind, encoding, delimiter, tuple(notes))


def _columns(table: _Table) -> list[str]:
    """The columns of a file, from its schema, header or first object."""
    if table.kind == PARQUET:
        import pyarrow.parquet

        with _read_errors(table.path, "is not a readable Parquet file"):
            return list(pyarrow.parquet.read_schema(table.path).names)
    first = next(_objects(table) if table.kind in JSON else _delimited(table), None)
    if first is None:
        raise InputError(f"{table.path} is empty.", "Give a table with at least one row.")
    return list(first[1])


def _rows(table: _Table, columns: Columns) -> Iterator[TableRow]:
    """Every row that is not blank, by column, with its number."""
    if table.kind == PARQUET:
        yield from _parquet_rows(table.path, columns.all)
    elif table.kind in DELIMITED:
        yield from _delimited(table)
    for number, row in _objects(table) if table.kind in JSON else ():
        if missing := [name for name in columns.chosen if name not in row]:
            raise InputError(f"{table.path}, row {number} has no {missing[0]!r}.", "Correct the row, or remove it.")
        yield number, row


def _read_errors(path: Path, what: str = "cannot be read") -> AbstractContextManager[None]:
    return library_errors(f"{path} {what}", "Check its permissions, or get the file again.")


def _parquet_rows(path: Path, columns: list[str]) -> Iterator[TableRow]:
    import pyarrow.parquet

    number = 0
    with (
        _read_errors(path, "is not a readable Parquet file"),
        pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield number, row


def _delimiter(path: Path, encoding: str) -> str:
    """What separates a CSV file's columns: the comma, unless only another mark splits the header."""
    header = next((line for line in _lines(path, encoding) if line.strip()), "")
    columns = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in ",;\t|"}
    return "," if columns[","] > 1 else max(columns, key=lambda mark: columns[mark])


def _delimited(table: _Table) -> Iterator[TableRow]:
    """The rows below the header. Columns without a name, as for a numbering of the rows, are left out."""
    reader = csv.reader(_lines(table.path, table.encoding), delimiter=table.delimiter, strict=True)
    header: list[str] = []
    number = 1
    try:
        for cells in reader:
            if not header:
                header = [name.strip() for name in cells]
                if repeated := [name for name in header if name and header.count(name) > 1]:
                    raise InputError(f"{table.path} has the column {repeated[0]!r} twice.", "Rename one of them.")
            elif cells and len(cells) != len(header):
                raise InputError(
                    f"{table.path}, row {number} has {len(cells)} fields where the header has {len(header)}.",
                    "Correct the row; texts with the delimiter or line breaks in them need double quotes.",
                )
            elif cells:
                yield number, {name: cell for name, cell in zip(header, cells, strict=True) if name}
            number = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{table.path}, row {number} cannot be read: {error}.", "Look for a double quote too many or too few."
        ) from error


def _objects(table: _Table) -> Iterator[TableRow]:
    """The objects of JSON lines, or of a JSON list."""
    values: Iterator[tuple[int, str]] = enumerate(_lines(table.path, table.encoding), 1)
    if table.kind == ".json":
        text = "".join(line for _, line in values)
        if text.lstrip().startswith("["):
            yield from _checked(table, enumerate(_parsed(table, 1, text), 1))
            return
        values = enumerate(text.split("\n"), 1)
    yield from _checked(table, ((number, _parsed(table, number, line)) for number, line in values if line.strip()))


def _parsed(table: _Table, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{table.path}, row {number} is not JSON.", "Write one JSON object on each line.") from error


def _checked(table: _Table, values: Iterator[tuple[int, object]]) -> Iterator[TableRow]:
    for number, value in values:
        if not isinstance(value, dict):
            raise InputError(f"{table.path}, row {number} is not a JSON object.", "Write one JSON object on each line.")
        yield number, value


def _binary(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """The file's lines, without a byte-order mark."""
    with _read_errors(path), _binary(path) as binary, TextIOWrapper(binary, encoding, newline="") as stream:
        try:
            yield next(stream, "").removeprefix("\ufeff")
            yield from stream
        except UnicodeError as error:
            raise _undecodable(path, encoding) from error


def _known(encoding: str) -> str:
    """The encoding that a user names, if Python knows it."""
    try:
        return TextIOWrapper(BytesIO(), encoding).encoding
    except (LookupError, ValueError) as error:
        raise InputError(
            f"The encoding {encoding!r} is not known.", "Name one like utf-8, cp949 or cp1252 in `encoding`."
        ) from error


def _detected(path: Path) -> str:
    """The encoding of a file: UTF-8 when all of it is, else the likeliest of a few."""
    with _read_errors(path), _binary(path) as stream:
        lines: deque[bytes] = deque(maxlen=LINES_BEFORE)
        for line in stream:
            lines.append(line)
            # A header with null characters is UTF-16, whose bytes can all be UTF-8 too.
            if not _is_utf8(line) or (b"\0" in line and len(lines) == 1):
                break
        else:
            return "utf-8"
        sample = b"".join(lines) + stream.read(SAMPLE) + stream.readline()
    if sample.startswith((b"PK\x03\x04", b"\x1f\x8b", b"PAR1")):
        raise InputError(f"{path} is an Excel, ZIP or Parquet file, whatever its name says.", "Save it as CSV.")
    best = from_bytes(sample, cp_isolation=UNICODE if b"\0" in sample else WINDOWS).best()
    if best is None or best.encoding == "utf_8":
        raise _undecodable(path, "utf-8")
    return str(best.encoding).replace("_", "-")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _undecodable(path: Path, encoding: str) -> InputError:
    """The error for a file that is not in an encoding: says the row and the byte of the first place."""
    found, start = f"{path} is not {encoding.upper()}.", 0
    with _binary(path) as stream:
        for row, line in enumerate(stream, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                place = f"byte 0x{line[error.start]:02x} at {start + error.start}"
                found = f"{path}, row {row} is not {encoding.upper()}: {place}."
                break
            start += len(line)
    return InputError(found, "Correct that place, or name the encoding of the file in `encoding`.")
