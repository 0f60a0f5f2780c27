"""PokéAPI as records: every species' game texts with its names, family and looks, from its published CSV tables.

The tables come from a folder or a host. Those of a commit are kept in the cache, each in a file that is named after
its SHA-256: when a file does not match its name, its table is fetched again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from toolkit.core.errors import EnvironmentLacks, InputError, after_saying, library_errors
from toolkit.core.folder import json_hash, write_bytes
from toolkit.core.hub_client import cache_home, public_location
from toolkit.core.recipe import SourceSettings
from toolkit.data.sources.records import Record, SourceFacts, refuse_other_settings

RAW_FILES = "https://raw.githubusercontent.com/PokeAPI/pokeapi"
REVISION = "bbef3d99ddfa8277f726414c89b471267aef8a8e"
NAMES, TEXTS, SPECIES = "pokemon_species_names", "pokemon_species_flavor_text", "pokemon_species"
# Each table that is read, and its columns that are used.
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
# These two lists have not changed for years; as constants they save two requests.
_LANGUAGE_CODES = "ja-hrkt ja-roma ko zh-hant fr de es it en cs ja zh-hans pt-br es-419"
LANGUAGES = {str(number): code for number, code in enumerate(_LANGUAGE_CODES.split(), 1)}
COLOURS = ("black", "blue", "brown", "gray", "green", "pink", "purple", "red", "white", "yellow")

TRIES, FIRST_PAUSE, TIMEOUT = 5, 0.5, 30.0
"""Tries of a request, seconds before the second one, and seconds to wait for each part of an answer."""


@dataclass(slots=True)
class _Species:
    """What is known of one species before its texts."""

    family: str
    names: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, object] = field(default_factory=dict)
    types: list[tuple[int, str]] = field(default_factory=list)


def read_pokeapi(source: SourceSettings, languages: Sequence[str]) -> tuple[SourceFacts, Iterator[Record]]:
    """Every game text in the languages asked for, by species and game; repeated texts are repeated.

    `location` is a folder of CSV files, a URL that serves `{table}.csv`, or, with a revision, a raw-file host that
    serves `{revision}/data/v2/csv/{table}.csv`; by default PokéAPI's public repository at a pinned commit.

    Raises:
        InputError: A missing folder, table or column, or a setting for columns; while iterating, a row that makes no
            sense.
        EnvironmentLacks: The tables cannot be fetched.
    """
    refuse_other_settings(source, "location", "revision")
    location, revision = source.location or RAW_FILES, source.revision
    if source.location is None and revision is None:
        revision = REVISION
    if location.startswith(("http://", "https://")):
        shown = public_location(location)
        bodies = _from_host(location, revision)
    else:
        shown = Path(location).name
        bodies = _from_folder(Path(location))
    content = json_hash({table: hashlib.sha256(body).hexdigest() for table, body in bodies.items()})
    facts = SourceFacts("pokeapi", shown, revision, "other", content)
    versions = _identifiers(bodies, "versions")
    return facts, _records(bodies, _species(bodies), versions, languages, facts)


def _from_folder(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise InputError(
            f"There is no folder {folder}.", "Name a folder of PokéAPI's CSV files, or a URL, in `location`."
        )
    if missing := [f"{table}.csv" for table in TABLES if not (folder / f"{table}.csv").is_file()]:
        raise InputError(
            f"{folder} lacks {', '.join(missing)}.",
            "Name the folder data/v2/csv of PokéAPI's repository in `location`.",
        )
    with library_errors(f"{folder} cannot be read", "Check its permissions."):
        return {table: (folder / f"{table}.csv").read_bytes() for table in TABLES}


def _from_host(location: str, revision: str | None) -> dict[str, bytes]:
    """The tables that a host serves. Only those of a commit are cached: a branch or a tag can move."""
    address, mark, query = location.partition("?")
    place = address.rstrip("/")
    if revision is not None:
        if not re.fullmatch(r"\w[\w.+/@-]*", revision) or ".." in revision:
            raise InputError(f"{revision!r} is not a revision.", "Give a commit, a branch or a tag in `revision`.")
        place = f"{place}/{quote(revision)}/data/v2/csv"
    commit = revision if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision) else None
    cache = cache_home() / "pokeapi" / json_hash(location)[:16] / commit if commit else None
    bodies = {}
    for table in TABLES:
        body = _cached(cache, table) if cache else None
        if body is None:
            url = f"{place}/{table}.csv{mark}{query}"
            body = _fetch(url)
            with after_saying(f"{public_location(url)} is not PokéAPI's table:"):
                list(_rows({table: body}, table))
            # A cache that cannot be written saves nothing, and loses nothing.
            with suppress(OSError):
                if cache:
                    cache.mkdir(parents=True, exist_ok=True)
                    write_bytes(cache / f"{table}-{hashlib.sha256(body).hexdigest()}.csv", body)
        bodies[table] = body
    return bodies


def _cached(folder: Path, table: str) -> bytes | None:
    for file in folder.glob(f"{table}-*.csv"):
        body = file.read_bytes()
        if file.stem == f"{table}-{hashlib.sha256(body).hexdigest()}":
            return body
    return None


def _fetch(address: str) -> bytes:
    """The whole body at a URL; a host that is busy, or breaks off in the middle, is asked again.

    Raises:
        InputError: It is no URL, or the host refuses it.
        EnvironmentLacks: The host cannot be reached, or goes on failing.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import http_backoff  # type: ignore[attr-defined]

    shown, remedy = public_location(address), "Check `location` and `revision`."
    with library_errors(f"{shown} is not a URL that can be fetched", remedy):
        url = httpx2.URL(address)
    # The address is logged, so secrets are passed beside it.
    plain, login = url.copy_with(userinfo=b"", query=None), (url.username, url.password)
    network = "Check the network and try again later, or name a folder that holds the files in `location`."
    with library_errors(f"{shown} could not be fetched in {TRIES} tries", network, EnvironmentLacks):
        try:
            response = http_backoff(
                "GET",
                str(plain),
                params=url.params,
                auth=login if url.userinfo else None,
                timeout=TIMEOUT,
                max_retries=TRIES - 1,
                base_wait_time=FIRST_PAUSE,
            )
        except HfHubHTTPError as error:
            raise EnvironmentLacks(f"{shown} answered {error.response.status_code} {TRIES} times.", network) from error
    if response.status_code != 200:
        raise InputError(f"{shown} answered {response.status_code}.", remedy)
    return response.content


def _rows(bodies: Mapping[str, bytes], table: str) -> Iterator[tuple[int, list[str]]]:
    """The used columns of each row of a table, with its line number.

    Raises:
        InputError: A missing column, or a row that is not CSV or not as long as the header.
    """
    file, remedy = f"{table}.csv", "Get the file again."
    try:
        reader = csv.reader(io.StringIO(bodies[table].decode("utf-8-sig"), newline=""), strict=True)
        header = next(reader, [])
        if missing := [column for column in TABLES[table] if column not in header]:
            raise InputError(f"{file} has no column {', '.join(missing)}.", "Use a revision that has PokéAPI's tables.")
        places = [header.index(column) for column in TABLES[table]]
        for cells in reader:
            if len(cells) != len(header):
                raise InputError(f"{file}, row {reader.line_num} has {len(cells)} fields, not {len(header)}.", remedy)
            yield reader.line_num, [cells[place] for place in places]
    except csv.Error as error:
        raise InputError(f"{file}, row {reader.line_num}: {error}.", remedy) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 at byte {error.start}.", remedy) from error


def _identifiers(bodies: Mapping[str, bytes], table: str) -> dict[str, str]:
    return {id: identifier for _, (id, identifier) in _rows(bodies, table)}


def _species(bodies: Mapping[str, bytes]) -> dict[str, _Species]:
    known = _looks(bodies)
    for _, (id, language, name, genus) in _rows(bodies, NAMES):
        if id in known and name:
            known[id].names[LANGUAGES.get(language, language)] = name
            if LANGUAGES.get(language) == "en" and genus:
                known[id].attributes["genus_en"] = genus
    types = _identifiers(bodies, "types")
    # The id of a species is also the id of its default form; other forms have ids of no species.
    for line, (id, type_id, slot) in _rows(bodies, "pokemon_types"):
        if id in known and type_id in types:
            known[id].types.append((_number(slot, "pokemon_types", line), types[type_id]))
    for species in known.values():
        species.attributes["types"] = [name for _, name in sorted(species.types)]
    return known


def _looks(bodies: Mapping[str, bytes]) -> dict[str, _Species]:
    """Every species with its family, generation, colour, shape and habitat."""
    shapes, habitats = _identifiers(bodies, "pokemon_shapes"), _identifiers(bodies, "pokemon_habitats")
    listed = list(_rows(bodies, SPECIES))
    # A family is named after its lowest national number, which every source knows; a chain's id only PokéAPI does.
    first: dict[str, int] = {}
    for line, (id, _, chain, *_) in listed:
        number = _number(id, SPECIES, line)
        first[chain] = min(number, first.get(chain, number))
    known: dict[str, _Species] = {}
    for line, (id, generation, chain, colour, shape, habitat) in listed:
        looks = {
            "generation": _number(generation, SPECIES, line),
            "colour": COLOURS[number - 1] if 0 < (number := _number(colour or "0", SPECIES, line)) <= 10 else None,
            "shape": shapes.get(shape),
            "habitat": habitats.get(habitat),
        }
        family = f"pokemon-family/{first[chain] if chain else id}"
        known[id] = _Species(family, attributes={name: value for name, value in looks.items() if value is not None})
    return known


def _number(cell: str, table: str, line: int) -> int:
    if not (cell.isascii() and cell.isdecimal()):
        raise InputError(f"{table}.csv, row {line} has {cell!r} where a number belongs.", "Get the file again.")
    return int(cell)


def _records(
    bodies: Mapping[str, bytes],
    known: Mapping[str, _Species],
    versions: Mapping[str, str],
    wanted: Sequence[str],
    facts: SourceFacts,
) -> Iterator[Record]:
    revision = f"@{facts.revision[:12]}" if facts.revision else ""
    for line, (id, version, language_id, text) in _rows(bodies, TEXTS):
        language = LANGUAGES.get(language_id, language_id)
        if language not in wanted:
            continue
        if id not in known:
            found = f"{TEXTS}.csv, row {line} is about the unknown species {id!r}."
            raise InputError(found, "Use tables of one revision.")
        yield Record(
            key=f"pokemon/{id}",
            names=known[id].names,
            family=known[id].family,
            # The older games write it in their own capitals.
            description=text.replace("POKéMON", "Pokémon"),
            language=language,
            source="pokeapi",
            source_ref=f"pokeapi{revision}/{TEXTS}.csv:{line}",
            license=facts.license,
            parallel=f"{id}/{version}",
            attributes={**known[id].attributes, "version": versions.get(version, version)},
        )
