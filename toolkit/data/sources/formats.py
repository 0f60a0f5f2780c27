"""One file of rows: CSV, TSV, JSON, JSON lines or Parquet, the text formats also gzipped; or a text on each line.

Every cell of a text file is a text: `007` and `TRUE` are names like any other. A row's number is that of the line where
it begins, as an editor shows it; in a JSON list and in Parquet its place, from 1.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from toolkit.core.errors import InputError
from toolkit.core.layout import JSON, PARQUET
from toolkit.data.sources import records
from toolkit.data.sources.text_files import encoding_of, file_lines, read_errors

DELIMITED = (".csv", ".tsv")
KINDS = (*DELIMITED, *JSON, PARQUET)
STANDARD_INPUT = Path("-")
BATCH_ROWS = 4096

# How quotes may be read, as it is said; the first is what the format says. Only tabs tell columns apart without quotes.
ESCAPED = r"\" is a double quote in a text"
LETTERS = "double quotes are letters like any other"
QUOTES = ("", ESCAPED, LETTERS)
# How JSON begins, and no description or name does.
_JSON_BEGINS = ('{"', '["', "[{", "[[")
_DECODER = json.JSONDecoder()
_NOT_BLANK = re.compile(r"\S")


@dataclass(frozen=True, slots=True)
class Table:
    """A file, its columns as its header, schema or first object has them, and how its rows are read."""

    path: Path
    kind: str
    columns: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    texts: bool = False
    encoding: str = ""
    delimiter: str = ""
    quotes: str = ""
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def kind_of(path: Path) -> str:
    """What the ending of a file's name says that it holds, one of `KINDS` or another; `.gz` is left out."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def open_table(path: Path, wanted: Sequence[str], encoding: str | None = None, texts: bool = False) -> Table:
    """A file of one of `KINDS`, looked at as far as it takes to know how to read it.

    Args:
        wanted: The columns by which rows are known in an object of JSON.
        encoding: None to detect it.
        texts: A text in JSON is a row too, with the first of them.

    Raises:
        InputError: It cannot be read, or holds nothing.
    """
    table = Table(path, kind_of(path), wanted=tuple(wanted), texts=texts)
    if table.kind == PARQUET:
        return _parquet(table)
    found = encoding_of(path, encoding)
    notes = () if encoding is not None or found == "utf-8" else (f"read as {found}",)
    table = replace(table, encoding=found, notes=notes)
    if table.kind in DELIMITED:
        table = _read_as(table)
    first = next(read_rows(table), None)
    if first is None:
        found = "has a header and no rows" if table.columns else "is empty"
        raise InputError(f"{path} {found}.", "Give a table with at least one row.")
    return replace(table, columns=table.columns or tuple(first[1]))


def read_rows(
    table: Table, needed: Sequence[str] = (), columns: Sequence[str] | None = None
) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Every row that is not blank, with its number.

    Args:
        needed: Columns that every row must have.
        columns: Those to read of Parquet, by default the needed ones.

    Raises:
        InputError: The file is damaged, or a row lacks a needed column; says in which row.
    """
    rows = _json_rows(table) if table.kind in JSON else _delimited(table)
    for number, row in _parquet_rows(table, columns or needed) if table.kind == PARQUET else rows:
        if missing := [column for column in needed if column not in row]:
            raise InputError(f"{table.path}, row {number} has no {missing[0]!r}.", "Correct the row, or remove it.")
        yield number, row


def read_texts(path: Path, *wanted: str, empty: bool = False) -> tuple[tuple[str, ...], Iterator[tuple[str, str]]]:
    """Notes on how a file is read, and its texts, each with its place.

    Args:
        path: A table, or a UTF-8 file with a text on each line, with or without marks of a list; `-` is standard input,
            read no further than asked for.
        wanted: The column of the texts in a table; the next where it has none. `en_text` holds `Name: description`.
        empty: Give empty texts too.

    Raises:
        InputError: It cannot be read, or has none of the columns.
    """
    if path == STANDARD_INPUT or kind_of(path) not in KINDS:
        return (), _text_lines(path, empty)
    table = open_table(path, wanted, texts=True)
    columns = (records.find_column(name, table.columns) for name in (*wanted, records.CAPTION))
    if (column := next(filter(None, columns), None)) is None:
        raise InputError(
            f"{path} has no column {wanted[0]!r}; its columns are {records.listed(table.columns)}.",
            "Rename one, or write one text on each line of a .txt file.",
        )

    return table.notes, _texts_of(table, column, "name" in wanted, empty)


def _texts_of(table: Table, column: str, names: bool, empty: bool) -> Iterator[tuple[str, str]]:
    """The texts of a column, or names, which marks of an empty cell are not."""
    numbers: set[bool] = set()
    for number, cells in read_rows(table, [column]):
        place = f"{table.path}, row {number}"
        text = records.cell_text(cells[column], column, place).strip()
        text = records.split_caption(text)[0 if names else 1] if column == records.CAPTION else text
        if (text or empty) and not (names and text in records.NOTHING):
            numbers.add(names and records.is_number(text))
            yield text, place
    records.refuse_numbers(numbers, str(table.path))


def _text_lines(path: Path, empty: bool) -> Iterator[tuple[str, str]]:
    piped = path == STANDARD_INPUT
    try:
        stream = nullcontext(sys.stdin.buffer) if piped else path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Name a file of texts.") from error
    with stream as lines:
        for number, raw in enumerate(lines, 1):
            place = f"Line {number} of {'standard input' if piped else path}"
            try:
                text = records.LEAD.sub("", raw.removeprefix(codecs.BOM_UTF8).decode(), count=1).strip()
            except UnicodeDecodeError as error:
                formats = f"Save the text as UTF-8, or a table as {', '.join(KINDS)}."
                raise InputError(f"{place} is not UTF-8.", formats) from error
            if text in ("[", "{") or text.startswith(_JSON_BEGINS):
                raise InputError(f"{place} is JSON.", f"Save it in a file that ends in {' or '.join(JSON)}.")
            if text or empty:
                yield text, place


def _parquet(table: Table) -> Table:
    import pyarrow.parquet

    with read_errors(table.path, "is not a readable Parquet file"):
        schema = pyarrow.parquet.read_schema(table.path)
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        features = {}
    return replace(table, columns=tuple(schema.names), labels=records.class_labels(features))


def _parquet_rows(table: Table, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    import pyarrow.parquet

    path, number = table.path, 0
    with (
        read_errors(path, "is not a readable Parquet file"),
        pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
            for row in batch.to_pylist():
                number += 1
                yield number, records.with_labels(row, table.labels, f"{path}, row {number}")


def _read_as(table: Table) -> Table:
    """A delimited file with its header, and the first way to read its quotes that fits the most of its rows."""
    mark = _delimiter(table) if table.kind == ".csv" else "\t"
    if table.kind == ".csv" and mark != ",":
        table = replace(table, notes=(*table.notes, f"columns are separated by {mark!r}"))
    best, furthest = table, -1.0
    for quotes in QUOTES if mark == "\t" else QUOTES[:-1]:
        tried = replace(table, delimiter=mark, quotes=quotes)
        reached, doubt = _fits(tried)
        if reached > furthest:
            best, furthest = replace(tried, notes=(*table.notes, *filter(None, (quotes, doubt)))), reached
        if reached == math.inf:
            break
    return replace(best, columns=tuple(map(str.strip, next(_cells(best), (0, [], []))[1])))


def _delimiter(table: Table) -> str:
    """The comma, unless only another mark splits the header."""
    header = next((line for line in file_lines(table.path, table.encoding) if line.strip()), "")
    columns = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in ",;\t|"}
    return "," if columns[","] > 1 else max(columns, key=lambda mark: columns[mark])


def _fits(table: Table) -> tuple[float, str]:
    """The last row before one that is damaged or has a text over what looks like rows, and the doubt; or infinity.

    Quotes are no letters where most rows have a cell in them: nothing fits then.
    """
    last = rows = quoted = 0
    try:
        for number, cells, lines in _cells(table):
            if len(lines) > 1 and all(_like_row(line, table.delimiter, len(cells)) for line in lines[1:]):
                return last, f"rows {number} to {number + len(lines) - 1} are one by quotes that may be one too many"
            last, rows = number, rows + 1
            if table.quotes == LETTERS:
                quoted += any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
    except InputError:
        return last, ""
    return (-1 if table.quotes == LETTERS and 2 * quoted > rows else math.inf), ""


def _like_row(line: str, delimiter: str, width: int) -> bool:
    """Whether a line of a text has as many columns as a row, and does not go on in lower case."""
    return width - 1 == line.count(delimiter) > 0 and not line[0].islower() and not line[0].isspace()


def _delimited(table: Table) -> Iterator[tuple[int, Mapping[str, object]]]:
    """The rows below the header. Columns without a name, as for a numbering of the rows, are left out."""
    for number, cells, _ in islice(_cells(table), 1, None):
        yield number, {name: cell for name, cell in zip(table.columns, cells, strict=True) if name}


def _cells(table: Table) -> Iterator[tuple[int, list[str], list[str]]]:
    """The header and the rows that are not blank: number, cells, and the lines that hold them."""
    held: list[str] = []

    def lines() -> Iterator[str]:
        for line in file_lines(table.path, table.encoding):
            held.append(line)
            yield line.replace('\\"', '""') if table.quotes == ESCAPED else line

    number, width = 1, 0
    letters = table.quotes == LETTERS
    reader = csv.reader(
        lines(), delimiter=table.delimiter, strict=True, quoting=csv.QUOTE_NONE if letters else csv.QUOTE_MINIMAL
    )
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and (width == 1 or cells[0].strip())):
                if width and len(cells) != width:
                    raise InputError(
                        f"{table.path}, row {number} has {len(cells)} fields where the header has {width}.",
                        "Correct the row; texts with the delimiter or line breaks in them need double quotes.",
                    )
                width = len(cells)
                yield number, cells, held
            number = reader.line_num + 1
            held.clear()
    except csv.Error as error:
        raise InputError(
            f"{table.path}, row {number} cannot be read: {error}.", "Look for a double quote too many or too few."
        ) from error


# JSON in the shapes that programs write: one object on each line, a list, or one table in an object.


def _json_rows(table: Table) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Each row; of several tables in an object, that with the most of the wanted columns is read."""
    path, wanted = table.path, table.wanted
    values = _values(path, "".join(file_lines(path, table.encoding)))
    first = list(islice(values, 2))
    rows = enumerate(_rows_of(path, first[0][1], wanted), 1) if len(first) == 1 else chain(first, values)
    for number, value in rows:
        row = {wanted[0]: value} if table.texts and isinstance(value, str) else value
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {number} is not a JSON object.", "Write one JSON object on each line.")
        yield number, row


def _values(path: Path, text: str) -> Iterator[tuple[int, object]]:
    """The JSON values of a text, each with the line where it begins."""
    line, place, found = 1, 0, _NOT_BLANK.search(text)
    while found is not None:
        line, place = line + text.count("\n", place, found.start()), found.start()
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            # In the first value the place counts, which may be all; later ones are a line each.
            if isinstance(error, json.JSONDecodeError) and not text[:place].strip():
                line += text.count("\n", place, error.pos)
            raise InputError(
                f"{path}, row {line} is not JSON.", "Write a list of objects, or one JSON object on each line."
            ) from error
        yield line, value
        found = _NOT_BLANK.search(text, end)


def _rows_of(path: Path, value: object, wanted: Sequence[str]) -> Sequence[object]:
    """The rows of a file's only value: those of the table in it that fits best, or the value itself."""
    with read_errors(path, "has columns of different lengths"):
        tables = [
            (len(_known(rows[0] if rows else None, wanted)), place, rows) for place, rows in _tables(value, wanted)
        ]
    best = [(place, rows) for fit, place, rows in tables if fit == max(fit for fit, _, _ in tables)]
    if len(best) > 1:
        raise InputError(
            f"{path} holds several tables: {records.listed([place for place, _ in best])}.",
            "Save the one to read as a list of objects.",
        )
    return best[0][1] if best else [value]


def _tables(value: object, wanted: Sequence[str], *around: str) -> Iterator[tuple[str, Sequence[object]]]:
    """The tables in a value, each with its place: a list, one row, columns by name, rows by id, or those further in."""
    if isinstance(value, list):
        yield ".".join(around), value
    if not isinstance(value, dict):
        return
    inner = list(value.values())
    if _is_row(value, wanted):
        yield ".".join(around), [value]
    elif _known(value, wanted):
        columns = {name: dict(enumerate(one)) if isinstance(one, list) else one for name, one in value.items()}
        columns = {name: list(one.values()) for name, one in columns.items() if isinstance(one, dict)}
        yield ".".join(around), [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    elif 2 * sum(_is_row(one, wanted) for one in inner) > len(inner):
        yield ".".join(around), inner
    else:
        for key, one in value.items():
            yield from _tables(one, wanted, *around, key)


def _known(row: object, wanted: Sequence[str]) -> list[str]:
    """The wanted columns that an object has."""
    names = list(row) if isinstance(row, dict) else []
    return [column for name in wanted if (column := records.find_column(name, names)) is not None]


def _is_row(value: object, wanted: Sequence[str]) -> bool:
    """Whether a wanted column of an object holds a value of one row, rather than those of all."""
    known = _known(value, wanted)
    return isinstance(value, dict) and any(not isinstance(value[column], (dict, list)) for column in known)
