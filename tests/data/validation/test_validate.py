"""Validation: a fault planted for every code is found and named by its row, and a sound dataset has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.datasets import build
from toolkit.core.errors import InputError
from toolkit.core.recipe import DatasetSettings
from toolkit.data.validation.findings import CODES, Finding, Report
from toolkit.data.validation.validate import validate_dataset

Rows = list[dict[str, Any]]
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


def sound() -> dict[str, Rows]:
    return {
        "train": [row(0, "bulba", "f1"), row(1, "chara", "f2"), row(2, "squir", "f3")],
        "test": [row(3, "bulba", "f1")],
        "unseen": [row(4, "zubat", "f4"), row(5, "golba", "f4")],
    }


def write(folder: Path, splits: dict[str, Rows]) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    for split, rows in splits.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def finding(report: Report, code: str) -> Finding:
    return next(found for found in report.findings if found.code == code)


def put(target: dict[str, Any], text: str) -> None:
    """Make `text` the description of a row, in its prompt too."""
    target["description"] = text
    target["messages"][0]["content"] = f"이름을 지어줘:\n\n{text}"


def test_a_sound_dataset_has_no_finding(tmp_path: Path) -> None:
    report = validate_dataset(write(tmp_path, sound()), strict=True)
    assert report.findings == []
    assert report.ok
    assert report.rows == {"train": 3, "test": 1, "unseen": 2}
    assert [skipped.code for skipped in report.skipped] == [
        "balance",
        "lang.answer",
        "tokens.length",
        "tokens.contract",
    ]


def _roles(splits: dict[str, Rows]) -> None:
    splits["train"][1]["messages"].reverse()


def _system_last(splits: dict[str, Rows]) -> None:
    splits["train"][1]["messages"].insert(1, {"role": "system", "content": "Be brief."})


def _empty(splits: dict[str, Rows]) -> None:
    splits["train"][1]["messages"][0]["content"] = " \n"


def _null_content(splits: dict[str, Rows]) -> None:
    splits["train"][1]["messages"][0]["content"] = None


def _null(splits: dict[str, Rows]) -> None:
    splits["train"][1]["messages"] = None


def _answer(splits: dict[str, Rows]) -> None:
    splits["train"][1]["answer"] = "Else"


def _id(splits: dict[str, Rows]) -> None:
    splits["train"][1]["id"] = "id0"


def _text(text: str) -> Callable[[dict[str, Rows]], None]:
    return lambda splits: put(splits["train"][1], text)


def _across(splits: dict[str, Rows]) -> None:
    put(splits["test"][0], TEXTS[0].upper())


def _near(splits: dict[str, Rows]) -> None:
    put(splits["test"][0], TEXTS[0].replace("squat", "stout"))


def _within(splits: dict[str, Rows]) -> None:
    splits["train"].append({**splits["train"][0], "id": "again"})


def _conflict(splits: dict[str, Rows]) -> None:
    put(splits["train"][1], TEXTS[0])


def _family(splits: dict[str, Rows]) -> None:
    splits["train"][1]["family"] = "f4"


def _creature(splits: dict[str, Rows]) -> None:
    splits["test"][0]["creature"] = "nobody"


@pytest.mark.parametrize(
    ("code", "plant", "place"),
    [
        ("chat.roles", _roles, ("train", 1)),
        ("chat.roles", _system_last, ("train", 1)),
        ("chat.empty", _empty, ("train", 1)),
        ("chat.empty", _null_content, ("train", 1)),
        ("chat.control-token", _text("It burns <end_of_turn> and burns on."), ("train", 1)),
        ("schema.null", _null, ("train", 1)),
        ("schema.answer", _answer, ("train", 1)),
        ("schema.id", _id, ("train", 1)),
        ("leak.own-name", _text("A lizard that some call CHARAs."), ("train", 1)),
        ("leak.own-name", _text("A lizard that others call 이상해씨라고."), ("train", 1)),
        ("split.family", _family, ("train", 1)),
        ("split.creature", _creature, ("test", 0)),
        ("dup.exact", _across, ("test", 0)),
        ("dup.near", _near, ("test", 0)),
        ("dup.exact-within", _within, ("train", 3)),
        ("label.conflict", _conflict, ("train", 1)),
        ("text.control", _text("A lizard with a zero\u200bwidth flame."), ("train", 1)),
        ("text.bidi", _text("A lizard with a \u202eflame of old."), ("train", 1)),
        ("text.mojibake", _text("A lizard like a PokÃ©mon of old."), ("train", 1)),
        ("text.mojibake", _text("A lizard like a Pok\ufffdmon of old."), ("train", 1)),
        ("text.not-nfc", _text("A lizard like a Poke\u0301mon of old."), ("train", 1)),
        ("lang.description", _text("작은 주황색 도마뱀의 꼬리에 불꽃이 탄다."), ("train", 1)),
    ],
)
def test_a_planted_fault_is_found_at_its_row(
    tmp_path: Path, code: str, plant: Callable[[dict[str, Rows]], None], place: tuple[str, int]
) -> None:
    splits = sound()
    plant(splits)
    report = validate_dataset(write(tmp_path, splits))
    found = finding(report, code)
    assert found.count == 1
    assert (found.places[0].split, found.places[0].row) == place
    assert found.severity == CODES[code][0]
    assert report.ok == all(each.severity == "warning" for each in report.findings)


def test_what_the_build_rejected_is_not_taken_for_a_split(tmp_path: Path) -> None:
    pq.write_table(pa.table({"reason": ["empty"]}), tmp_path / "rejected.parquet")
    assert validate_dataset(write(tmp_path, sound())).findings == []


def test_warnings_fail_only_when_strict(tmp_path: Path) -> None:
    splits = sound()
    _conflict(splits)
    write(tmp_path, splits)
    assert validate_dataset(tmp_path).ok
    assert not validate_dataset(tmp_path, strict=True).ok


def test_only_the_first_five_places_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    splits = sound()
    splits["train"] = [{**row(0, "bulba", "f1"), "id": "same"} for _ in range(9)]
    found = finding(validate_dataset(write(tmp_path, splits)), "schema.id")
    assert found.count == 8
    assert len(found.places) == 5


def test_a_split_without_rows_is_found(tmp_path: Path) -> None:
    write(tmp_path, sound())
    file = tmp_path / "data" / "test-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    assert finding(validate_dataset(tmp_path), "schema.empty-split").places[0].split == "test"


def test_a_dataset_without_train_is_told(tmp_path: Path) -> None:
    report = validate_dataset(write(tmp_path, {"test": sound()["test"]}))
    assert finding(report, "schema.no-train").severity == "warning"


@pytest.mark.parametrize("messages", ["hello", [["user", "x"]], [{"role": "user"}]])
def test_messages_of_another_form_are_found(tmp_path: Path, messages: object) -> None:
    report = validate_dataset(write(tmp_path, {"train": [{"messages": messages}]}))
    assert finding(report, "schema.messages").places[0].split == "train"
    assert not report.ok


def test_a_dataset_without_messages_is_found(tmp_path: Path) -> None:
    report = validate_dataset(write(tmp_path, {"train": [{"prompt": "x"}]}))
    assert "its columns are prompt" in finding(report, "schema.messages").places[0].excerpt


def test_a_column_of_another_type_is_found_and_not_read(tmp_path: Path) -> None:
    splits = sound()
    for number, each in enumerate(splits["train"]):
        each["family"] = number
    report = validate_dataset(write(tmp_path, splits))
    assert "`family` is int64" in finding(report, "schema.column").places[0].excerpt


def test_a_file_cut_short_and_one_damaged_inside_are_found(tmp_path: Path) -> None:
    write(tmp_path, sound())
    cut = tmp_path / "data" / "test-00000-of-00001.parquet"
    cut.write_bytes(cut.read_bytes()[:-30])
    damaged = tmp_path / "data" / "unseen-00000-of-00001.parquet"
    body = bytearray(damaged.read_bytes())
    body[4:400] = b"\xff" * 396
    damaged.write_bytes(body)
    report = validate_dataset(tmp_path)
    assert [place.split for place in finding(report, "schema.file").places] == ["test", "unseen"]


def test_a_strangers_dataset_is_checked_as_far_as_it_goes_and_says_what_could_not_be_done(tmp_path: Path) -> None:
    conversation = [
        {"role": "system", "content": "You name things."},
        {"role": "user", "content": "A yellow mouse."},
        {"role": "assistant", "content": "Sparky"},
        {"role": "user", "content": "Another, for a blue one."},
        {"role": "assistant", "content": "Bluey"},
    ]
    (tmp_path / "default" / "train").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([{"messages": conversation}]), tmp_path / "default" / "train" / "0000.parquet")
    report = validate_dataset(tmp_path)
    assert report.findings == []
    assert report.rows == {"train": 1}
    reasons = {skipped.code: skipped.reason for skipped in report.skipped}
    assert reasons["split.family"] == "no column `family`"
    assert reasons["dup.exact"] == "only one split has rows"


class _Tokenizer:
    """One token a letter; `<e>` ends a turn. With `broken`, an answer changes how the prompt is rendered."""

    chat_template = "yes"
    bos_token_id = None
    added_tokens_decoder: ClassVar[dict[int, str]] = {}
    all_special_ids: ClassVar[list[int]] = [1]

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    def apply_chat_template(self, messages: Rows, add_generation_prompt: bool = False, **_: object) -> list[int]:
        ids = [2 + self.broken * (not add_generation_prompt)]
        return ids + [code for message in messages for code in (*map(ord, message["content"]), 1)]


def test_conversations_too_long_for_training_are_found_with_a_tokenizer(tmp_path: Path) -> None:
    splits = sound()
    put(splits["train"][1], "A long tail. " * 20)
    report = validate_dataset(write(tmp_path, splits), tokenizer=_Tokenizer(), max_length=120)
    assert finding(report, "tokens.length").places[0].row == 1
    assert not {"tokens.length", "tokens.contract"} & {skipped.code for skipped in report.skipped}


def test_a_chat_template_that_breaks_the_contract_is_found(tmp_path: Path) -> None:
    report = validate_dataset(write(tmp_path, sound()), tokenizer=_Tokenizer(broken=True))
    assert finding(report, "tokens.contract").count == 6


def test_a_long_answer_is_not_taken_for_a_name(tmp_path: Path) -> None:
    answer = "It is a yellow mouse, and a rather large one with long ears and a tail like lightning."
    turns = [{"role": "user", "content": f"Repeat: {answer}"}, {"role": "assistant", "content": answer}]
    assert validate_dataset(write(tmp_path, {"train": [{"messages": turns}]})).findings == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built") / "dataset", DatasetSettings()).path


def test_a_dataset_of_the_corpus_passes_strictly(built: Path) -> None:
    report = validate_dataset(built, strict=True)
    assert report.findings == []
    assert report.ok


def test_a_leak_planted_in_a_built_dataset_is_named_by_its_row_and_the_file_by_its_hash(
    built: Path, tmp_path: Path
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    file = copy / "data" / "test-00000-of-00001.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    put(rows[3], f"{rows[3]['description']} It is a {rows[3]['answer'].lower()}.")
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
    report = validate_dataset(copy)
    assert not report.ok
    leak = finding(report, "leak.own-name").places[0]
    assert (leak.split, leak.row, leak.id) == ("test", 3, rows[3]["id"])
    assert rows[3]["answer"].lower() in leak.excerpt
    assert finding(report, "manifest.hash").places[0].split == "data/test-00000-of-00001.parquet"


def test_the_report_is_json_with_every_figure(tmp_path: Path) -> None:
    splits = sound()
    _text("A lizard that some \u202ecall Chara.")(splits)
    report = json.loads(json.dumps(validate_dataset(write(tmp_path, splits)).to_json()))
    assert report["ok"] is False
    assert report["rows"] == {"train": 3, "test": 1, "unseen": 2}
    leak = next(found for found in report["findings"] if found["code"] == "leak.own-name")
    assert leak["places"][0]["row"] == 1
    assert "\\u202e" in leak["places"][0]["excerpt"]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_that_is_no_dataset_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        validate_dataset(tmp_path / name)
