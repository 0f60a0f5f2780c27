"""Rows of any table as Records: which columns hold what. Shared by the sources `table` and `hub`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolkit.errors import InputError
from toolkit.recipe import DatasetSettings
from toolkit.record import Record
from toolkit.text import has_hangul, language_of

CAPTION = "en_text"
"""The column `Name: description` of the data that the seed notebook used."""

# A short capitalised word and another colon belong to the name: `Type: Null: A creature ...`.
_NAMED = re.compile(r"\s*([^:\n]{1,40}?(?:: [A-Z]\w{1,15}(?=:\s))?):\s+(.*)", re.DOTALL)
_OPTIONAL = ("key", "family", "language", "name_en", "name_ko", "license")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns to read; `description == name` when one column holds `Name: description`."""

    description: str
    name: str
    optional: tuple[str, ...]

    @property
    def all(self) -> list[str]:
        """Every column to read, each once."""
        return list(dict.fromkeys((self.description, self.name, *self.optional)))


def choose_columns(available: Sequence[str], settings: DatasetSettings, where: str) -> Columns:
    """The columns that the settings name, `description` and `name` by default, or else `en_text` for both.

    Raises:
        InputError: A column is not there; says which are.
    """
    optional = tuple(name for name in _OPTIONAL if name in available)
    if settings.description_column is None and settings.name_column is None and CAPTION in available:
        return Columns(CAPTION, CAPTION, optional)
    description, name = settings.description_column or "description", settings.name_column or "name"
    missing = [
        f"{column!r} (--{option}-column)"
        for option, column in (("description", description), ("name", name))
        if column not in available
    ]
    if missing:
        listed = ", ".join(map(repr, available)) or "none"
        raise InputError(
            f"{where} has no column {' and no column '.join(missing)}; its columns are {listed}.",
            "Name the columns to use with --description-column and --name-column.",
        )
    return Columns(description, name, tuple(column for column in optional if column not in (description, name)))


def record_of(
    row: Mapping[str, object], columns: Columns, languages: Sequence[str], source: str, source_ref: str, license: str
) -> Record:
    """One row as a Record. An empty cell gives an empty text, which building drops and counts.

    Args:
        languages: What the settings ask for; with one language only, rows that do not say theirs are in that one.
        license: For rows that do not say theirs.
    """
    description, name = _cell(row, columns.description), _cell(row, columns.name)
    if columns.description == columns.name:
        split = _NAMED.fullmatch(description)
        name, description = (split[1], split[2]) if split else ("", description)
    name = name.strip()
    names = {"ko" if has_hangul(name) else "en": name} if name else {}
    names |= {
        code: value.strip()
        for code, column in (("en", "name_en"), ("ko", "name_ko"))
        if column in columns.optional and (value := _cell(row, column)).strip()
    }
    given = {column: _cell(row, column).strip() for column in ("key", "family", "language", "license")}
    key = given["key"] or f"{source}/{slug(name)}"
    return Record(
        key=key,
        names=names,
        family=given["family"] or key,
        description=description,
        language=given["language"].lower() or (languages[0] if len(languages) == 1 else language_of(description)),
        source=source,
        source_ref=source_ref,
        license=given["license"] or license,
    )


def slug(name: str) -> str:
    """A name as part of a key: lower case, letters and digits of any script, hyphens, ♀ and ♂ as f and m."""
    name = unicodedata.normalize("NFKC", name.replace("♀", "-f").replace("♂", "-m")).lower()
    return re.sub(r"[\W_]+", "-", name.replace("'", "").replace("’", "")).strip("-")


def _cell(row: Mapping[str, object], column: str) -> str:
    value = row.get(column)
    text = value if isinstance(value, str) else "" if value is None else str(value)
    # Lone surrogates (JSON can hold them) become the replacement character, for which building drops the row.
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
