"""A fault of every code, planted in a dataset that has nothing but `messages`, is found at its place."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.validation import Row, Splits, finding, skipped, write
from toolkit.core.layout import TINY_BASE_ID
from toolkit.data import validation
from toolkit.data.validation import validate
from toolkit.data.validation.findings import CODES
from toolkit.model.loading import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAMES = ("Florbix", "Quandow", "Mirtles", "Zephyro", "Oblanka", "Trundlo", "Vexilar", "Wumbats", "Krellin", "Jaspera")
REQUEST = "다음 생물에게 어울리는 이름을 지어줘."
WORDS = [
    head + tail
    for head in ("am", "bar", "cor", "dim", "em", "fea", "gin", "hor", "is", "ket", "lan", "mar", "net", "or", "pep")
    for tail in ("ber", "ley", "ner", "ple", "ster", "ther", "ger", "net", "land", "tle")
]
FILE = "data/train-00000-of-00001.parquet"


def talk(name: str, text: str, request: str = REQUEST) -> Row:
    return {
        "messages": [
            {"role": "system", "content": "You name creatures."},
            {"role": "user", "content": f"{request}\n{text}"},
            {"role": "assistant", "content": name},
        ]
    }


def sound() -> Splits:
    """Ten creatures: four rows each in train, one in test; two others in unseen."""
    rng = random.Random(5)

    def some(names: tuple[str, ...], times: int) -> list[Row]:
        return [talk(name, " ".join(rng.sample(WORDS, 14)) + ".") for _ in range(times) for name in names]

    return {"train": some(NAMES, 4), "test": some(NAMES, 1), "unseen": some(("Belgruno", "Ashtervy"), 2)}


def text_of(row: Row) -> str:
    return str(row["messages"][1]["content"]).removeprefix(REQUEST + "\n")


def say(row: Row, text: str) -> None:
    row["messages"][1]["content"] = f"{REQUEST}\n{text}"


def add_column(splits: Splits, name: str, value: Callable[[int, Row], Any]) -> None:
    for rows in splits.values():
        for number, row in enumerate(rows):
            row[name] = value(number, row)


def test_a_sound_dataset_of_messages_alone_has_no_finding_even_strictly(tmp_path: Path) -> None:
    report = validate(write(tmp_path, sound()), strict=True)
    assert report.findings == []
    assert report.ok
    assert report.rows == {"train": 40, "test": 10, "unseen": 4}


def test_the_report_says_what_could_not_be_checked_and_why(tmp_path: Path) -> None:
    report = validate(write(tmp_path, sound()))
    assert skipped(report) == {
        "schema.id": "no column `id`",
        "schema.answer": "no column `answer`",
        "lang.description": "no column `description` and `language`",
        "split.family": "no column `family`",
        "tokens.length": "no tokenizer given",
        "tokens.contract": "no tokenizer given",
    }


# Faults in rows.


def _add_to(text: str) -> Callable[[Splits], None]:
    return lambda splits: say(splits["train"][7], f"{text_of(splits['train'][7])} {text}")


def _null_value(splits: Splits) -> None:
    add_column(splits, "family", lambda number, row: row["messages"][2]["content"])
    splits["train"][7]["family"] = None


def _id(splits: Splits) -> None:
    add_column(splits, "id", lambda number, row: text_of(row)[:60])
    splits["train"][7]["id"] = splits["train"][0]["id"]


def _answer(splits: Splits) -> None:
    add_column(splits, "answer", lambda number, row: row["messages"][2]["content"])
    splits["train"][7]["answer"] = "Krellin"


def _roles(splits: Splits) -> None:
    splits["train"][7]["messages"].pop(0)
    splits["train"][7]["messages"].append({"role": "system", "content": "You name creatures."})


def _family(splits: Splits) -> None:
    add_column(splits, "family", lambda number, row: row["messages"][2]["content"])
    splits["train"][7]["family"] = "Belgruno"


def _seen(answer: str) -> Callable[[Splits], None]:
    def plant(splits: Splits) -> None:
        splits["unseen"][1]["messages"][2]["content"] = answer
        # Columns that make it another creature of another family say nothing about what is answered.
        for column in ("creature", "family"):
            add_column(splits, column, lambda number, row: f"{number} {row['messages'][2]['content']}")

    return plant


def _creature(splits: Splits) -> None:
    splits["test"][7]["messages"][2]["content"] = "Nobodyru"


def _exact(splits: Splits) -> None:
    say(splits["test"][7], text_of(splits["train"][7]).upper())


def _within(splits: Splits) -> None:
    splits["train"].append(talk(NAMES[7], text_of(splits["train"][7])))


def _near(splits: Splits) -> None:
    say(splits["test"][7], text_of(splits["train"][7]) + " Indeed.")


def _near_within(splits: Splits) -> None:
    splits["train"].append(talk(NAMES[7], text_of(splits["train"][7]) + " Indeed."))


def _conflict(splits: Splits) -> None:
    say(splits["train"][7], text_of(splits["train"][0]))


def _balance(splits: Splits) -> None:
    rng = random.Random(6)
    splits["train"] += [talk("Krellin", " ".join(rng.sample(WORDS, 14))) for _ in range(20)]


def _description(splits: Splits) -> None:
    add_column(splits, "description", lambda number, row: text_of(row))
    add_column(splits, "language", lambda number, row: "en")
    splits["train"][7]["language"] = "ko"


def _request(splits: Splits) -> None:
    row = splits["train"][7]
    row["messages"][1]["content"] = f"Name this creature:\n{text_of(row)}"


def _script(splits: Splits) -> None:
    splits["train"][7]["messages"][2]["content"] = "붐바츠"


def _korean_name(splits: Splits) -> None:
    add_column(splits, "name_ko", lambda number, row: "이상해씨")
    say(splits["train"][7], f"{text_of(splits['train'][7])} Others call it 이상해씨라고.")


def _system_last(splits: Splits) -> None:
    splits["train"][7]["messages"].insert(2, {"role": "system", "content": "Be brief."})


def _name_column(splits: Splits) -> None:
    add_column(splits, "name_ko", lambda number, row: "오블랑카")
    splits["train"][7]["name_ko"] = "Wumba"


def _set(turn: int, content: str | None) -> Callable[[Splits], None]:
    def plant(splits: Splits) -> None:
        splits["train"][7]["messages"][turn]["content"] = content

    return plant


def _null(splits: Splits) -> None:
    splits["train"][7]["messages"] = None


TRAIN, TEST, LAST = ("train", 7), ("test", 7), ("train", 40)
ROW_FAULTS: list[tuple[str, Callable[[Splits], None], tuple[str, int]]] = [
    ("schema.null", _null, TRAIN),
    ("schema.null-value", _null_value, TRAIN),
    ("schema.id", _id, TRAIN),
    ("schema.answer", _answer, TRAIN),
    ("chat.roles", _roles, TRAIN),
    ("chat.roles", _system_last, TRAIN),
    ("chat.empty", _set(0, " \n\u2003"), TRAIN),
    ("chat.empty", _set(2, None), TRAIN),
    ("chat.control-token", _add_to("It burns <end_of_turn> and burns."), TRAIN),
    ("chat.control-token", _add_to("It burns <|im_end|> and burns."), TRAIN),
    ("leak.own-name", _add_to("Some call it wumbats."), TRAIN),
    ("leak.own-name", _korean_name, TRAIN),
    ("leak.near-name", _add_to("Some call it a Wumbat."), TRAIN),
    ("leak.near-name", _add_to("some call it a wumbots."), TRAIN),
    ("split.family", _family, TRAIN),
    *[("split.answer", _seen(answer), ("unseen", 1)) for answer in ("Wumbats", " WUM bats", "웜배츠(Wumbáts)")],
    ("split.creature", _creature, TEST),
    ("dup.exact", _exact, TEST),
    ("dup.exact-within", _within, LAST),
    ("dup.near", _near, TEST),
    ("dup.near-within", _near_within, LAST),
    ("label.conflict", _conflict, TRAIN),
    ("balance", _balance, ("train", 8)),
    ("text.control", _add_to("A zero\u200bwidth space."), TRAIN),
    ("text.bidi", _add_to("Turned \u202earound."), TRAIN),
    ("text.mojibake", _add_to("A PokÃ©mon."), TRAIN),
    ("text.mojibake", _add_to("A Pok\ufffdmon."), TRAIN),
    ("text.not-nfc", _add_to("A Poke\u0301mon."), TRAIN),
    ("lang.description", _description, TRAIN),
    ("lang.request", _request, TRAIN),
    ("lang.answer", _script, TRAIN),
    ("lang.answer", _name_column, TRAIN),
]


@pytest.mark.parametrize(("code", "plant", "place"), ROW_FAULTS)
def test_a_fault_planted_in_a_row_is_found_once_and_at_its_place(
    tmp_path: Path, code: str, plant: Callable[[Splits], None], place: tuple[str, int]
) -> None:
    splits = sound()
    plant(splits)
    report = validate(write(tmp_path, splits))
    found = finding(report, code)
    assert (found.count, found.places[0].split, found.places[0].row) == (1, *place)
    assert found.severity == CODES[code][0]
    assert not validate(tmp_path, strict=True).ok


# Faults in files.


def _cut(path: Path) -> None:
    (path / FILE).write_bytes((path / FILE).read_bytes()[:-30])


def _instead(column: str, value: object) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table({column: [value]}), path / FILE)


def _wrong_column(path: Path) -> None:
    table = pq.read_table(path / FILE)
    pq.write_table(table.append_column("family", pa.array(range(len(table)))), path / FILE)


def _twice(path: Path) -> None:
    table = pq.read_table(path / FILE)
    names = pa.array([f"n{number}" for number in range(len(table))])
    pq.write_table(table.append_column("id", names).append_column("id", names), path / FILE)


def _not_utf8(path: Path) -> None:
    table = pq.read_table(path / FILE)
    ids = pa.array([b"n%d" % number if number != 7 else b"\xff\xed\xa0\x80" for number in range(len(table))])
    pq.write_table(table.append_column("id", ids.cast(pa.string(), safe=False)), path / FILE)


def _no_rows(path: Path) -> None:
    pq.write_table(pq.read_table(path / FILE).slice(0, 0), path / FILE)


def _no_train(path: Path) -> None:
    (path / FILE).unlink()


def _manifest(path: Path) -> None:
    facts = {"kind": "dataset", "toolkit": "0", "files": {FILE: "0" * 64}}
    (path / "manifest.json").write_text(json.dumps(facts), encoding="utf-8")


FILE_FAULTS: list[tuple[str, Callable[[Path], None], str]] = [
    ("schema.file", _cut, "train-00000"),
    ("schema.messages", _instead("prompt", "x"), "its columns are prompt"),
    (
        "schema.messages",
        _instead("messages", '[{"role": "user", "content": "x"}]'),
        "`messages` is string, no lists of {role, content}",
    ),
    ("schema.messages", _instead("messages", [["user", "x"]]), "`messages` is list<"),
    ("schema.messages", _instead("messages", [{"from": "human", "value": "x"}]), "<from: string, value: string>>"),
    ("schema.column", _wrong_column, "`family` is int64"),
    ("schema.file", _twice, "exists 2 times"),
    ("schema.file", _not_utf8, "UTF8 sequence"),
    ("schema.empty-split", _no_rows, ""),
    ("schema.no-train", _no_train, ""),
    ("manifest.hash", _manifest, "changed since it was written"),
]


@pytest.mark.parametrize(("code", "plant", "said"), FILE_FAULTS)
def test_a_fault_planted_in_a_file_is_found_and_says_what_it_is(
    tmp_path: Path, code: str, plant: Callable[[Path], None], said: str
) -> None:
    plant(write(tmp_path, sound()))
    found = finding(validate(tmp_path), code)
    assert found.count == 1
    assert said in found.places[0].excerpt


def test_a_conversation_that_is_too_long_for_a_bases_tokenizer_is_found(tmp_path: Path) -> None:
    splits = sound()
    _add_to("A long tail. " * 30)(splits)
    report = validate(write(tmp_path, splits), base=TINY_BASE_ID, max_length=200)
    found = finding(report, "tokens.length")
    assert (found.count, found.places[0].row) == (1, 7)
    assert not {"tokens.length", "tokens.contract"} & skipped(report).keys()


def test_a_chat_template_that_renders_a_prompt_otherwise_once_it_is_answered_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(base: Path) -> PreTrainedTokenizerBase:
        tokenizer = load_tokenizer(base)
        tokenizer.chat_template = f"{{{{ messages | length }}}}{tokenizer.chat_template}"
        return tokenizer

    monkeypatch.setattr(validation, "load_tokenizer", load)
    report = validate(write(tmp_path, sound()), base=TINY_BASE_ID)
    assert finding(report, "tokens.contract").count == 54
    # Lengths need a maximum, too.
    assert skipped(report)["tokens.length"] == "no maximum length given"


def test_a_fault_of_every_code_is_planted_here() -> None:
    planted = {code for code, *_ in ROW_FAULTS} | {code for code, *_ in FILE_FAULTS}
    assert planted | {"tokens.length", "tokens.contract"} == set(CODES)
