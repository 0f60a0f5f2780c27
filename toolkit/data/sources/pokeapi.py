"""PokéAPI as records: every species' game texts with its names, family and looks. Knows nothing of hosts and caches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.core.errors import InputError
from toolkit.core.hub_client import public_location
from toolkit.core.recipe import SourceSettings
from toolkit.data.record import Record
from toolkit.data.sources.facts import SourceFacts, refuse_other_settings
from toolkit.data.sources.pokeapi_tables import NAMES, RAW_FILES, REVISION, SPECIES, TEXTS, rows, tables_at, tables_in

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


def read_pokeapi(source: SourceSettings, languages: Sequence[str]) -> tuple[SourceFacts, Iterator[Record]]:
    """Every game text in the languages asked for, by species and game; repeated texts are repeated.

    `location` is a folder of CSV files, a URL that serves `{table}.csv`, or, with a revision, a raw-file host that
    serves `{revision}/data/v2/csv/{table}.csv`; by default PokéAPI's public repository at a pinned commit. What is
    fetched by commit is cached.

    Raises:
        InputError: A missing folder, table or column, or a setting for columns; while iterating, a row that can not be
            understood.
        EnvironmentLacks: The tables can not be fetched.
    """
    refuse_other_settings(source, "location", "revision")
    location, revision = source.location or RAW_FILES, source.revision
    if source.location is None and revision is None:
        revision = REVISION
    if location.startswith(("http://", "https://")):
        tables, shown = tables_at(location, revision), public_location(location)
    else:
        tables, shown = tables_in(Path(location)), Path(location).name
    facts = SourceFacts("pokeapi", shown, revision, "other", tables.content_hash, tables.notes)
    versions = _identifiers(tables.texts["versions"], "versions")
    return facts, _records(tables.texts[TEXTS], _species(tables.texts), versions, languages, facts)


def _identifiers(text: str, table: str) -> dict[str, str]:
    return {id: identifier for _, (id, identifier) in rows(text, table)}


def _species(tables: Mapping[str, str]) -> dict[str, _Species]:
    known = _looks(tables)
    for _, (id, language, name, genus) in rows(tables[NAMES], NAMES):
        if id in known and name:
            known[id].names[LANGUAGES.get(language, language)] = name
            if LANGUAGES.get(language) == "en" and genus:
                known[id].attributes["genus_en"] = genus
    types = _identifiers(tables["types"], "types")
    # The id of a species is also the id of its default form; other forms have ids of no species.
    for line, (id, type_id, slot) in rows(tables["pokemon_types"], "pokemon_types"):
        if id in known and type_id in types:
            known[id].types.append((_number(slot, "pokemon_types", line), types[type_id]))
    for species in known.values():
        species.attributes["types"] = [name for _, name in sorted(species.types)]
    return known


def _looks(tables: Mapping[str, str]) -> dict[str, _Species]:
    """Every species with its family, generation, colour, shape and habitat."""
    shapes = _identifiers(tables["pokemon_shapes"], "pokemon_shapes")
    habitats = _identifiers(tables["pokemon_habitats"], "pokemon_habitats")
    listed = list(rows(tables[SPECIES], SPECIES))
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
    if not (cell.isascii() and cell.isdecimal() and len(cell) < 10):
        raise InputError(f"{table}.csv, row {line} has {cell!r} where a number belongs.", "Get the file again.")
    return int(cell)


def _records(
    texts: str, known: Mapping[str, _Species], versions: Mapping[str, str], wanted: Sequence[str], facts: SourceFacts
) -> Iterator[Record]:
    revision = f"@{facts.revision[:12]}" if facts.revision else ""
    for line, (id, version, language_id, text) in rows(texts, TEXTS):
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
            parallel=f"{id}/{version}",
            attributes={**species.attributes, "version": versions.get(version, version)},
        )
