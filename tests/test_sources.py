"""Sources: each yields the records it should, and says in one sentence what is wrong with its input."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from toolkit.errors import EnvironmentLacks, InputError
from toolkit.recipe import DatasetSettings
from toolkit.record import Record
from toolkit.sources import SourceFacts, fetch, read_records

SHARED_TABLES = Path(__file__).parents[2] / "shared" / "pokeapi" / "csv"

POKEAPI = {
    "pokemon_species": "id,identifier,generation_id,evolution_chain_id,color_id,shape_id,habitat_id\n"
    "1,sprout,1,1,5,1,1\n2,sproutling,1,1,5,1,\n3,moss,2,7,4,,1\n",
    "pokemon_species_names": "pokemon_species_id,local_language_id,name,genus\n1,9,Sprout,Seed Pokémon\n"
    "1,3,새싹이,씨앗포켓몬\n1,5,Pousse,\n2,9,Sproutling,\n2,3,새싹몬,\n3,9,Moss,\n3,3,이끼,\n",
    "pokemon_species_flavor_text": "species_id,version_id,language_id,flavor_text\n"
    '1,1,9,"A seed on its\nback.\x0cThis POKéMON\nnaps."\n1,2,3,등에 씨앗이 있다.\n'
    "3,2,9,It grows on Sprout.\n1,1,5,Une graine.\n",
    "pokemon_types": "pokemon_id,type_id,slot\n1,2,2\n1,1,1\n3,1,1\n9001,1,1\n",
    "types": "id,identifier\n1,grass\n2,poison\n",
    "versions": "id,identifier\n1,red\n2,gold\n",
    "pokemon_shapes": "id,identifier\n1,quadruped\n",
    "pokemon_habitats": "id,identifier\n1,forest\n",
}


def read(**settings: Any) -> tuple[list[Record], SourceFacts]:
    records, facts = read_records(DatasetSettings(**settings))
    return list(records), facts


def write_tables(folder: Path, tables: Mapping[str, str] = POKEAPI) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8", newline="")
    return folder


# --- corpus


def test_the_corpus_knows_every_creature_it_describes_in_both_languages() -> None:
    records, facts = read(source="corpus", description_language="en,ko")
    assert facts.license == "CC0-1.0"
    assert {record.language for record in records} == {"en", "ko"}
    assert all(set(record.names) == {"en", "ko"} for record in records)
    assert len({record.key for record in records}) >= 40


def test_the_corpus_yields_only_the_languages_asked_for() -> None:
    assert {record.language for record in read(source="corpus", description_language="ko")[0]} == {"ko"}


def test_the_corpus_refuses_a_location() -> None:
    with pytest.raises(InputError, match="no location"):
        read(source="corpus", location="somewhere")


def test_an_unknown_description_language_is_refused() -> None:
    with pytest.raises(InputError, match="'fr'"):
        read(source="corpus", description_language="fr")


# --- pokeapi


def test_pokeapi_records_carry_names_of_all_languages_family_and_looks(tmp_path: Path) -> None:
    records, facts = read(source="pokeapi", location=str(write_tables(tmp_path / "csv")), description_language="en,ko")
    assert [record.key for record in records] == ["pokemon/1", "pokemon/1", "pokemon/3"]
    first = records[0]
    assert first.names == {"en": "Sprout", "ko": "새싹이", "fr": "Pousse"}
    assert first.family == "pokemon-family/1"
    assert first.description == "A seed on its\nback.\x0cThis Pokémon\nnaps."
    assert first.attributes == {
        "generation": 1,
        "types": ["grass", "poison"],
        "colour": "green",
        "shape": "quadruped",
        "habitat": "forest",
        "genus_en": "Seed Pokémon",
        "version": "red",
    }
    assert records[1].language == "ko"
    assert facts.location == "csv"


def test_pokeapi_names_the_tables_that_a_folder_lacks(tmp_path: Path) -> None:
    folder = write_tables(tmp_path, {name: text for name, text in POKEAPI.items() if name != "versions"})
    with pytest.raises(InputError, match=r"lacks versions\.csv"):
        read(source="pokeapi", location=str(folder))


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("pokemon_types", "pokemon_id,type_id\n1,1\n", "no column slot"),
        ("versions", "id,identifier\n1,red,extra\n", "row 2 has 3 fields"),
        ("pokemon_species", POKEAPI["pokemon_species"].replace("1,sprout,1,", "1,sprout,one,"), "'one' where a number"),
        (
            "pokemon_species_flavor_text",
            "species_id,version_id,language_id,flavor_text\n77,1,9,Hi\n",
            "unknown species '77'",
        ),
        ("pokemon_species_flavor_text", 'species_id,version_id,language_id,flavor_text\n1,1,9,"cut', "row 2"),
    ],
)
def test_a_damaged_pokeapi_table_is_named_with_its_row(tmp_path: Path, table: str, text: str, message: str) -> None:
    folder = write_tables(tmp_path, {**POKEAPI, table: text})
    with pytest.raises(InputError, match=message) as caught:
        read(source="pokeapi", location=str(folder))
    assert f"{table}.csv" in caught.value.found


@pytest.mark.skipif(not SHARED_TABLES.is_dir(), reason="PokéAPI's tables are not beside this repository")
def test_the_published_tables_are_read_whole() -> None:
    records, _ = read(source="pokeapi", location=str(SHARED_TABLES), description_language="en,ko")
    assert len(records) == 14_496 + 5_818
    assert len({record.key for record in records}) == 1_025


class _Host(http.server.BaseHTTPRequestHandler):
    """Serves `POKEAPI` below `/{revision}/data/v2/csv/`, with the faults that a test lists, one a request."""

    faults: list[str]
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        body = POKEAPI.get(self.path.partition("?")[0].rsplit("/", 1)[-1].removesuffix(".csv"), "").encode()
        fault = self.faults.pop(0) if self.faults else ""
        status = int(fault) if fault.isdecimal() else 200 if body else 404
        self.send_response(status)
        if status in (429, 503):
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def host(*faults: str) -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (_Host,), {"faults": list(faults), "seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.seen
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE", 0.0)


def test_pokeapi_is_fetched_by_revision_in_at_most_eight_files_and_equals_the_folder(tmp_path: Path) -> None:
    with host() as (url, seen):
        fetched, facts = read(source="pokeapi", location=url, revision="abc")
    local, local_facts = read(source="pokeapi", location=str(write_tables(tmp_path / "csv")))
    assert [record.description for record in fetched] == [record.description for record in local]
    assert facts.content_hash == local_facts.content_hash
    assert facts.revision == "abc"
    assert len(seen) <= 8
    assert all(path.startswith("/abc/data/v2/csv/") for path in seen)


def test_a_fetch_is_repeated_after_429_503_and_a_body_cut_short() -> None:
    with host("429", "503", "cut", "500") as (url, seen):
        records, _ = read(source="pokeapi", location=url, revision="abc")
    assert len(records) == 2
    assert len(seen) == 8 + 4


def test_a_host_that_goes_on_failing_is_given_up_with_its_status() -> None:
    with host(*["503"] * 20) as (url, seen), pytest.raises(EnvironmentLacks, match="answered 503 5 times"):
        read(source="pokeapi", location=url, revision="abc")
    assert len(seen) == 5


def test_a_missing_file_is_not_asked_for_twice() -> None:
    with host("404") as (url, seen), pytest.raises(InputError, match="answered 404"):
        read(source="pokeapi", location=f"{url}/x", revision="abc")
    assert len(seen) == 1


# --- table

ROWS = [{"name": "Rex", "description": "A brown dog."}, {"name": "나비", "description": "회색 고양이."}]


def written(folder: Path, kind: str) -> Path:
    path = folder / f"pets{kind}"
    if kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path
    if kind.startswith(".jsonl"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    else:
        mark = "\t" if kind.startswith(".tsv") else ","
        text = "\ufeff" + "".join(
            mark.join(row) + "\n" for row in (("name", "description"), *(row.values() for row in ROWS))
        )
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if kind.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.gz"])
def test_every_kind_of_table_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    records, facts = read(source="table", location=str(written(tmp_path, kind)), description_language="en,ko")
    assert [(record.key, dict(record.names), record.description, record.language) for record in records] == [
        ("table/rex", {"en": "Rex"}, "A brown dog.", "en"),
        ("table/나비", {"ko": "나비"}, "회색 고양이.", "ko"),
    ]
    assert facts.location == f"pets{kind}"


def test_a_pattern_reads_all_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.csv").write_text(f"name,description\n{name.upper()}{name},text of {name}\n")
    records, _ = read(source="table", location=str(tmp_path / "*.csv"))
    assert [record.source_ref for record in records] == ["a.csv:2", "b.csv:2"]


def test_optional_columns_are_used_when_they_are_there(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "key,who,family,language,name_ko,license,what\npets/1,Rex,dogs,en,렉스,MIT,A brown dog.\n", encoding="utf-8"
    )
    (record,), _ = read(source="table", location=str(path), description_column="what", name_column="who")
    assert (record.key, record.family, record.license) == ("pets/1", "dogs", "MIT")
    assert record.names == {"en": "Rex", "ko": "렉스"}


def test_names_that_differ_only_in_their_sign_keep_keys_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("name,description\nNido♀,one\nNido♂,two\n", encoding="utf-8")
    assert [record.key for record in read(source="table", location=str(path))[0]] == ["table/nido-f", "table/nido-m"]


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"who,what\na,b\n", r"no column 'description' \(--description-column\) and no column 'name'"),
        ("t.csv", b"name,description\na\n", "row 2 has 1 fields"),
        ("t.csv", b"name,description\na,b,c\n", "row 2 has 3 fields"),
        ("t.csv", b"name,name\na,b\n", "'name' twice"),
        ("t.csv", b"name,description\na,ok\nb,caf\xe9\n", "row 3 is not UTF-8: byte 0xe9 at 27"),
        ("t.csv", b'name,description\na,"open\n', "not a readable table"),
        ("t.csv.gz", b"no gzip", "gzip"),
        ("t.csv.gz", gzip.compress(b"name,description\na,b\n" * 50, mtime=0)[:-12], "gzip"),
        ("t.jsonl", b"", "is empty"),
        ("t.jsonl", b'{"name": "a", "description": "b"}\n{"name": \n', "row 2 is not JSON"),
        ("t.jsonl", b'{"name": "a", "description": "b"}\n[]\n', "row 2 is not a JSON object"),
        ("t.jsonl", b'{"name": "a", "description": "b"}\n{"name": "c"}\n', "row 2 has no 'description'"),
        ("t.parquet", b"PAR1 cut", "not a readable Parquet"),
        ("t.xlsx", b"x", "not a table that pkt reads"),
    ],
)
def test_a_bad_table_is_one_error_with_its_file_and_row(tmp_path: Path, name: str, body: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(body)
    with pytest.raises(InputError, match=message) as caught:
        read(source="table", location=str(path))
    assert name in caught.value.found
    assert caught.value.remedy


def test_a_parquet_file_cut_short_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"pets\.parquet is not a readable Parquet file"):
        read(source="table", location=str(path))


@pytest.mark.parametrize("location", [None, "nowhere.csv", "."])
def test_a_table_without_a_file_is_an_error(location: str | None) -> None:
    with pytest.raises(InputError, match="--from"):
        read(source="table", location=location)


# --- hub


def test_a_dataset_of_the_seeds_schema_is_split_into_name_and_description(tmp_path: Path) -> None:
    texts = ["Pikachu: A yellow mouse: it sparks.", "Type: Null: A masked beast.", "no name here"]
    (tmp_path / "seed").mkdir()
    pq.write_table(
        pa.table({"en_text": texts, "image": [b"x"] * 3}), tmp_path / "seed" / "train-00000-of-00001.parquet"
    )
    records, facts = read(source="hub", location=str(tmp_path / "seed"))
    assert [(record.names.get("en"), record.description) for record in records] == [
        ("Pikachu", "A yellow mouse: it sparks."),
        ("Type: Null", "A masked beast."),
        (None, "no name here"),
    ]
    assert facts.location == "seed"


def test_a_dataset_without_the_columns_says_which_it_has(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(InputError, match="its columns are 'text'"):
        read(source="hub", location=str(tmp_path))
