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
from toolkit.data.sources.text_files import file_lines, read_errors

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
    values = _values(path, "".join(file_lines(path, encoding)))
    first = list(islice(values, 2))
    rows = enumerate(_rows_of(path, first[0][1], wanted), 1) if len(first) == 1 else chain(first, values)
    for number, value in rows:
        row = {wanted[0]: value} if texts and isinstance(value, str) else value
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
            f"{path} holds several tables: {listed([place for place, _ in best])}.",
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
    return [column for name in wanted if (column := find_column(name, names)) is not None]


def _is_row(value: object, wanted: Sequence[str]) -> bool:
    """Whether a wanted column of an object holds a value of one row, rather than those of all."""
    known = _known(value, wanted)
    return isinstance(value, dict) and any(not isinstance(value[column], (dict, list)) for column in known)
