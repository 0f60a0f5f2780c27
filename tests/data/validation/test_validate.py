"""Datasets with the columns of this toolkit, and built ones, are validated."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.datasets import build
from support.validation import Splits, codes, finding, skipped, write
from toolkit.core.hub_client import hub
from toolkit.core.recipe import DatasetSettings
from toolkit.data.validation import validate
from toolkit.hub.local.serve import running_hub

TEXTS = (
    "A squat beast with a bulb of green leaves on its back.",
    "Small orange lizard; a flame burns at the end of a long tail.",
    "It swims under bridges and squirts water at passing boats.",
    "Red eyes glow from the roof of an old mill after midnight.",
    "Nobody has seen it eat, yet apples vanish wherever it sleeps.",
    "Three heads argue about which path through the snow is shortest.",
)


def row(number: int, creature: str, family: str) -> dict[str, Any]:
    text = TEXTS[number]
    return {
        "id": f"id{number}",
        "messages": [
            {"role": "user", "content": f"이름을 지어줘:\n\n{text}"},
            {"role": "assistant", "content": creature.title()},
        ],
        "answer": creature.title(),
        "description": text,
        "creature": creature,
        "family": family,
        "name_en": creature.title(),
        "name_ko": "이상해씨",
        "language": "en",
    }


def sound() -> Splits:
    return {
        "train": [row(0, "bulba", "f1"), row(1, "chara", "f2"), row(2, "squir", "f3")],
        "test": [row(3, "bulba", "f1")],
        "unseen": [row(4, "zubat", "f4"), row(5, "golba", "f4")],
    }


def put(target: dict[str, Any], text: str) -> None:
    """Make `text` the description of a row, in its prompt too."""
    target["description"] = text
    target["messages"][0]["content"] = f"이름을 지어줘:\n\n{text}"


def test_a_sound_dataset_has_no_finding(tmp_path: Path) -> None:
    report = validate(write(tmp_path, sound()), strict=True)
    assert report.findings == []
    assert report.ok
    assert report.rows == {"train": 3, "test": 1, "unseen": 2}
    assert list(skipped(report)) == ["balance", "lang.answer", "tokens.length", "tokens.contract"]


def test_warnings_fail_only_when_strict(tmp_path: Path) -> None:
    splits = sound()
    put(splits["train"][1], TEXTS[0])
    write(tmp_path, splits)
    assert codes(validate(tmp_path)) == {"label.conflict"}
    assert validate(tmp_path).ok
    assert not validate(tmp_path, strict=True).ok


def test_only_the_first_five_places_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    splits = sound()
    splits["train"] = [{**row(0, "bulba", "f1"), "id": "same"} for _ in range(9)]
    found = finding(validate(write(tmp_path, splits)), "schema.id")
    assert found.count == 8
    assert len(found.places) == 5


def test_rows_are_numbered_over_all_files_of_a_split(tmp_path: Path) -> None:
    splits = sound()
    splits["train"][2]["answer"] = "Else"
    write(tmp_path, splits)
    file = tmp_path / "data" / "train-00000-of-00001.parquet"
    table = pq.read_table(file)
    pq.write_table(table.slice(0, 2), tmp_path / "data" / "train-00000-of-00002.parquet")
    pq.write_table(table.slice(2), tmp_path / "data" / "train-00001-of-00002.parquet")
    file.unlink()
    assert finding(validate(tmp_path), "schema.answer").places[0].row == 2


def test_a_file_cut_short_and_one_damaged_inside_are_found(tmp_path: Path) -> None:
    write(tmp_path, sound())
    cut = tmp_path / "data" / "test-00000-of-00001.parquet"
    cut.write_bytes(cut.read_bytes()[:-30])
    damaged = tmp_path / "data" / "unseen-00000-of-00001.parquet"
    body = bytearray(damaged.read_bytes())
    body[4:400] = b"\xff" * 396
    damaged.write_bytes(body)
    report = validate(tmp_path)
    assert [place.split for place in finding(report, "schema.file").places] == ["test", "unseen"]


def test_a_long_answer_is_not_taken_for_a_name(tmp_path: Path) -> None:
    answer = "It is a yellow mouse, and a rather large one with long ears and a tail like lightning."
    turns = [{"role": "user", "content": f"Repeat: {answer}"}, {"role": "assistant", "content": answer}]
    assert validate(write(tmp_path, {"train": [{"messages": turns}]})).findings == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built") / "dataset", DatasetSettings()).path


def test_a_dataset_of_the_corpus_passes_strictly(built: Path) -> None:
    report = validate(built, strict=True)
    assert report.findings == []
    assert report.ok


def test_a_leak_planted_in_a_built_dataset_is_named_by_its_row_and_the_file_by_its_hash(
    built: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    file = copy / "data" / "test-00000-of-00001.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    put(rows[3], f"{rows[3]['description']} It is a {rows[3]['answer'].lower()}.")
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
    report = validate(copy)
    assert not report.ok
    leak = finding(report, "leak.own-name").places[0]
    assert (leak.split, leak.row, leak.id) == ("test", 3, rows[3]["id"])
    assert rows[3]["answer"].lower() in leak.excerpt
    assert finding(report, "manifest.hash").places[0].split == "data/test-00000-of-00001.parquet"


def test_a_dataset_on_a_hub_is_downloaded_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    with running_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        hub().create_repo("demo/names", repo_type="dataset")
        first = hub().upload_folder(
            repo_id="demo/names", repo_type="dataset", folder_path=write(tmp_path / "mine", {"test": sound()["test"]})
        )
        hub().upload_folder(repo_id="demo/names", repo_type="dataset", folder_path=write(tmp_path / "mine", sound()))
        assert validate("demo/names", strict=True).ok
        assert finding(validate("demo/names", revision=first.oid), "schema.no-train").count == 1
