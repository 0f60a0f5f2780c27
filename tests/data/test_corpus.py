"""The embedded corpus: complete, of the promised lengths, and free of every creature's name."""

import csv
import json
import re
from collections import Counter
from importlib.resources import files

import pytest

from support.datasets import near_duplicates
from support.paths import SHARED
from toolkit.data.masking import own_names_in
from toolkit.evaluation.baselines import Described, tfidf_ranks

REGISTERS = {"en": ("caption", "field", "child", "precise", "riddle", "habitat"), "ko": ("caption", "field", "child")}
TABLES = SHARED / "pokeapi" / "csv"


def lines(name):
    text = (files("toolkit.data.corpus") / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


CREATURES = lines("creatures.jsonl")
DESCRIPTIONS = lines("descriptions.jsonl")


def test_each_creature_has_six_registers_in_english_and_three_in_korean():
    counted = Counter((row["creature"], row["language"], row["register"]) for row in DESCRIPTIONS)
    expected = {
        (creature["key"], language, register)
        for creature in CREATURES
        for language, registers in REGISTERS.items()
        for register in registers
    }
    assert len(CREATURES) == 151
    assert set(counted) == expected
    assert set(counted.values()) == {1}


def test_english_descriptions_have_20_to_60_words():
    lengths = [len(row["text"].split()) for row in DESCRIPTIONS if row["language"] == "en"]
    assert min(lengths) >= 20
    assert max(lengths) <= 60


def test_korean_descriptions_have_50_to_130_characters():
    lengths = [len(row["text"]) for row in DESCRIPTIONS if row["language"] == "ko"]
    assert min(lengths) >= 50
    assert max(lengths) <= 130


def test_no_description_names_a_creature():
    names = [creature[key] for creature in CREATURES for key in ("name_en", "name_ko")]
    named = [row["text"] for row in DESCRIPTIONS if own_names_in(row["text"], names)]
    assert not named


@pytest.mark.skipif(not TABLES.is_dir(), reason="PokéAPI's tables are not beside the checkout")
def test_names_families_and_types_are_those_of_pokeapi():
    def table(name):
        with (TABLES / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    names = {
        (row["pokemon_species_id"], row["local_language_id"]): row["name"] for row in table("pokemon_species_names")
    }
    chains = {row["id"]: row["evolution_chain_id"] for row in table("pokemon_species")}
    first = {chain: min(int(id) for id, other in chains.items() if other == chain) for chain in chains.values()}
    identifiers = {row["id"]: row["identifier"] for row in table("types")}
    types = {}
    for row in table("pokemon_types"):
        types.setdefault(row["pokemon_id"], set()).add(identifiers[row["type_id"]])
    for creature in CREATURES:
        id = creature["key"].removeprefix("pokemon/")
        assert (creature["name_en"], creature["name_ko"]) == (names[id, "9"], names[id, "3"])
        assert creature["family"] == f"pokemon-family/{first[chains[id]]}"
        assert set(creature["types"]) == types[id]


@pytest.mark.parametrize(
    ("language", "register"), [(language, register) for language in REGISTERS for register in REGISTERS[language]]
)
def test_the_descriptions_say_enough_to_tell_the_creatures_apart(language, register):
    rows = [row for row in DESCRIPTIONS if row["language"] == language]
    held_out = [row for row in rows if row["register"] == register]
    others = [row for row in rows if row["register"] != register]
    known, asked = (
        Described([row["text"] for row in rows], [row["creature"] for row in rows]) for rows in (others, held_out)
    )
    ranks = tfidf_ranks(known, asked, len(CREATURES))
    assert sum(rank == (1, 1) for rank in ranks) / len(ranks) >= 0.5


def test_no_two_descriptions_are_the_same_nor_those_of_different_creatures_nearly():
    assert len({row["text"] for row in DESCRIPTIONS}) == len(DESCRIPTIONS)
    clusters = near_duplicates([row["text"] for row in DESCRIPTIONS])
    owners: dict[int, set[str]] = {}
    for cluster, row in zip(clusters, DESCRIPTIONS, strict=True):
        owners.setdefault(cluster, set()).add(row["creature"])
    assert all(len(creatures) == 1 for creatures in owners.values())


def test_no_description_holds_a_part_of_its_creatures_name():
    names = {creature["key"]: creature["name_en"].lower() for creature in CREATURES}
    holding = [
        (names[row["creature"]], word)
        for row in DESCRIPTIONS
        for word in re.findall("[a-z]{4,}", row["text"].lower())
        if word.removesuffix("s") in names[row["creature"]] and len(word.removesuffix("s")) > 3
    ]
    assert not holding
