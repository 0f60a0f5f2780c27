"""Tables in files: CSV, TSV, JSON lines, JSON and Parquet, the text formats also gzipped, one file or a pattern."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from toolkit.core.errors import InputError
from toolkit.core.folder import json_hash, sha256_file
from toolkit.core.recipe import SourceSettings
from toolkit.data.record import Record
from toolkit.data.sources.columns import Columns, Origin, choose_columns, records_of
from toolkit.data.sources.facts import SourceFacts, refuse_other_settings
from toolkit.data.sources.parquet_table import parquet_columns, parquet_rows
from toolkit.data.sources.text_table import DELIMITED, JSON, TextTable, open_text_table, text_columns, text_rows

PARQUET = ".parquet"
KINDS = (*DELIMITED, *JSON, PARQUET)
SETTINGS = ("location", "description_column", "name_column", "name_language", "family_column", "encoding")


def read_table(source: SourceSettings, languages: Sequence[str]) -> tuple[SourceFacts, Iterator[Record]]:
    """The rows of every file that `location` names, in the order of the files' names.

    `location` is a file or a pattern (`*`, `?`, `[...]`, and `**` for folders at any depth).

    Raises:
        InputError: No file, an unknown format or encoding, a missing column; while iterating, a damaged file with its
            row.
    """
    refuse_other_settings(source, *SETTINGS)
    paths, location = _find(source.location)
    try:
        hashes = {name: sha256_file(path) for name, path in paths.items()}
    except OSError as error:
        raise InputError(
            f"{error.filename} can not be read: {error.strerror}.", "Check the path and its permissions."
        ) from error
    tables = {name: _opened(path, source.encoding) for name, path in paths.items()}
    chosen = {name: _chosen(table, source) for name, table in tables.items()}
    notes = tuple(
        f"{name}: {note}" for name, table in tables.items() if isinstance(table, TextTable) for note in table.notes
    )
    facts = SourceFacts("table", location, None, "other", json_hash(hashes), notes)
    return facts, _records(tables, chosen, Origin("table", facts.license, languages))


def _find(location: str | None) -> tuple[dict[str, Path], str]:
    """The files by the names that may be published, in their order, and the same for the location as a whole.

    A name is what the pattern's wildcards stand for, folders included: files in two folders may be called the same.
    """
    if not location:
        raise InputError("The source table needs a file.", "Name one, or a pattern such as 'data/*.csv', with --from.")
    pattern = Path(location)
    try:
        if pattern.is_file():
            paths, base = [pattern], pattern.parent
        else:
            base, rest = _split(pattern)
            paths = [] if pattern.is_dir() else sorted(path for path in base.glob(str(rest)) if not path.is_dir())
        for path in paths:
            _check(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{location} can not be read: {reason}.", "Check the path or pattern in --from.") from error
    if not paths:
        what = "is a folder" if pattern.is_dir() else "matches no file"
        raise InputError(f"{location} {what}.", "Name a file, or a pattern such as 'data/*.csv', with --from.")
    names = {_readable(path.relative_to(base)): path for path in paths}
    return names, _readable(pattern.relative_to(base))


def _split(pattern: Path) -> tuple[Path, Path]:
    """The folder before the first wildcard, and what follows it."""
    parts = pattern.parts
    first = next((number for number, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts) - 1)
    return Path(*parts[:first]), Path(*parts[max(first, 0) :])


def _check(path: Path) -> None:
    """Raise InputError for what is no file, or not of a kind that is read."""
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError as error:
        raise InputError(f"{path} is a link to nothing.", "Remove it, or correct where it points.") from error
    if not is_regular:
        raise InputError(f"{path} is not a regular file.", "Save what it gives in a file, and name that with --from.")
    if _kind(path) not in KINDS:
        raise InputError(
            f"{path} is not a table that pkt reads.", f"Use {', '.join(KINDS)}; all but the last may end in .gz too."
        )


def _kind(path: Path) -> str:
    name = path.name.lower()
    inner = Path(name.removesuffix(".gz")).suffix
    return "" if inner == PARQUET and name.endswith(".gz") else inner


def _readable(path: Path) -> str:
    """A path as text that can be written: a file name need not be UTF-8."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _opened(path: Path, encoding: str | None) -> TextTable | Path:
    return path if _kind(path) == PARQUET else open_text_table(path, _kind(path), encoding)


def _chosen(table: TextTable | Path, source: SourceSettings) -> Columns:
    if isinstance(table, TextTable):
        return choose_columns(text_columns(table), source, str(table.path), may_grow=table.kind in JSON)
    return choose_columns(parquet_columns(table), source, str(table))


def _records(tables: dict[str, TextTable | Path], chosen: dict[str, Columns], origin: Origin) -> Iterator[Record]:
    for name, table in tables.items():
        columns = chosen[name]
        if isinstance(table, TextTable):
            path, rows = table.path, text_rows(table, columns.chosen)
        else:
            path, rows = table, parquet_rows(table, columns.all)
        for number, row in rows:
            yield from records_of(row, columns, origin, f"{name}:{number}", f"{path}, row {number}")
