"""Rows of any table as Records: which columns hold what. Shared by the sources `table` and `hub`."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Literal

from toolkit.core.errors import InputError
from toolkit.core.recipe import SourceSettings
from toolkit.core.text import has_hangul, language_of
from toolkit.data.record import Record
from toolkit.data.sources.caption import split_caption

CAPTION = "en_text"
"""The column `Name: description` of the data that the seed notebook used."""

_SIMPLE = (str, int, float, Decimal, date, time, timedelta)
OPTIONAL = ("key", "language", "name_en", "name_ko", "license")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns to read; `description == name` when one column holds `Name: description`."""

    description: str
    name: str
    family: str | None
    optional: tuple[str, ...]
    name_language: Literal["en", "ko"] | None = None

    @property
    def chosen(self) -> list[str]:
        """The columns that every row must have."""
        return list(dict.fromkeys((self.description, self.name)))

    @property
    def all(self) -> list[str]:
        """Every column to read, each once."""
        return list(dict.fromkeys((*self.chosen, *([self.family] if self.family else []), *self.optional)))


@dataclass(frozen=True, slots=True)
class Origin:
    """What all records of a source have in common.

    Attributes:
        source: `hub` or `table`.
        license: For rows that do not say theirs.
        languages: What the settings ask for; with one only, rows that do not say theirs are in that one.
    """

    source: str
    license: str
    languages: Sequence[str]


def choose_columns(
    available: Sequence[str], settings: SourceSettings, where: str, *, may_grow: bool = False
) -> Columns:
    """The columns that the settings name, `description` and `name` by default, or else `en_text` for both.

    Args:
        available: The columns that are known.
        settings: Which of them to use.
        where: The file or dataset, for the error.
        may_grow: Later rows may have columns that are not known yet.

    Raises:
        InputError: A column is not there; says which are.
    """
    described, named, family = settings.description_column, settings.name_column, settings.family_column
    if described is None and named is None and CAPTION in available:
        described = named = CAPTION
    described, named = described or "description", named or "name"
    wanted = {"description": described, "name": named} | ({"family": family} if family else {})
    missing = [f"{column!r} (--{option}-column)" for option, column in wanted.items() if column not in available]
    if missing:
        listed = ", ".join(map(repr, available[:50])) + (", ..." if len(available) > 50 else "") or "none"
        raise InputError(
            f"{where} has no column {' and no column '.join(missing)}; its columns are {listed}.",
            "Name the columns to use with --description-column, --name-column and --family-column.",
        )
    optional = [column for column in OPTIONAL if may_grow or column in available]
    if family is None and (may_grow or "family" in available):
        family = "family"
    return Columns(
        described,
        named,
        family,
        tuple(column for column in optional if column not in (described, named, family)),
        settings.name_language,
    )


def records_of(
    row: Mapping[str, object], columns: Columns, origin: Origin, source_ref: str, where: str
) -> Iterator[Record]:
    """One row as a Record, or as one for each text when its description is a list of them.

    An empty cell gives an empty text, which building drops and counts.

    Args:
        source_ref: The row's place, for the record.
        where: The same for an error.

    Raises:
        InputError: A cell holds something other than a text or a number.
    """
    value = row.get(columns.description)
    if not isinstance(value, list):
        yield _record({**row, columns.description: value}, columns, origin, source_ref, where)
        return
    for number, text in enumerate(value or [""], 1):
        yield _record({**row, columns.description: text}, columns, origin, f"{source_ref}[{number}]", where)


def _record(row: Mapping[str, object], columns: Columns, origin: Origin, source_ref: str, where: str) -> Record:
    cells = {column: _text(row.get(column), column, where) for column in columns.all}
    description, name = cells[columns.description], cells[columns.name].strip()
    if columns.description == columns.name:
        name, description = split_caption(description)
    names: dict[str, str] = {columns.name_language or ("ko" if has_hangul(name) else "en"): name} if name else {}
    given = {column: cells.get(column, "").strip() for column in columns.optional}
    names |= {code: given[column] for code, column in (("en", "name_en"), ("ko", "name_ko")) if given.get(column)}
    key = given.get("key") or f"{origin.source}/{slug(name or next(iter(names.values()), ''))}"
    family = cells[columns.family].strip() if columns.family else ""
    # A region, as in en-US, makes no difference.
    language = re.split(r"[-_]", given.get("language", "").lower())[0]
    return Record(
        key=key,
        names=names,
        family=family or key,
        description=description,
        language=language or (origin.languages[0] if len(origin.languages) == 1 else language_of(description)),
        source=origin.source,
        source_ref=source_ref,
        license=given.get("license") or origin.license,
    )


def slug(name: str) -> str:
    """A name as part of a key: lower case, letters and digits of any script, hyphens, ♀ and ♂ as f and m.

    A name without letters and digits gives a part of its hash, so that it shares its key with no other.
    """
    folded = unicodedata.normalize("NFKC", name.replace("♀", "-f").replace("♂", "-m")).lower()
    folded = re.sub(r"[\W_]+", "-", folded.replace("'", "").replace("’", "")).strip("-")
    return folded or (hashlib.sha256(name.encode()).hexdigest()[:12] if name else "")


def _text(value: object, column: str, where: str) -> str:
    """A cell as text; nothing and not-a-number are empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if not isinstance(value, _SIMPLE):
        raise InputError(
            f"{where} has {_kind(value)} in {column!r} where a text belongs.",
            "Choose columns of texts with --description-column, --name-column and --family-column.",
        )
    text = value if isinstance(value, str) else str(value)
    # Lone surrogates (JSON can hold them) become the replacement character, for which building drops the row.
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _kind(value: object) -> str:
    return {"dict": "an object", "tuple": "a list"}.get(type(value).__name__, f"a {type(value).__name__}")
