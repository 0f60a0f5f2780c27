"""Building: what is kept, what is dropped and counted, who goes into which split, and that the bytes are the same."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.datasets import DEEDS, PLACES, creatures, from_table, near_duplicates, table
from support.datasets import build as build_from
from support.sources import POKEAPI, host, write_tables
from toolkit.cards.page import front_matter
from toolkit.core.errors import InputError
from toolkit.core.folder import file_hashes, read_manifest
from toolkit.core.layout import COLUMNS, MANIFEST, VALIDATION
from toolkit.core.recipe import DatasetSettings, SourceSettings
from toolkit.core.text import clean_text, fits_language
from toolkit.data.build import BuildResult
from toolkit.data.cleaning import Creature, merge_creatures
from toolkit.data.splits import assign_splits
from toolkit.model.chat import REQUEST, request_variants

EVERYTHING_TO_TRAIN = {"validation_size": 0, "test_size": 0, "unseen_size": 0}


def build(folder: Path, rows: Iterable[dict[str, str]], seed: int = 7, **changes: Any) -> BuildResult:
    return build_from(folder / "out", from_table(table(folder, rows), **changes), seed)


def read(result: BuildResult) -> dict[str, list[dict[str, Any]]]:
    return {
        split: pq.read_table(result.path / "data" / f"{split}-00000-of-00001.parquet").to_pylist()
        for split in result.rows
    }


def rejected(result: BuildResult) -> dict[str, str]:
    return {row["description"]: row["reason"] for row in pq.read_table(result.path / "rejected.parquet").to_pylist()}


def test_a_row_is_a_korean_request_with_the_masked_description_and_the_name(tmp_path: Path) -> None:
    row = {"name": "Rex", "description": "A brown\ndog. Rex barks at the Tom.", "key": "pets/1", "license": "MIT"}
    result = build(tmp_path, [row, {"name": "Tom", "description": "A grey cat that naps all day."}])
    (built,) = [row for row in read(result)["train"] if row["creature"] == "pets/1"]
    description = "A brown dog. This Pokémon barks at another Pokémon."
    assert tuple(built) == COLUMNS
    assert built["messages"] == [
        {"role": "user", "content": f"{REQUEST}\n\n{description}"},
        {"role": "assistant", "content": "Rex"},
    ]
    assert (built["description"], built["answer"], built["name_en"], built["name_ko"]) == (
        description,
        "Rex",
        "Rex",
        None,
    )
    assert (built["source"], built["source_ref"], built["license"]) == ("table", "table.jsonl:1", "MIT")
    assert json.loads(built["attributes"]) == {}


@pytest.mark.parametrize(("form", "answer"), [("en", "Rex"), ("ko", "렉스"), ("both", "렉스 (Rex)")])
def test_the_answer_is_in_the_language_asked_for(tmp_path: Path, form: str, answer: str) -> None:
    result = build(
        tmp_path, [{"name": "Rex", "name_ko": "렉스", "description": "A brown dog that barks."}], answer=form
    )
    assert read(result)["train"][0]["answer"] == answer


def test_the_request_is_drawn_from_paraphrases_and_a_row_keeps_its_own_whatever_else_is_there(tmp_path: Path) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir()
    many.mkdir()
    asked = [
        {
            row["id"]: row["messages"][0]["content"].split("\n\n")[0]
            for rows in read(build(folder, creatures(count), request_variants=5)).values()
            for row in rows
        }
        for folder, count in ((few, 10), (many, 20))
    ]
    assert set(asked[1].values()) == set(request_variants(5))
    assert asked[0].items() <= asked[1].items()


def test_every_variant_is_one_korean_paragraph_of_its_own() -> None:
    requests = request_variants(24)
    assert requests[0] == REQUEST
    assert len(set(requests)) == 24
    assert all(fits_language(request, "ko") and clean_text(request) == request for request in requests)


def test_a_system_turn_comes_before_every_conversation(tmp_path: Path) -> None:
    rows = read(build(tmp_path, creatures(), system="You name creatures."))["train"]
    assert {tuple(message["role"] for message in row["messages"]) for row in rows} == {("system", "user", "assistant")}
    assert {row["messages"][0]["content"] for row in rows} == {"You name creatures."}


def test_a_creature_that_two_sources_know_by_name_is_one_and_its_families_are_one(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    known = [
        {"name": "Rex", "name_ko": "렉스", "key": "pets/1", "family": "dogs", "description": "A brown dog that barks."},
        {"name": "Max", "key": "pets/2", "family": "dogs", "description": "A small black dog with a white paw."},
    ]
    found = [
        {"name": "rex", "description": "It is brown, wags its tail and guards the farm."},
        {"name": "Tom", "description": "A grey cat that naps all day."},
    ]
    sources = [
        SourceSettings(name="table", location=table(tmp_path / "second", found)),
        SourceSettings(name="table", location=table(tmp_path / "first", known)),
    ]
    result = build_from(tmp_path / "out", DatasetSettings(sources=sources, **EVERYTHING_TO_TRAIN))
    rows = read(result)["train"]
    assert {(row["creature"], row["family"], row["name_en"], row["name_ko"]) for row in rows} == {
        ("pets/1", "dogs", "Rex", "렉스"),
        ("pets/2", "dogs", "Max", None),
        ("table/tom", "table/tom", "Tom", None),
    }
    assert [source["rows"] for source in read_manifest(result.path, "dataset")["sources"]] == [2, 2]


def test_one_name_is_one_creature_unless_its_other_names_differ() -> None:
    creatures = [
        Creature("a/1", "a/1", {"en": "Rex"}, 0),
        Creature("a/2", "a/2", {"en": "rex"}, 0),
        Creature("b/1", "b/1", {"en": "Tick", "ko": "틱"}, 1),
        Creature("b/2", "b/2", {"en": "Tock", "ko": "틱"}, 1),
    ]
    assert {key: creature.key for key, creature in merge_creatures(creatures).items()} == {
        "a/1": "a/1",
        "a/2": "a/1",
        "b/1": "b/1",
        "b/2": "b/2",
    }


@pytest.mark.parametrize("keys", ["row", "file", "none"])
def test_numbers_of_rows_as_keys_make_no_creatures(tmp_path: Path, keys: str) -> None:
    rows = creatures(12)
    for number, row in enumerate(rows):
        del row["family"]
        if keys != "none":
            row["key"] = str(number if keys == "row" else number % (len(rows) // 2))
        row["name"] = row["name"].upper() if number % 2 else row["name"]
    result = build(tmp_path, rows, unseen_size=0.3)
    splits = read(result)
    answers = {split: {row["answer"].lower() for row in its} for split, its in splits.items()}
    assert not answers["unseen"] & answers["train"]
    assert answers["test"] <= answers["train"]
    assert result.creatures == 12
    # Every row has the answer that its source gave it.
    given = {row["description"]: row["name"].lower() for row in rows}
    assert all(row["answer"].lower() == given[row["description"]] for its in splits.values() for row in its)
    assert any("keys are of a creature that another key names too" in note for note in result.notes) == (keys != "none")


@pytest.mark.parametrize(("each", "refused"), [(1, True), (4, False)])
def test_numbers_of_rows_as_keys_join_no_names_of_two_sources(tmp_path: Path, each: int, refused: bool) -> None:
    sources = []
    for language in ("en", "ko"):
        (tmp_path / language).mkdir()
        said = [
            {"key": str(number // each), "name": row["name"], "description": row["description"]}
            for number, row in enumerate(creatures(5, texts=4))
        ]
        if language == "ko":
            said = [row | {"name": f"이름{chr(0xAC00 + number // 4)}"} for number, row in enumerate(said)]
        sources.append(SourceSettings(name="table", location=table(tmp_path / language, said)))
    settings = DatasetSettings(sources=sources, answer="en", **EVERYTHING_TO_TRAIN)
    if not refused:
        assert build_from(tmp_path / "out", settings).creatures == 5
        return
    with pytest.raises(InputError, match="share keys that number rows: 20 for 5 names"):
        build_from(tmp_path / "out", settings)


def test_a_key_with_several_names_is_a_creature_for_each(tmp_path: Path) -> None:
    rows = [
        {"key": "1", "name": name, "description": f"A beast that {deed} near the {place} all day."}
        for name, deed, place in zip(("Rex", "Tom", "rex", ""), DEEDS, PLACES, strict=False)
    ]
    found = {row["creature"]: row["answer"] for row in read(build(tmp_path, rows, **EVERYTHING_TO_TRAIN))["train"]}
    assert found == {"1": "Rex", "1/tom": "Tom"}


def test_unseen_never_holds_an_answer_of_train_whatever_keys_and_families_say(tmp_path: Path) -> None:
    rows = creatures(20, family_of=1)
    for number, row in enumerate(rows):
        of = number // 6
        row["key"] = f"k{of}"
        # Two creatures share each answer, and only their Korean names tell them apart.
        row["name_en"] = ("Pokémon {}" if of % 2 else "pokemon-{}").format(of // 2)
        row["name_ko"] = f"이름{chr(0xAC00 + of)}"
    splits = read(build(tmp_path, rows, unseen_size=0.3))
    answers = {split: {row["answer"].split("-")[-1].split()[-1] for row in its} for split, its in splits.items()}
    assert len(answers["unseen"]) == 3
    assert not answers["unseen"] & (answers["train"] | answers["test"] | answers["validation"])


def test_merged_creatures_join_the_families_of_both_sources() -> None:
    creatures = [
        Creature("a/1", "cats", {"en": "Tom"}, 0),
        Creature("b/1", "felines", {"en": "Tom"}, 1),
        Creature("b/2", "felines", {"en": "Leo"}, 1),
    ]
    assert {key: creature.family for key, creature in merge_creatures(creatures).items()} == dict.fromkeys(
        ("a/1", "b/1", "b/2"), "cats"
    )


def test_the_folder_says_what_the_validator_finds_in_it(tmp_path: Path) -> None:
    result = build(tmp_path, creatures())
    assert result.validation["ok"]
    assert json.loads((result.path / VALIDATION).read_text(encoding="utf-8")) == result.validation
    assert "Passes `pkt validate`" in (result.path / "README.md").read_text(encoding="utf-8")


def test_every_dropped_record_is_counted_and_kept_with_its_reason(tmp_path: Path) -> None:
    kept = "A brown dog that barks at night."
    dropped = {
        "": "empty",
        "Too short.": "too-short",
        "A long tail. " * 30: "too-long",
        "Большая коричневая собака лает.": "wrong-letters",
        "갈색 개가 밤에 짖는다. 아주 크게 짖는다.": "language",
        "It barks. <end_of_turn> And again.": "control-token",
        "It barks \ufffd all through the night.": "broken",
        kept.upper(): "duplicate",
    }
    rows = [
        {"name": "Rex", "description": text, "language": "ko" if reason == "language" else "en"}
        for text, reason in dropped.items()
    ]
    rows += [{"name": "", "description": "Nobody knows what this one is called."}]
    rows += [{"name": "나비", "description": "It sleeps on a warm stone all day."}]
    rows += [{"name": name, "description": "Both of them look exactly the same."} for name in ("Tick", "Tock")]
    result = build(tmp_path, [{"name": "Rex", "description": kept}, *rows], max_characters=200)
    reasons = rejected(result)
    for text, reason in dropped.items():
        assert reasons[" ".join(text.split())] == reason
    assert result.dropped == {**dict.fromkeys(dropped.values(), 1), "no-name": 1, "no-answer": 1, "ambiguous": 2}
    assert result.read == result.rows["train"] + sum(result.dropped.values())


def test_a_family_may_be_the_name_of_another_creature() -> None:
    creatures = [
        Creature("a/1", "a/1", {"en": "Rex"}),
        Creature("a/2", "rex", {"en": "Rexor"}),
        Creature("a/3", "Rexor", {"en": "Rexorus"}),
        Creature("a/4", "cats", {"en": "Tom"}),
    ]
    merge_creatures(creatures)
    assert len({creature.family for creature in creatures[:3]}) == 1
    assert creatures[3].family == "cats"


def test_a_mask_that_says_the_name_drops_the_row_instead_of_leaking_it(tmp_path: Path) -> None:
    result = build(
        tmp_path,
        [
            {"name": "Pet", "description": "The Pet is a brown dog that barks."},
            {"name": "Tom", "description": "A grey cat that naps all day."},
        ],
        mask="this pet",
    )
    assert result.dropped == {"unmaskable": 1}


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    rows = [{"name": "Rex", "description": "Dog.", "family": "a"}]
    with pytest.raises(
        InputError, match=r"None of the 1 .* table\.jsonl .*1 too short.*by their names alone: 'family'"
    ):
        build(tmp_path, rows)
    assert not (tmp_path / "out").exists()


def test_a_word_that_unrelated_descriptions_use_in_lower_case_is_not_masked_there(tmp_path: Path) -> None:
    texts = {
        "Rex": "It hides in the amber light of dawn.",
        "Tom": "An amber stone shines on its brow.",
        "Amber": "It glows warmly.",
    }
    result = build(tmp_path, [{"name": name, "description": text} for name, text in texts.items()], min_characters=5)
    assert {row["description"] for row in read(result)["train"]} == set(texts.values())


def test_the_same_source_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    hashes = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        hashes.append(file_hashes(build(tmp_path / name, creatures()).path))
    assert hashes[0] == hashes[1]
    assert {"README.md", "data/train-00000-of-00001.parquet"} <= hashes[0].keys()


def test_another_seed_deals_other_splits(tmp_path: Path) -> None:
    first = {row["id"] for row in read(build(tmp_path, creatures(), seed=1))["test"]}
    assert first != {row["id"] for row in read(build(tmp_path, creatures(), seed=2))["test"]}


def test_a_build_says_whose_dataset_it_replaces(tmp_path: Path) -> None:
    build(tmp_path, creatures())
    assert not any("takes the place" in note for note in build(tmp_path, creatures(), seed=2).notes)
    corpus = DatasetSettings(sources=[SourceSettings(name="corpus")])
    assert build_from(tmp_path / "out", corpus).notes == ("It takes the place of the dataset of table.jsonl.",)


def test_rows_are_sorted_by_id_and_ids_are_unique(tmp_path: Path) -> None:
    ids = [[row["id"] for row in rows] for rows in read(build(tmp_path, creatures())).values()]
    assert all(its == sorted(its) for its in ids)
    assert len({id for its in ids for id in its}) == sum(map(len, ids))


def test_unseen_families_never_reach_another_split_and_known_creatures_are_all_trained_on(tmp_path: Path) -> None:
    splits = read(build(tmp_path, creatures(40), unseen_size=0.2))
    families = {split: {row["family"] for row in rows} for split, rows in splits.items()}
    assert len(families["unseen"]) == 4
    assert not families["unseen"] & (families["train"] | families["validation"] | families["test"])
    trained = {row["creature"] for row in splits["train"]}
    assert {row["creature"] for split in ("validation", "test") for row in splits[split]} <= trained


def test_a_creature_with_two_descriptions_is_only_trained_on(tmp_path: Path) -> None:
    result = build(tmp_path, creatures(20, texts=2), unseen_size=0)
    assert result.rows == {"train": 40}


def test_what_a_game_says_in_two_languages_stays_in_one_split(tmp_path: Path) -> None:
    versions = range(1, 13)
    # Every second game repeats the English text of the one before it, and has a Korean text of its own.
    english = [
        f"{number},{v},9,It {DEEDS[(v - 1) // 2]} {number}x{(v - 1) // 2} by the {PLACES[(v - 1) // 2]}."
        for number in (1, 2, 3)
        for v in versions
    ]
    korean = [
        f"{number},{v},3,{number}번째 이야기 {v}: 숲에서 {'가나다라마바사아자차카타'[v - 1] * 6} 소리를 낸다."
        for number in (1, 2, 3)
        for v in versions
    ]
    texts = "\n".join(["species_id,version_id,language_id,flavor_text", *english, *korean])
    names = {"versions": "id,identifier\n" + "".join(f"{v},game{v}\n" for v in versions)}
    tables = write_tables(tmp_path / "csv", POKEAPI | names | {"pokemon_species_flavor_text": texts})
    source = SourceSettings(name="pokeapi", location=str(tables))
    chosen = DatasetSettings(
        sources=[source], description_language="en,ko", unseen_size=0, test_size=0.5, near_duplicate=1, min_characters=5
    )
    result = build_from(tmp_path / "out", chosen)
    splits: dict[tuple[str, int], set[str]] = defaultdict(set)
    for split, rows in read(result).items():
        for row in rows:
            game = int(json.loads(row["attributes"])["version"].removeprefix("game"))
            splits[row["creature"], (game - 1) // 2].add(split)
    assert len(splits) == 18
    assert set(map(len, splits.values())) == {1}
    assert {split for its in splits.values() for split in its} >= {"train", "test"}


def test_near_duplicates_never_straddle_splits(tmp_path: Path) -> None:
    rows = creatures(30)
    rows += [{**row, "description": row["description"] + " Yes."} for row in rows[::3]]
    # And the same text, all but a word, for another creature.
    rows += [
        {**rows[(index + 50) % 180], "description": rows[index]["description"] + " So."} for index in range(0, 90, 7)
    ]
    built = read(build(tmp_path, rows))
    words = [(set(row["description"].lower().split()), split) for split, its in built.items() for row in its]
    for (one, split), (other, its) in combinations(words, 2):
        assert split == its or len(one & other) / len(one | other) < 0.7


def test_clusters_do_not_depend_on_the_order_of_texts() -> None:
    texts = [row["description"] for row in creatures(10)]
    texts += [f"{text} Yes." for text in texts[::2]]
    there, back = _groups(texts), _groups(texts[::-1])
    assert there == back
    assert len(there) == 60


def _groups(texts: list[str]) -> set[frozenset[str]]:
    groups = defaultdict(set)
    for text, cluster in zip(texts, near_duplicates(texts), strict=True):
        groups[cluster].add(text)
    return set(map(frozenset, groups.values()))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 60)), min_size=1, max_size=60), st.integers(0, 99))
def test_splits_keep_their_promises_whatever_the_rows_even_with_large_shares(
    rows: list[tuple[int, int]], seed: int
) -> None:
    names = [f"c{creature}" for creature, _ in rows]
    families = [f"f{creature // 2}" for creature, _ in rows]
    clusters = [f"k{cluster}" for _, cluster in rows]
    shares = DatasetSettings(validation_size=0.4, test_size=0.5, unseen_size=0.3)
    answers = [[f"Name {creature % 6}"] for creature, _ in rows]
    assigned = assign_splits(names, families, clusters, answers, shares, seed)
    for keys in (families, clusters, [answer for (answer,) in answers]):
        by_key = defaultdict(set)
        for key, split in zip(keys, assigned, strict=True):
            by_key[key].add(split)
        assert all("unseen" not in splits or splits == {"unseen"} for splits in by_key.values())
        assert keys is not clusters or all(len(splits) == 1 for splits in by_key.values())
    trained = {name for name, split in zip(names, assigned, strict=True) if split == "train"}
    assert {name for name, split in zip(names, assigned, strict=True) if split != "unseen"} == trained
    backwards = assign_splits(names[::-1], families[::-1], clusters[::-1], answers[::-1], shares, seed)
    assert backwards == assigned[::-1]


def test_the_manifest_tells_what_was_read_dropped_and_split_without_a_path(tmp_path: Path) -> None:
    result = build(tmp_path, creatures())
    manifest = read_manifest(result.path, "dataset")
    assert manifest["splits"] == result.rows
    assert (manifest["recipe"], manifest["seed"], manifest["read"]) == ("test", 7, 120)
    assert manifest["sources"][0]["name"] == "table"
    assert manifest["files"] == file_hashes(result.path)
    assert str(tmp_path) not in (result.path / MANIFEST).read_text()


def test_the_folder_loads_with_datasets_split_by_split_without_what_was_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    result = build(tmp_path, [*creatures(), {"name": "Rex", "description": "Dog."}])
    assert (result.path / "rejected.parquet").is_file()
    loaded = datasets.load_dataset(str(result.path), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == result.rows


def test_the_card_of_a_table_states_the_trademark_where_it_is_called_pokemon(tmp_path: Path) -> None:
    path = Path(table(tmp_path, creatures()))
    for name, said in (("pets.jsonl", False), ("my-Pokémon.jsonl", True)):
        path = path.rename(tmp_path / name)
        result = build_from(tmp_path / "out", from_table(str(path)))
        assert ("trademarks of Nintendo" in (result.path / "README.md").read_text(encoding="utf-8")) is said


def test_the_card_of_the_corpus_states_its_licence_and_the_trademark(tmp_path: Path) -> None:
    result = build_from(tmp_path / "out", DatasetSettings())
    card = (result.path / "README.md").read_text(encoding="utf-8")
    assert front_matter(card)["license"] == "cc0-1.0"
    assert f"| `train` | {result.rows['train']:,} |" in card


def everything_in(folder: Path) -> bytes:
    """All bytes of a folder's files, and of the texts in its tables."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    texts = [json.dumps(pq.read_table(path).to_pylist()) for path in files if path.suffix == ".parquet"]
    return b"".join(path.read_bytes() for path in files) + "".join(texts).encode()


def test_credentials_and_query_of_a_url_are_nowhere_in_the_dataset(tmp_path: Path) -> None:
    with host() as (url, seen):
        location = url.replace("://", "://user:s3cretpw@") + "/mirror?token=t0psecret"
        source = SourceSettings(name="pokeapi", location=location)
        build_from(tmp_path / "out", DatasetSettings(sources=[source], **EVERYTHING_TO_TRAIN))
    assert all("token=t0psecret" in path for path in seen)
    written = everything_in(tmp_path / "out")
    assert b"s3cretpw" not in written
    assert b"t0psecret" not in written
    assert f"{url}/mirror".encode() in written


@pytest.mark.parametrize("name", ["creatures.csv", "*.csv"])
def test_the_folder_of_a_private_table_is_nowhere_in_the_dataset(tmp_path: Path, name: str) -> None:
    client = tmp_path / "secret-client"
    client.mkdir()
    (client / "creatures.csv").write_text("name,description\nRex,A brown dog that guards the old farm.\n")
    build_from(tmp_path / "out", from_table(str(client / name), **EVERYTHING_TO_TRAIN))
    written = everything_in(tmp_path / "out")
    assert b"secret-client" not in written
    assert str(tmp_path).encode() not in written
    assert b"creatures.csv" in written


def test_a_text_with_a_misspelt_name_is_dropped_unless_others_use_the_word(tmp_path: Path) -> None:
    rows = [
        {"name": "Mawile", "description": "Its huge jaws are steel horns. MAWHILE bites with them."},
        {"name": "Shakira", "description": "The ground is shakirs when it runs across the field."},
        {"name": "Tom", "description": "All around it the old house is full of shakirs."},
    ]
    result = build(tmp_path, rows, **EVERYTHING_TO_TRAIN)
    assert result.dropped == {"near-name": 1}
    assert list(rejected(result)) == [rows[0]["description"]]
