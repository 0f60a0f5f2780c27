"""Rows of a JSON file in the shapes that programs write: one object on each line, a list, or one table in an object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from toolkit.core.errors import InputError
from toolkit.data.sources.records import find_column, listed
from toolkit.data.sources.text_files import file_lines

DEEPEST = 3
"""Objects around a table."""
_DECODER = json.JSONDecoder()
_NOT_BLANK = re.compile(r"\S")

Cells = dict[str, Any]


def json_rows(path: Path, encoding: str, wanted: Sequence[str], texts: bool = False) -> Iterator[tuple[int, Cells]]:
    """Each row with its number: that of its line, or its place in a list or an object, from 1.

    Args:
        wanted: The columns by which a row is known; of several tables in an object, that with most of them is read.
        texts: Read a text as a row with the first of them.

    Raises:
        InputError: The file is not JSON, holds several tables, or something that is no row.
    """
    for number, value in _values(path, encoding, wanted):
        row = {wanted[0]: value} if texts and isinstance(value, str) else value
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {number} is not a JSON object.", "Write one JSON object on each line.")
        yield number, row


def _values(path: Path, encoding: str, wanted: Sequence[str]) -> Iterator[tuple[int, object]]:
    """Values of lines, read lazily, where the first of several lines is an object, or else of the whole."""
    lines = ((number, line) for number, line in enumerate(file_lines(path, encoding), 1) if line.strip())
    first = list(islice(lines, 2))
    if len(first) == 2 and is_json(first[0][1], dict):
        for number, line in chain(first, lines):
            yield from _parsed(path, line.strip(), number)
        return
    values = list(_parsed(path, "".join(file_lines(path, encoding)), 1))
    yield from enumerate(_rows_in(path, values[0][1], wanted), 1) if len(values) == 1 else values


def is_json(text: str, kind: type = object) -> bool:
    """Whether a text is JSON, and of that type in Python."""
    try:
        return isinstance(json.loads(text), kind)
    except (ValueError, RecursionError):
        return False


def _parsed(path: Path, text: str, line: int) -> Iterator[tuple[int, object]]:
    """The JSON values of a text, each with the line where it begins."""
    place, found = 0, _NOT_BLANK.search(text)
    while found is not None:
        line, place = line + text.count("\n", place, found.start()), found.start()
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            line += text.count("\n", place, error.pos) if isinstance(error, json.JSONDecodeError) else 0
            raise InputError(
                f"{path}, row {line} is not JSON.", "Write a list of objects, or one JSON object on each line."
            ) from error
        yield line, value
        found = _NOT_BLANK.search(text, end)


def _rows_in(path: Path, value: object, wanted: Sequence[str]) -> Sequence[object]:
    if not isinstance(value, dict):
        return value if isinstance(value, list) else [value]
    found = list(_tables(path, value, wanted))
    fits = [len(_known(rows[0] if rows else None, wanted)) for _, rows in found]
    best = [table for table, fit in zip(found, fits, strict=True) if fit == max(fits)]
    if len(best) > 1:
        raise InputError(
            f"{path} holds several tables: {listed([place for place, _ in best])}.",
            "Save the one to read as a list of objects.",
        )
    return best[0][1] if best else [value]


def _tables(path: Path, value: Cells, wanted: Sequence[str], *around: str) -> Iterator[tuple[str, Sequence[object]]]:
    """The tables in an object, each with its place: one row, columns by name, rows by id, or lists inside."""
    inner = list(value.values())
    if _is_row(value, wanted):
        yield ".".join(around), [value]
    elif _known(value, wanted):
        yield ".".join(around), _by_column(path, value)
    elif 2 * sum(_is_row(one, wanted) for one in inner) > len(inner):
        yield ".".join(around), inner
    else:
        for key, one in value.items():
            if isinstance(one, list) and one and isinstance(one[0], (dict, str)):
                yield ".".join((*around, key)), one
            elif isinstance(one, dict) and len(around) < DEEPEST:
                yield from _tables(path, one, wanted, *around, key)


def _known(row: object, wanted: Sequence[str]) -> list[str]:
    names = list(row) if isinstance(row, dict) else []
    return [column for name in wanted if (column := find_column(name, names)) is not None]


def _is_row(value: object, wanted: Sequence[str]) -> bool:
    """Whether a wanted column of an object holds a value of one row, rather than those of all."""
    known = _known(value, wanted)
    return isinstance(value, dict) and any(not isinstance(value[column], (dict, list)) for column in known)


def _by_column(path: Path, value: Cells) -> list[object]:
    columns = {name: dict(enumerate(one)) if isinstance(one, list) else one for name, one in value.items()}
    columns = {name: one for name, one in columns.items() if isinstance(one, dict)}
    if len({tuple(one) for one in columns.values()}) > 1:
        raise InputError(f"{path} has columns of different lengths.", "Write a list of objects.")
    return [{name: one[row] for name, one in columns.items()} for row in next(iter(columns.values()))]
