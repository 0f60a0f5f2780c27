"""What holds for every source, and the corpus. The other sources have files of their own."""

from __future__ import annotations

import pytest

from support.sources import read
from toolkit.core.errors import InputError
from toolkit.core.recipe import DatasetSettings, SourceSettings
from toolkit.data.sources import read_records


def test_the_corpus_knows_every_creature_it_describes_in_both_languages() -> None:
    records, facts = read("corpus", description_language="en,ko")
    assert facts.license == "CC0-1.0"
    assert {record.language for record in records} == {"en", "ko"}
    assert all(set(record.names) == {"en", "ko"} for record in records)
    assert len({record.key for record in records}) >= 40


def test_the_corpus_yields_only_the_languages_asked_for() -> None:
    assert {record.language for record in read("corpus", description_language="ko")[0]} == {"ko"}


def test_an_unknown_description_language_is_refused() -> None:
    with pytest.raises(InputError, match="'fr'"):
        read("corpus", description_language="fr")


@pytest.mark.parametrize(
    ("name", "settings", "setting"),
    [
        ("corpus", {"location": "somewhere"}, "`location`"),
        ("pokeapi", {"name_column": "name"}, "`name_column`"),
        ("pokeapi", {"encoding": "cp949"}, "`encoding`"),
        ("hub", {"encoding": "cp949"}, "`encoding`"),
        ("table", {"revision": "abc"}, "`revision`"),
    ],
)
def test_a_setting_that_a_source_has_no_use_for_is_refused(name: str, settings: dict[str, str], setting: str) -> None:
    with pytest.raises(InputError, match=f"The source {name} has no use for {setting}"):
        read(name, **settings)


def test_several_sources_are_read_in_the_order_given(tmp_path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.csv").write_text(f"name,description\n{name}{name},text\n")
    sources = [SourceSettings(name="table", location=str(tmp_path / f"{name}.csv")) for name in ("b", "a")]
    found = read_records(DatasetSettings(sources=[*sources, SourceSettings()]))
    assert [facts.location for facts, _ in found] == ["b.csv", "a.csv", "embedded corpus"]
    assert [record.key for _, records in found[:2] for record in records] == ["table/bb", "table/aa"]
