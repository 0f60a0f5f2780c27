"""Records and facts, which every source yields, and the rows of any table as records, by their columns."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any, Literal, NamedTuple

from toolkit.core.errors import InputError
from toolkit.core.recipe import DatasetSettings, SourceSettings
from toolkit.core.text import has_hangul, language_of

LANGUAGES = ("en", "ko")
# Beside names and codes that begin with the code of two letters: `Korean`, `kor`, `en-US`.
NAMES_OF_LANGUAGES = {"영어": "en", "영문": "en", "한국어": "ko", "한글": "ko", "국문": "ko", "kr": "ko"}
CAPTION = "en_text"
"""The column `Name: description` of the data that the seed notebook used."""
OPTIONAL = ("key", "family", "language", "name_en", "name_ko", "license")
NOTHING = frozenset(
    {
        *("nan", "NaN", "-nan", "-NaN", "NaT", "NA", "N/A", "n/a", "<NA>", "None", "null", "NULL", "(null)", "\\N"),
        *("undefined", "-", "--", "–", "—", ".", "...", "…", "?", "없음", "미상", "해당 없음", "해당없음"),
        *("#N/A", "#NA", "#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!", "#SPILL!", "#CALC!", "#ERROR!"),
    }
)
"""What programs write into an empty cell, beside descriptions. Exactly these: `Null` and `Nan` are names."""

LONGEST_CAPTION_NAME = 40
MOST_WORDS = 4
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "「": "」", "『": "』"}
# A colon and white space, with markdown's marks of bold before or behind it, or a full-width colon.
_COLON = r"(?:[:：][*_]+(?=\s|$)|:(?=\s|$)|：)"
_CAPTION = re.compile(rf"([^:：\n]{{1,{LONGEST_CAPTION_NAME}}}?)\s?{_COLON}(.*)", re.DOTALL)
LEAD = re.compile(r"\s*(?:(?:[-*•#>]+|\d+[.)])\s+)*")
_NUMBER = re.compile(r"(?:(?:label|class)_|#|[-+])?\d+(?:\.\d+)?(?:e[-+]?\d+)?|true|false", re.IGNORECASE)
_SIMPLE = (str, int, float, Decimal, date, time, timedelta)


@dataclass(frozen=True, slots=True)
class Record:
    """One description of one creature.

    Attributes:
        key: Stable id of the creature, such as `pokemon/25`; sources that mean the same creature use the same key.
        names: Language code (`en`, `ko`, ...) to the creature's name in that language. At least one.
        family: Id shared by all creatures that evolve into each other, such as `pokemon-family/10`.
        description: The text as the source has it, not yet cleaned or masked.
        language: Language code of `description`.
        source: Name of the source: `corpus`, `pokeapi`, `hub` or `table`.
        source_ref: Revision and place in the source, enough to find the text again.
        license: SPDX id of the text, or `other`.
        parallel: Shared by the texts of one creature that say the same in different languages; empty for others.
        attributes: What else the source knows (generation, types, ...); values that JSON can hold.
    """

    key: str
    names: Mapping[str, str]
    family: str
    description: str
    language: str
    source: str
    source_ref: str
    license: str
    parallel: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Where records come from.

    Attributes:
        name: `corpus`, `pokeapi`, `hub` or `table`.
        location: Folder or file name, URL or Hub id as it may be published: no path of this machine, no credentials.
        revision: Commit or version, None where the source has none.
        license: SPDX id of the texts, or `other`.
        content_hash: Hash of the files that are read: the same content has the same hash wherever it lies.
        notes: What a user may want to know about how it was read, such as an encoding that was detected. Readers add
            to them up to the last record.
    """

    name: str
    location: str
    revision: str | None
    license: str
    content_hash: str
    notes: list[str] = field(default_factory=list)


def wanted_languages(settings: DatasetSettings) -> tuple[str, ...]:
    """The languages of `description_language`, in the order given.

    Raises:
        InputError: Empty, or a language that is not `en` or `ko`.
    """
    wanted = tuple(dict.fromkeys(part.strip() for part in settings.description_language.split(",")))
    if not all(language in LANGUAGES for language in wanted):
        raise InputError(
            f"The description language {settings.description_language!r} is not known.", "Choose en, ko or en,ko."
        )
    return wanted


def refuse_other_settings(source: SourceSettings, *used: str) -> None:
    """Raise InputError when settings are given that this source cannot use.

    Args:
        used: The settings that it does use, beside its name.
    """
    given = source.model_dump(exclude={"name", *used}, exclude_none=True)
    if given:
        raise InputError(
            f"The source {source.name} has no use for {', '.join(f'`{key}`' for key in given)}.",
            "Leave it out, or choose another source.",
        )


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read; `description == name` when one column holds `Name: description`.

    `family` is the one that was asked for; `optional` are those that are used for their names alone.
    """

    description: str
    name: str
    family: str | None
    optional: tuple[str, ...]
    name_language: Literal["en", "ko"] | None = None

    @cached_property
    def chosen(self) -> list[str]:
        """The columns that every row must have."""
        return list(dict.fromkeys((self.description, self.name)))

    @cached_property
    def all(self) -> list[str]:
        """Every column to read, each once."""
        return list(dict.fromkeys(filter(None, (self.description, self.name, self.family, *self.optional))))


class TableRow(NamedTuple):
    """A row of a table: its cells, the columns to read, and its place as a record and as an error say it."""

    cells: Mapping[str, object]
    columns: Columns
    source_ref: str
    where: str


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
        InputError: A column that is used is missing, or there twice; says which.
    """
    described, named, family = settings.description_column, settings.name_column, settings.family_column
    wanted = {"description": described or "description", "name": named or "name"}
    wanted |= {"family": family} if family else {}
    found = {setting: find_column(column, available) for setting, column in wanted.items()}
    if described is None and named is None and CAPTION in available and None in (found["description"], found["name"]):
        found |= {"description": CAPTION, "name": CAPTION}
    if missing := [f"{column!r} (`{setting}_column`)" for setting, column in wanted.items() if found[setting] is None]:
        raise InputError(
            f"{where} has no column {' and no column '.join(missing)}; its columns are {listed(available)}.",
            "Name the columns to use in `description_column`, `name_column` and `family_column`.",
        )
    used = [column for column in found.values() if column is not None]
    unasked = [column for column in OPTIONAL if column not in used and not (family and column == "family")]
    optional = [column for column in unasked if may_grow or column in available]
    if repeated := [column for column in (*used, *optional) if available.count(column) > 1]:
        raise InputError(f"{where} has the column {repeated[0]!r} twice.", "Rename one of them.")
    return Columns(used[0], used[1], found.get("family"), tuple(optional), settings.name_language)


def find_column(wanted: str, available: Sequence[str]) -> str | None:
    """The column of that name, or else the only one that differs in capitals, blanks or Unicode's form alone."""
    if wanted in available:
        return wanted
    alike = [name for name in available if _plain(name) == _plain(wanted)]
    return alike[0] if len(alike) == 1 else None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


def listed(names: Sequence[str]) -> str:
    """Names of columns as an error lists them."""
    names = list(filter(None, names))
    return ", ".join(map(repr, names[:50])) + (", ..." if len(names) > 50 else "") or "none"


def records_of(rows: Iterable[TableRow], facts: SourceFacts, languages: Sequence[str]) -> Iterator[Record]:
    """Each row as a Record, or as one for each text when its description is a list of them.

    An empty cell gives an empty text, which the build drops and counts. After the last row, `facts.notes` say which
    columns were used that no setting names, and which marks count as empty cells.

    Args:
        facts: Their `name`, and `license` for a row without one.
        languages: Those that the settings ask for; if only one, it is that of every row without a language.

    Raises:
        InputError: A cell holds something other than a text or a number, or no name is more than a number.
    """
    used: dict[str, None] = {}
    marks: Counter[tuple[str, str]] = Counter()
    numbers: set[bool] = set()
    for row in chain.from_iterable(map(_one_text_each, rows)):
        texts = _texts(row, marks)
        used |= dict.fromkeys(column for column in row.columns.optional if column in texts)
        record = _record(row, texts, facts, languages)
        if record.names and False not in numbers:
            numbers.add(all(map(is_number, record.names.values())))
        yield record
    refuse_numbers(numbers, facts.location)
    said = [f"used by their names alone: {listed(list(used))}"] if used else []
    said += [
        f"{mark!r} in {column!r} counts as an empty cell, {count:,} times" for (column, mark), count in marks.items()
    ]
    facts.notes.extend(f"{facts.location}: {note}" for note in said)


def is_number(name: str) -> bool:
    """Whether a name is written as a number, `LABEL_3`, or as true or false."""
    return _NUMBER.fullmatch(name) is not None


def refuse_numbers(numbers: set[bool], where: str) -> None:
    """Raise InputError where all names are numbers, as those of labels are when their names are lost."""
    if numbers == {True}:
        raise InputError(
            f"{where} has nothing but numbers in its column of names.",
            "Choose another column, or put the names of those labels into this one.",
        )


def _one_text_each(row: TableRow) -> Iterator[TableRow]:
    texts = row.cells.get(row.columns.description)
    for number, text in enumerate(texts or [""], 1) if isinstance(texts, list) else ():
        cells = {**row.cells, row.columns.description: text}
        yield row._replace(cells=cells, source_ref=f"{row.source_ref}[{number}]")
    if not isinstance(texts, list):
        yield row


def _texts(row: TableRow, marks: Counter[tuple[str, str]]) -> dict[str, str]:
    """The cells that are not empty, by column; counts the marks of empty ones."""
    texts = {column: cell_text(row.cells.get(column), column, row.where) for column in row.columns.all}
    for column in [column for column in texts if column != row.columns.description]:
        texts[column] = texts[column].strip()
        if texts[column] in NOTHING:
            marks[column, texts.pop(column)] += 1
    return {column: text for column, text in texts.items() if text}


def _record(row: TableRow, texts: Mapping[str, str], facts: SourceFacts, languages: Sequence[str]) -> Record:
    columns = row.columns
    name, description = texts.get(columns.name, ""), texts.get(columns.description, "")
    if columns.description == columns.name:
        name, description = split_caption(description)
    names: dict[str, str] = {columns.name_language or ("ko" if has_hangul(name) else "en"): name} if name else {}
    given = {column: texts[column] for column in columns.optional if column in texts}
    names |= {code: given[column] for code, column in (("en", "name_en"), ("ko", "name_ko")) if column in given}
    key = given.get("key") or f"{facts.name}/{slug(name or next(iter(names.values()), ''))}"
    family = texts.get(columns.family or "family")
    stated = given.get("language", "").lower()
    language = NAMES_OF_LANGUAGES.get(stated, stated[:2])
    return Record(
        key=key,
        names=names,
        family=family or key,
        description=description,
        language=language or (languages[0] if len(languages) == 1 else language_of(description)),
        source=facts.name,
        source_ref=row.source_ref,
        license=given.get("license") or facts.license,
    )


def cell_text(value: object, column: str, where: str) -> str:
    """A cell as text; nothing and not-a-number are empty.

    Raises:
        InputError: It holds something other than a text or a number.
    """
    if type(value) is str and value.isascii():
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, _SIMPLE):
        kind = {"dict": "an object", "tuple": "a list"}.get(type(value).__name__, f"a {type(value).__name__}")
        raise InputError(
            f"{where} has {kind} in {column!r} where a text belongs.",
            "Write a text there, or choose another column.",
        )
    text = str(value)
    # JSON can hold half a character (a lone surrogate): as a lost one, for which the build drops the row.
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def class_labels(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names behind the numbers of ClassLabel columns, from features as `Features.to_dict` gives them."""
    kinds = {column: kind for column, kind in features.items() if isinstance(kind, dict)}
    return {column: kind["names"] for column, kind in kinds.items() if kind.get("_type") == "ClassLabel"}


def with_labels(cells: Mapping[str, object], labels: Mapping[str, Sequence[str]], where: str) -> Mapping[str, object]:
    """A row with the names of its labels in place of their numbers; -1 is none.

    Raises:
        InputError: A number that no label has.
    """
    for column, names in labels.items():
        number = cells.get(column)
        if isinstance(number, int) and not -1 <= number < len(names):
            found = f"{where} has {number} in {column!r}, whose {len(names)} labels are numbered from 0."
            raise InputError(found, "Correct the row, or write the dataset again with all its labels.")
        if isinstance(number, int):
            cells = {**cells, column: names[number] if number >= 0 else None}
    return cells


@lru_cache(maxsize=100_000)
def slug(name: str) -> str:
    """A name as part of a key: lower case, letters and digits of any script, hyphens, ♀ and ♂ as f and m.

    A name without letters and digits gives a part of its hash, so that it shares its key with no other.
    """
    folded = unicodedata.normalize("NFKC", name.replace("♀", "-f").replace("♂", "-m")).lower()
    folded = re.sub(r"[\W_]+", "-", folded.replace("'", "").replace("’", "")).strip("-")
    return folded or (hashlib.sha256(name.encode()).hexdigest()[:12] if name else "")


def split_caption(text: str) -> tuple[str, str]:
    """The name and the description of `Name: description`; no name, and the text as it was, when it begins with none.

    Markdown's bold, list and heading marks and quotes around the name or around the whole are left out.
    """
    found = _CAPTION.fullmatch(LEAD.sub("", text, count=1).rstrip())
    if found is None:
        return "", text
    name, description = found[1].strip("*_ \t"), found[2].strip()
    closing = _QUOTES.get(name[:1], "")
    if closing and len(name) > 1 and name.endswith(closing):
        name = name[1:-1].strip("*_ \t")
    elif closing and description.endswith(closing):
        name, description = name[1:], description[:-1]
    return (name, description) if _is_name(name) else ("", text)


def _is_name(name: str) -> bool:
    """Whether it reads like a name: a sentence before a colon has more words, or words in lower case."""
    words = name.split()
    if not any(character.isalpha() for character in name) or len(words) > MOST_WORDS:
        return False
    return len(words) == 1 or not any(word[0].islower() for word in words)
