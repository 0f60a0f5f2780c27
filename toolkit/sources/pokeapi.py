"""PokéAPI's published tables, from a folder or fetched: every species' game texts, names, family and looks."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.endpoint import public_location
from toolkit.errors import InputError
from toolkit.folder import json_hash
from toolkit.recipe import DatasetSettings
from toolkit.record import Record
from toolkit.sources.facts import SourceFacts, wanted_languages
from toolkit.sources.fetch import fetch_all

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

# Both lists have been closed for years; as constants they save two requests.
_LANGUAGE_CODES = "ja-hrkt ja-roma ko zh-hant fr de es it en cs ja zh-hans pt-br es-419"
LANGUAGES = {str(number): code for number, code in enumerate(_LANGUAGE_CODES.split(), 1)}
COLOURS = ("black", "blue", "brown", "gray", "green", "pink", "purple", "red", "white", "yellow")


@dataclass(slots=True)
class _Species:
    """What is known of one species before its texts."""

    family: str
    names: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, object] = field(default_factory=dict)
    types: list[tuple[int, str]] = field(default_factory=list)


def read_pokeapi(settings: DatasetSettings) -> tuple[Iterator[Record], SourceFacts]:
    """Every game text in the languages asked for, by species and game; repeated texts are repeated.

    `location` is a folder of CSV files, a URL that serves `{table}.csv`, or, with a revision, a raw-file host that
    serves `{revision}/data/v2/csv/{table}.csv`; by default PokéAPI's public repository at a pinned commit.

    Raises:
        InputError: A missing folder, table or column; while iterating, a row that can not be understood.
        EnvironmentLacks: The tables can not be fetched.
    """
    wanted = wanted_languages(settings)
    location, revision = settings.location or RAW_FILES, settings.revision
    if settings.location is None and revision is None:
        revision = REVISION
    if location.startswith(("http://", "https://")):
        address, mark, query = location.partition("?")
        place = f"{address.rstrip('/')}/{revision}/data/v2/csv" if revision else address.rstrip("/")
        bodies, hashes = fetch_all({table: f"{place}/{table}.csv{mark}{query}" for table in TABLES})
        shown = public_location(location)
    else:
        bodies, hashes = _read_folder(Path(location))
        shown = Path(location).name
    tables = {table: _decoded(table, body) for table, body in bodies.items()}
    facts = SourceFacts("pokeapi", shown, revision, "other", json_hash(hashes))
    species = _species(tables)
    return _records(tables[TEXTS], species, _identifiers(tables["versions"], "versions"), wanted, facts), facts


def _read_folder(folder: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "Name PokéAPI's folder of CSV files, or a URL, with --from.")
    missing = [f"{table}.csv" for table in TABLES if not (folder / f"{table}.csv").is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {', '.join(missing)}.", "Name the folder data/v2/csv of PokéAPI's repository with --from."
        )
    bodies = {table: (folder / f"{table}.csv").read_bytes() for table in TABLES}
    return bodies, {table: hashlib.sha256(body).hexdigest() for table, body in bodies.items()}


def _decoded(table: str, body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{table}.csv is not UTF-8 at byte {error.start}.", "Get the file again.") from error


def _rows(text: str, table: str) -> Iterator[tuple[int, list[str]]]:
    """The used columns of each row, with its line number."""
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


def _identifiers(text: str, table: str) -> dict[str, str]:
    return {id: identifier for _, (id, identifier) in _rows(text, table)}


def _species(tables: Mapping[str, str]) -> dict[str, _Species]:
    shapes = _identifiers(tables["pokemon_shapes"], "pokemon_shapes")
    habitats = _identifiers(tables["pokemon_habitats"], "pokemon_habitats")
    types = _identifiers(tables["types"], "types")
    known: dict[str, _Species] = {}
    listed = list(_rows(tables[SPECIES], SPECIES))
    # A family is named after its lowest national number, which every source knows; a chain's id only PokéAPI does.
    first: dict[str, int] = {}
    for line, (id, _, chain, *_) in listed:
        number = _number(id, SPECIES, line)
        first[chain] = min(number, first.get(chain, number))
    for line, (id, generation, chain, colour, shape, habitat) in listed:
        looks = {
            "generation": _number(generation, SPECIES, line),
            "colour": COLOURS[number - 1] if 0 < (number := _number(colour or "0", SPECIES, line)) <= 10 else None,
            "shape": shapes.get(shape),
            "habitat": habitats.get(habitat),
        }
        known[id] = _Species(
            f"pokemon-family/{first[chain] if chain else id}",
            attributes={name: value for name, value in looks.items() if value is not None},
        )
    for _, (id, language, name, genus) in _rows(tables[NAMES], NAMES):
        if id in known and name:
            known[id].names[LANGUAGES.get(language, language)] = name
            if LANGUAGES.get(language) == "en" and genus:
                known[id].attributes["genus_en"] = genus
    # The id of a species is also the id of its default form; other forms have ids of no species.
    for line, (id, type_id, slot) in _rows(tables["pokemon_types"], "pokemon_types"):
        if id in known and type_id in types:
            known[id].types.append((_number(slot, "pokemon_types", line), types[type_id]))
    for species in known.values():
        species.attributes["types"] = [name for _, name in sorted(species.types)]
    return known


def _number(cell: str, table: str, line: int) -> int:
    if not (cell.isascii() and cell.isdecimal()):
        raise InputError(f"{table}.csv, row {line} has {cell!r} where a number belongs.", "Get the file again.")
    return int(cell)


def _records(
    texts: str, known: Mapping[str, _Species], versions: Mapping[str, str], wanted: tuple[str, ...], facts: SourceFacts
) -> Iterator[Record]:
    revision = f"@{facts.revision[:12]}" if facts.revision else ""
    for line, (id, version, language_id, text) in _rows(texts, TEXTS):
        language = LANGUAGES.get(language_id, language_id)
        if language not in wanted:
            continue
        species = known.get(id)
        if species is None:
            raise InputError(
                f"{TEXTS}.csv, row {line} is about the unknown species {id!r}.", "Use tables of one revision."
            )
        yield Record(
            key=f"pokemon/{id}",
            names=species.names,
            family=species.family,
            # The older games write it in their own capitals.
            description=text.replace("POKéMON", "Pokémon"),
            language=language,
            source="pokeapi",
            source_ref=f"pokeapi{revision}/{TEXTS}.csv:{line}",
            license=facts.license,
            attributes={**species.attributes, "version": versions.get(version, version)},
        )
