"""Tables in files, one file or a pattern, as records: each row by the columns that the settings name."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from toolkit.core.errors import InputError, library_errors
from toolkit.core.folder import json_hash, sha256_file
from toolkit.core.layout import JSON
from toolkit.core.recipe import SourceSettings
from toolkit.data.sources import records
from toolkit.data.sources.formats import KINDS, kind_of, open_table, read_rows
from toolkit.data.sources.records import Record, SourceFacts, TableRow

SETTINGS = ("location", "description_column", "name_column", "name_language", "family_column", "encoding")


def read_table(source: SourceSettings, languages: Sequence[str]) -> tuple[SourceFacts, Iterator[Record]]:
    """The rows of every file that `location` names, in the order of the files' names.

    `location` is a file or a pattern (`*`, `?`, `[...]`, and `**` for folders at any depth).

    Raises:
        InputError: No file, an unknown format or encoding, a missing column; while iterating, a damaged file with its
            row.
    """
    records.refuse_other_settings(source, *SETTINGS)
    paths, location = _find(source.location)
    wanted = [source.description_column or "description", source.name_column or "name", records.CAPTION]
    tables = {name: open_table(path, wanted, source.encoding) for name, path in paths.items()}
    with library_errors(f"{source.location} cannot be read", "Check the permissions of its files."):
        hashes = {name: sha256_file(path) for name, path in paths.items()}
    chosen = {
        name: records.choose_columns(table.columns, source, str(table.path), may_grow=table.kind in JSON)
        for name, table in tables.items()
    }
    notes = [f"{name}: {note}" for name, table in tables.items() for note in table.notes]
    facts = SourceFacts("table", location, None, "other", json_hash(hashes), notes)

    def rows() -> Iterator[TableRow]:
        for name, table in tables.items():
            columns = chosen[name]
            for number, cells in read_rows(table, columns.chosen, columns.all):
                yield TableRow(cells, columns, f"{name}:{number}", f"{table.path}, row {number}")

    return facts, records.records_of(rows(), facts, languages)


def _find(location: str | None) -> tuple[dict[str, Path], str]:
    """The files by the names that may be published, in their order, and the same for the location as a whole.

    A name is what the pattern's wildcards stand for, folders included: files in two folders may be called the same.
    """
    remedy = "Name a file, or a pattern such as 'data/*.csv', in `location`."
    if not location:
        raise InputError("The source table needs a file.", remedy)
    pattern = Path(location)
    base = next((folder for folder in pattern.parents if not re.search(r"[*?\[]", str(folder))), pattern)
    # A Korean name from a Mac is decomposed, and looks the same as the composed one that is typed.
    forms = [pattern, *(base / unicodedata.normalize(form, str(pattern.relative_to(base))) for form in ("NFC", "NFD"))]
    with library_errors(f"{location} cannot be searched for", remedy):
        found = () if pattern.is_dir() else {path for form in forms for path in base.glob(str(form.relative_to(base)))}
    paths = sorted(path for path in found if not path.is_dir())
    if named := [form for form in forms if form.is_file()]:
        paths, base = named[:1], pattern.parent
    if not paths:
        raise InputError(f"{location} {'is a folder' if pattern.is_dir() else 'matches no file'}.", remedy)
    if others := [path for path in paths if kind_of(path) not in KINDS]:
        formats = f"Save it as {', '.join(KINDS)}; all but the last may end in .gz too."
        raise InputError(f"{others[0]} is not a table that pkt reads.", formats)
    return {_readable(path.relative_to(base)): path for path in paths}, _readable(pattern.relative_to(base))


def _readable(path: Path) -> str:
    """A path as text that can be written: a file name need not be UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")
