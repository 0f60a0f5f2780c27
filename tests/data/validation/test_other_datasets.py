"""The request that the prompts of any chat dataset share is separated from the descriptions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.validation import codes, skipped
from toolkit.data.validation import validate
from toolkit.data.validation.findings import Report

Turns = list[dict[str, str]]
HEADS = ("am", "bar", "cor", "dim", "em", "fea", "gin", "hor", "is", "ket", "lan", "mar", "net", "or", "pep")
WORDS = [head + tail for head in HEADS for tail in ("ber", "ley", "ner", "ple", "ster", "ther", "ger", "land", "tle")]
NAMES = ("Florbix", "Quandow", "Mirtles", "Zephyro", "Oblanka")
LONG_REQUEST = (
    "You are given the description of an imaginary creature. Read it with care, think about its colours, its habits "
    "and the place where it lives, and then answer with a name that would suit it, and with nothing else at all."
)


def described(rows: int, seed: int = 4) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.sample(WORDS, 10)) for _ in range(rows)]


def report_on(folder: Path, conversations: list[Turns], **columns: list[Any]) -> Report:
    """The report on conversations of which the last two are of `test`."""
    (folder / "data").mkdir(parents=True)
    table = pa.table({"messages": conversations, **columns})
    pq.write_table(table.slice(0, len(table) - 2), folder / "data" / "train.parquet")
    pq.write_table(table.slice(len(table) - 2), folder / "data" / "test.parquet")
    return validate(folder)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


FORMS = {
    "before it": lambda text: [user(f"{LONG_REQUEST}\n\n{text}")],
    "after it": lambda text: [user(f"{text}\n{LONG_REQUEST}")],
    "in one paragraph with it": lambda text: [user(f"{LONG_REQUEST} Here it is: {text}. What do you say?")],
    "as a system turn": lambda text: [{"role": "system", "content": LONG_REQUEST}, user(text)],
    "as a user turn after a system turn with it": lambda text: [
        {"role": "system", "content": text},
        user(LONG_REQUEST),
    ],
    "in an earlier turn": lambda text: [user(LONG_REQUEST), assistant("Go on."), user(text)],
    "in a later turn": lambda text: [user(text), assistant("What of it?"), user(LONG_REQUEST)],
}


def named(questions: list[Turns]) -> list[Turns]:
    """Conversations that end with a name; five names take turns."""
    return [[*turns, assistant(NAMES[number % 5])] for number, turns in enumerate(questions)]


@pytest.mark.parametrize("form", FORMS)
def test_a_request_does_not_make_descriptions_alike_and_the_same_description_is_found(
    tmp_path: Path, form: str
) -> None:
    texts = described(22)
    assert codes(report_on(tmp_path / "sound", named([FORMS[form](text) for text in texts]))) == set()
    texts[-2] = texts[0].upper()
    texts[-1] = texts[1].replace(" ", " of ", 1)
    turns = named([FORMS[form](text) for text in texts])
    assert {"dup.exact", "dup.near"} <= codes(report_on(tmp_path / "faulty", turns))


@pytest.mark.parametrize("order", ["{request}\n{text}", "{text}\n\n{request}"])
def test_several_requests_are_separated_from_descriptions_as_well(tmp_path: Path, order: str) -> None:
    requests = [f"Way {number} of asking. {LONG_REQUEST} And that was way {number}." for number in range(4)]
    turns = [[user(order.format(request=requests[number % 4], text=text))] for number, text in enumerate(described(40))]
    assert codes(report_on(tmp_path, named(turns))) == set()


def test_a_text_that_comes_with_every_request_is_no_request(tmp_path: Path) -> None:
    texts = described(4)
    turns = [[user(f"Way {way} of asking.\n{text}"), assistant("Florbix")] for way in range(4) for text in texts]
    assert "dup.exact" in codes(report_on(tmp_path, [*turns, *turns[:2]]))


def test_names_to_choose_among_in_a_request_that_all_rows_share_are_no_leak(tmp_path: Path) -> None:
    request = f"Which is it: {', '.join(NAMES)}?"
    assert codes(report_on(tmp_path, named([[user(f"{request}\n{text}")] for text in described(22)]))) == set()


def test_a_request_of_one_row_that_says_the_name_is_a_leak(tmp_path: Path) -> None:
    texts = described(22)
    turns = named([[user(f"{LONG_REQUEST}\n{text}")] for text in texts])
    turns[3][0] = user(f"Why is this a Zephyro?\n{texts[3]}")
    assert "leak.own-name" in codes(report_on(tmp_path, turns, description=texts))


def test_the_same_last_question_after_different_stories_is_no_conflict(tmp_path: Path) -> None:
    turns = [[user(text), assistant("I see."), user("Now name it.")] for text in described(22)]
    assert codes(report_on(tmp_path, named(turns))) == set()


@pytest.mark.parametrize(("answer", "unnamed"), [("This is {text}.", 22), ("Number {number} it is.", 0)])
def test_answers_that_are_no_names_are_no_creatures_and_the_report_says_so(
    tmp_path: Path, answer: str, unnamed: int
) -> None:
    turns = [
        [user(f"{LONG_REQUEST}\n{text}"), assistant(answer.format(text=text, number=number))]
        for number, text in enumerate(described(22))
    ]
    report = report_on(tmp_path, turns)
    assert "split.creature" not in codes(report)
    reasons = skipped(report)
    assert reasons["split.creature"] == reasons["balance"]
    assert reasons["balance"] == "no column `creature`, and too few answers are repeated names"
    assert reasons.get("leak.own-name", "0").split()[0] == str(unnamed)


def test_requests_in_english_are_no_fault_and_the_check_is_reported_as_skipped(tmp_path: Path) -> None:
    report = report_on(tmp_path, named([[user(f"{LONG_REQUEST}\n{text}")] for text in described(22)]))
    assert skipped(report)["lang.request"] == "most rows have no Korean request"


def test_answers_in_several_scripts_are_no_fault_and_the_check_is_reported_as_skipped(tmp_path: Path) -> None:
    turns = [
        [user(f"{LONG_REQUEST}\n{text}"), assistant(("Florbix", "붐바츠")[number % 2])]
        for number, text in enumerate(described(22))
    ]
    report = report_on(tmp_path, turns)
    assert "lang.answer" not in codes(report)
    assert "several scripts" in skipped(report)["lang.answer"]


@pytest.mark.parametrize(
    ("usual", "unusual", "found"),
    [(40, 3, True), (40, 9, False), (17, 3, False), (4, 1, False), (4, 22, True), (2, 11, False)],
)
def test_a_creature_is_out_of_balance_when_it_is_five_times_off_and_not_by_chance(
    tmp_path: Path, usual: int, unusual: int, found: bool
) -> None:
    names = [name for name in NAMES for _ in range(usual)] + ["Trundlo"] * unusual + ["Florbix"] * 2
    turns = [[user(text), assistant(name)] for text, name in zip(described(len(names)), names, strict=True)]
    report = report_on(tmp_path, turns)
    balance = [finding for finding in report.findings if finding.code == "balance"]
    assert bool(balance) is found
    if balance:
        assert balance[0].places[0].excerpt == f"Trundlo: {unusual} rows, {usual} are usual"


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_texts_are_read_in_any_of_arrows_forms(tmp_path: Path, kind: pa.DataType) -> None:
    turns = named([[user(text)] for text in described(22)])
    ids = pa.array([f"id{number % 21}" for number in range(22)]).cast(kind)
    messages = pa.array(turns, pa.large_list(pa.struct([("content", pa.large_string()), ("role", pa.string())])))
    report = report_on(tmp_path, messages, id=ids)
    assert codes(report) == {"schema.id"}
    assert report.rows == {"train": 20, "test": 2}


def test_answers_before_the_last_are_no_leak_and_a_folder_names_its_files_split(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "You name things."},
        *(user("A yellow mouse."), assistant("Sparky"), user("What was its name?"), assistant("Sparky")),
    ]
    (tmp_path / "default" / "train").mkdir(parents=True)
    pq.write_table(pa.table({"messages": [turns]}), tmp_path / "default" / "train" / "0000.parquet")
    report = validate(tmp_path)
    assert report.findings == []
    assert report.rows == {"train": 1}
    assert skipped(report)["dup.exact"] == "only one split has rows"
