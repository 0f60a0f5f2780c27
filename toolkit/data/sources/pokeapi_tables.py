"""PokéAPI's published tables: from a folder, from a host or from the cache, each checked before it is used.

A table from a host counts when it is as long as the host says and all its rows can be read; in the cache, when it has
the size and SHA-256 that it came with. No hashes are pinned here: `--revision` names the content, and nobody but the
host knows what a commit's bytes are.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from toolkit.core.errors import InputError
from toolkit.core.folder import json_hash
from toolkit.core.hub_client import public_location
from toolkit.data.sources.cache import cached, keep, revision_folder
from toolkit.data.sources.fetch import fetch, fetching

RAW_FILES = "https://raw.githubusercontent.com/PokeAPI/pokeapi"
REVISION = "bbef3d99ddfa8277f726414c89b471267aef8a8e"
NAMES, TEXTS, SPECIES = "pokemon_species_names", "pokemon_species_flavor_text", "pokemon_species"

TABLES: Mapping[str, tuple[str, ...]] = {
    SPECIES: ("id", "generation_id", "evolution_chain_id", "color_id", "shape_id", "habitat_id"),
    NAMES: ("pokemon_species_id", "local_language_id", "name", "genus"),
    TEXTS: ("species_id", "version_id", "language_id", "flavor_text"),
    "pokemon_types": ("pokemon_id", "type_id", "slot"),
    "types": ("id", "identifier"),
    "versions": ("id", "identifier"),
    "pokemon_shapes": ("id", "identifier"),
    "pokemon_habitats": ("id", "identifier"),
}
"""The tables that are read, and the columns that are used of each."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The text of every table, one hash for all their bytes, and what was noteworthy about getting them."""

    texts: Mapping[str, str]
    content_hash: str
    notes: tuple[str, ...] = ()


def tables_in(folder: Path) -> Tables:
    """The tables in a folder.

    Raises:
        InputError: No such folder, a table that is missing, or one that can not be read.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "Name PokéAPI's folder of CSV files, or a URL, with --from.")
    missing = [f"{table}.csv" for table in TABLES if not (folder / f"{table}.csv").is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {', '.join(missing)}.", "Name the folder data/v2/csv of PokéAPI's repository with --from."
        )
    try:
        bodies = {table: (folder / f"{table}.csv").read_bytes() for table in TABLES}
    except OSError as error:
        raise InputError(f"{error.filename} can not be read: {error.strerror}.", "Check its permissions.") from error
    return _tables(bodies)


def tables_at(location: str, revision: str | None) -> Tables:
    """The tables that a host serves, cached when the revision is a commit: a branch or a tag may change its meaning.

    Raises:
        InputError: The host has no such file, or serves something else.
        EnvironmentLacks: A file can not be fetched.
    """
    address, mark, query = location.partition("?")
    place = address.rstrip("/")
    if revision is not None:
        place = f"{place}/{quote(_checked(revision))}/data/v2/csv"
    urls = {table: f"{place}/{table}.csv{mark}{query}" for table in TABLES}
    is_commit = revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision)
    return _fetched(urls, revision_folder("pokeapi", location, str(revision)) if is_commit else None)


def _checked(revision: str) -> str:
    if not re.fullmatch(r"\w[\w.+/@-]*", revision) or ".." in revision:
        raise InputError(f"{revision!r} is not a revision.", "Give a commit, a branch or a tag with --revision.")
    return revision


def _fetched(urls: Mapping[str, str], folder: Path | None) -> Tables:
    """The tables, from the cache where they are whole there; no connection is opened when all are."""
    bodies: dict[str, bytes] = {}
    notes = []
    for table in urls if folder else ():
        body, damaged = cached(folder, f"{table}.csv") if folder else (None, False)
        if damaged:
            notes.append(f"{table}.csv was damaged in the cache and is fetched again")
        if body is not None:
            bodies[table] = body
    missing = [table for table in urls if table not in bodies]
    if missing:
        with fetching() as client:
            for table in missing:
                bodies[table] = fetch(client, urls[table])
                _check(table, bodies[table], urls[table])
                if folder and (problem := _kept(folder, table, bodies)):
                    notes.append(problem)
                    folder = None
    return _tables({table: bodies[table] for table in TABLES}, tuple(notes))


def _check(table: str, body: bytes, url: str) -> None:
    """Raise InputError unless what was fetched is the table, to its last row."""
    try:
        for _ in rows(decoded(table, body), table):
            pass
    except InputError as error:
        raise InputError(
            f"{public_location(url)} is not PokéAPI's table: {error.found}", "Check --from and --revision."
        ) from error


def _kept(folder: Path, table: str, bodies: Mapping[str, bytes]) -> str:
    """Why a table can not be cached; empty when it was."""
    try:
        keep(folder, f"{table}.csv", {f"{name}.csv": body for name, body in bodies.items()})
    except OSError as error:
        return f"the tables are not cached: {error.strerror} (PKT_CACHE names another place for it)"
    return ""


def _tables(bodies: Mapping[str, bytes], notes: tuple[str, ...] = ()) -> Tables:
    hashes = {table: hashlib.sha256(body).hexdigest() for table, body in bodies.items()}
    return Tables({table: decoded(table, body) for table, body in bodies.items()}, json_hash(hashes), notes)


def decoded(table: str, body: bytes) -> str:
    """A table's text.

    Raises:
        InputError: It is not UTF-8.
    """
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{table}.csv is not UTF-8 at byte {error.start}.", "Get the file again.") from error


def rows(text: str, table: str) -> Iterator[tuple[int, list[str]]]:
    """The used columns of each row, with its line number.

    Raises:
        InputError: A missing column, or a row that is not CSV or not as long as the header.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        missing = [column for column in TABLES[table] if column not in header]
        if missing:
            raise InputError(
                f"{table}.csv has no column {', '.join(missing)}.", "Use a revision that has PokéAPI's tables."
            )
        places = [header.index(column) for column in TABLES[table]]
        for cells in reader:
            if len(cells) != len(header):
                raise InputError(
                    f"{table}.csv, row {reader.line_num} has {len(cells)} fields, not {len(header)}: it is damaged.",
                    "Get it again.",
                )
            yield reader.line_num, [cells[place] for place in places]
    except csv.Error as error:
        raise InputError(f"{table}.csv, row {reader.line_num}: {error}.", "Get the file again.") from error
