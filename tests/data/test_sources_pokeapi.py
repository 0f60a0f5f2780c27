"""PokéAPI's tables: read from a folder, fetched from a host that fails, cached and checked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from support import paths
from support.sources import POKEAPI, host, read, write_tables
from toolkit.core.errors import EnvironmentLacks, InputError, ToolkitError
from toolkit.data.sources import pokeapi

SHARED = paths.SHARED / "pokeapi"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_pokeapi_records_carry_names_of_all_languages_family_and_looks(tmp_path: Path) -> None:
    records, facts = read("pokeapi", location=str(write_tables(tmp_path / "csv")), description_language="en,ko")
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
        read("pokeapi", location=str(folder))


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
        read("pokeapi", location=str(folder))
    assert f"{table}.csv" in caught.value.found


@pytest.mark.skipif(not SHARED.is_dir(), reason="PokéAPI's tables are not beside this repository")
def test_the_published_tables_are_read_whole() -> None:
    records, _ = read("pokeapi", location=str(SHARED / "csv"), description_language="en,ko")
    assert len(records) == 14_496 + 5_818
    assert len({record.key for record in records}) == 1_025


# --- a host with faults


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of its own for every test, and no pauses."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("PKT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files_in(home: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in home.rglob("*") if path.is_file())


def test_pokeapi_is_fetched_by_revision_in_at_most_eight_files_and_equals_the_folder(tmp_path: Path) -> None:
    with host() as (url, seen):
        fetched, facts = read("pokeapi", location=url, revision="abc")
    local, local_facts = read("pokeapi", location=str(write_tables(tmp_path / "csv")))
    assert [record.description for record in fetched] == [record.description for record in local]
    assert facts.content_hash == local_facts.content_hash
    assert facts.revision == "abc"
    assert len(seen) <= 8
    assert all(path.startswith("/abc/data/v2/csv/") for path in seen)


def test_a_fetch_is_repeated_after_429_5xx_and_bodies_cut_short() -> None:
    with host("429", "503", "cut", "500", "", "cut-chunks") as (url, seen):
        records, _ = read("pokeapi", location=url, revision=COMMIT)
    assert len(records) == 2
    assert len(seen) == 8 + 5


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("503", "answered 503 5 times"),
        ("429", "answered 429 5 times"),
        ("cut", "could not be fetched in 5 tries: .*expected"),
        ("silent", "could not be fetched in 5 tries: timed out"),
    ],
)
def test_a_host_that_goes_on_failing_is_given_up_in_one_line(
    monkeypatch: pytest.MonkeyPatch, home: Path, fault: str, problem: str
) -> None:
    monkeypatch.setattr(pokeapi, "TIMEOUT", 0.05 if fault == "silent" else 30.0)
    with host(*[fault] * 20) as (url, seen), pytest.raises(EnvironmentLacks, match=problem) as caught:
        read("pokeapi", location=url, revision=COMMIT)
    assert len(seen) == 5
    assert "\n" not in str(caught.value)
    assert not files_in(home)


def test_a_missing_file_is_not_asked_for_twice() -> None:
    with host("404") as (url, seen), pytest.raises(InputError, match="answered 404"):
        read("pokeapi", location=f"{url}/x", revision="abc")
    assert len(seen) == 1


def test_a_page_in_the_place_of_a_table_is_refused_and_never_cached(home: Path) -> None:
    with host("", "html") as (url, seen), pytest.raises(InputError, match=r"names\.csv is not PokéAPI's table"):
        read("pokeapi", location=url, revision=COMMIT)
    assert len(seen) == 2
    assert files_in(home) == ["pokemon_species"]


@pytest.mark.parametrize("location", ["http://", "http://\x00/"])
def test_an_address_that_is_none_is_an_error(location: str) -> None:
    with pytest.raises(ToolkitError, match="`location`"):
        read("pokeapi", location=location)


@pytest.mark.parametrize("revision", ["../../other", "x?y", ""])
def test_a_revision_that_could_mean_another_place_is_refused(revision: str) -> None:
    with host() as (url, seen), pytest.raises(InputError, match="is not a revision"):
        read("pokeapi", location=url, revision=revision)
    assert not seen


@pytest.mark.parametrize("faults", [[], ["503"] * 5])
def test_credentials_in_the_address_are_in_no_error_no_fact_and_no_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, faults: list[str]
) -> None:
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    caplog.set_level(logging.WARNING, "huggingface_hub")
    with host(*faults) as (url, seen):
        secret = url.replace("://", "://me:password@") + "?token=abcdef"
        if faults:
            with pytest.raises(EnvironmentLacks) as caught:
                read("pokeapi", location=secret, revision="master")
            told = str(caught.value)
            assert caplog.records
        else:
            told = str(read("pokeapi", location=secret, revision="master")[1])
    assert all(path.endswith("?token=abcdef") for path in seen)
    assert "password" not in told + caplog.text
    assert "abcdef" not in told + caplog.text


# --- the cache


def test_a_commit_that_is_cached_is_read_without_one_request(home: Path) -> None:
    with host() as (url, seen):
        first = read("pokeapi", location=url, revision=COMMIT)
        assert len(seen) == 8
        assert files_in(home) == sorted(POKEAPI)
        assert read("pokeapi", location=url, revision=COMMIT) == first
    assert len(seen) == 8
    assert read("pokeapi", location=url, revision=COMMIT) == first  # the host is gone


@pytest.mark.parametrize("revision", ["master", COMMIT[:12], None])
def test_what_may_change_its_meaning_is_never_cached(home: Path, revision: str | None) -> None:
    with host() as (url, seen):
        for _ in range(2):
            read("pokeapi", location=url, revision=revision)
    assert len(seen) == 16
    assert not files_in(home)


@pytest.mark.parametrize("damage", [b"id,identifier\n1,rex\n2,gold\n", b"id,iden", b"", None])
def test_a_cached_file_that_is_damaged_is_fetched_again(home: Path, damage: bytes | None) -> None:
    with host() as (url, seen):
        first = read("pokeapi", location=url, revision=COMMIT)
        (path,) = home.rglob("versions-*.csv")
        path.write_bytes(damage) if damage is not None else path.unlink()
        assert read("pokeapi", location=url, revision=COMMIT) == first
        assert len(seen) == 9
        assert read("pokeapi", location=url, revision=COMMIT) == first
    assert len(seen) == 9


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PKT_CACHE", str(tmp_path / "file" / "cache"))
    with host() as (url, seen):
        assert len(read("pokeapi", location=url, revision=COMMIT)[0]) == 2
    assert len(seen) == 8
