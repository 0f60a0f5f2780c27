"""Tables in files: CSV, TSV, JSON lines and Parquet, the text formats also gzipped, one file or a pattern of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from toolkit.errors import InputError
from toolkit.folder import json_hash, sha256_file
from toolkit.recipe import DatasetSettings
from toolkit.record import Record
from toolkit.sources.columns import Columns, choose_columns, record_of
from toolkit.sources.facts import SourceFacts, wanted_languages

DELIMITERS = {".csv": ",", ".tsv": "\t"}
KINDS = (*DELIMITERS, ".jsonl", ".ndjson", ".parquet")
BATCH_ROWS = 4096
MAX_CELL = 10_000_000

Row = tuple[int, Mapping[str, object]]


def read_table(settings: DatasetSettings) -> tuple[Iterator[Record], SourceFacts]:
    """The rows of every file that `location` names, in the order of the files' names.

    Raises:
        InputError: No file, an unknown format, a missing column; while iterating, a damaged file with its row.
    """
    paths = _paths(settings.location)
    languages = wanted_languages(settings)
    try:
        hashes = {path.name: sha256_file(path) for path in paths}
    except OSError as error:
        raise InputError(
            f"{error.filename} can not be read: {error.strerror}.", "Check the path and its rights."
        ) from error
    chosen = [choose_columns(_columns(path), settings, str(path)) for path in paths]
    location = paths[0].name if len(paths) == 1 else Path(settings.location or "").name
    facts = SourceFacts("table", location, settings.revision, "other", json_hash(hashes))
    return _records(paths, chosen, languages), facts


def _paths(location: str | None) -> list[Path]:
    if location is None:
        raise InputError("The source table needs a file.", "Name one, or a pattern such as 'data/*.csv', with --from.")
    pattern = Path(location)
    paths = [pattern] if pattern.is_file() else [path for path in sorted(_glob(pattern)) if path.is_file()]
    if not paths:
        what = "is a folder" if Path(location).is_dir() else "matches no file"
        raise InputError(f"{location} {what}.", "Name a file, or a pattern such as 'data/*.csv', with --from.")
    for path in paths:
        if _kind(path) not in KINDS:
            raise InputError(
                f"{path} is not a table that pkt reads.", f"Use {', '.join(KINDS)}; text ones may end in .gz."
            )
    return paths


def _glob(pattern: Path) -> Iterable[Path]:
    relative = pattern.relative_to(pattern.anchor) if pattern.anchor else pattern
    return Path(pattern.anchor or ".").glob(relative.as_posix()) if relative.parts else ()


def _kind(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _records(paths: list[Path], chosen: list[Columns], languages: Sequence[str]) -> Iterator[Record]:
    for path, columns in zip(paths, chosen, strict=True):
        for number, row in _rows(path, columns):
            yield record_of(row, columns, languages, "table", f"{path.name}:{number}", "other")


def _columns(path: Path) -> list[str]:
    """The columns of a file, from its header, schema or first object."""
    if _kind(path) == ".parquet":
        import pyarrow.parquet

        with _parquet_errors(path):
            return list(pyarrow.parquet.read_schema(path).names)
    with _lines(path) as stream:
        if _kind(path) in DELIMITERS:
            return next((header for _, header in _delimited(path, stream)), [])
        first = next(_objects(path, stream), None)
    if first is None:
        raise InputError(f"{path} is empty.", "Give a table with at least one row.")
    return list(first[1])


def _rows(path: Path, columns: Columns) -> Iterator[Row]:
    if _kind(path) == ".parquet":
        yield from _parquet_rows(path, columns)
        return
    with _lines(path) as stream:
        if _kind(path) in DELIMITERS:
            rows = _delimited(path, stream)
            _, header = next(rows)
            yield from ((line, dict(zip(header, cells, strict=True))) for line, cells in rows)
        else:
            for line, row in _objects(path, stream):
                missing = [name for name in (columns.description, columns.name) if name not in row]
                if missing:
                    raise InputError(f"{path}, row {line} has no {missing[0]!r}.", "Correct the row, or remove it.")
                yield line, row


@contextmanager
def _lines(path: Path) -> Iterator[IO[str]]:
    """The file as text; what can go wrong while it is read becomes an InputError."""
    try:
        with _text(path) as stream:
            yield stream
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path} is damaged: its gzip stream ends too early or is none.", "Get the file again."
        ) from error
    except csv.Error as error:
        raise InputError(f"{path} is not a readable table: {error}.", "Save it as CSV in UTF-8 again.") from error


def _text(path: Path) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _binary(path: Path) -> io.BufferedIOBase:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def _not_utf8(path: Path) -> InputError:
    """Says where: the first line that is not UTF-8."""
    start = 0
    with _binary(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                place = start + error.start
                return InputError(
                    f"{path}, row {number} is not UTF-8: byte 0x{line[error.start]:02x} at {place}.",
                    "Save the table as UTF-8.",
                )
            start += len(line)
    return InputError(f"{path} is not UTF-8.", "Save the table as UTF-8.")


def _delimited(path: Path, stream: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """The header, then every row that is not blank, each as long as the header, with its line number."""
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(stream, delimiter=DELIMITERS[_kind(path)], strict=True)
    header: list[str] | None = None
    for cells in reader:
        if header is None:
            header = cells
            repeated = sorted({name for name in header if header.count(name) > 1})
            if repeated:
                raise InputError(f"{path} has the column {repeated[0]!r} twice.", "Rename one of them.")
        elif cells and len(cells) != len(header):
            raise InputError(
                f"{path}, row {reader.line_num} has {len(cells)} fields where the header has {len(header)}.",
                "Correct the row; texts with the delimiter or line breaks in them need double quotes.",
            )
        if cells:
            yield reader.line_num, cells
    if header is None:
        raise InputError(f"{path} is empty.", "Give a table with a header and at least one row.")


def _objects(path: Path, stream: IO[str]) -> Iterator[Row]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, row {number} is not JSON.", "Write one JSON object on each line.") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {number} is not a JSON object.", "Write one JSON object on each line.")
        yield number, row


def _parquet_rows(path: Path, columns: Columns) -> Iterator[Row]:
    import pyarrow.parquet

    number = 0
    with _parquet_errors(path), pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=columns.all):
            for row in batch.to_pylist():
                number += 1
                yield number, row


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is not a readable Parquet file: it is damaged or cut short.", "Get the file again."
        ) from error
