"""The names in one cell or answer: each is found, in masking and by the validator, and words beside a name are none."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from support.datasets import build, from_table, table
from support.validation import codes, write
from toolkit.core.answers import names_by_language, names_in, script_of
from toolkit.data.validation import validate

TWO = [
    *("불꼬리(Emberling)", "불꼬리 (Emberling)", "불꼬리（Emberling）", "불꼬리[Emberling]", "불꼬리 【Emberling】"),
    *("불꼬리/Emberling", "불꼬리, Emberling", "불꼬리·Emberling", "불꼬리; Emberling", "불꼬리 | Emberling"),
    *("불꼬리 - Emberling", "불꼬리=Emberling", "불꼬리: Emberling", "불꼬리 alias Emberling"),
    *(
        "불꼬리 (a.k.a. Emberling)",
        "《불꼬리》(Emberling)",
        "불꼬리.Emberling",
        "불꼬리<Emberling>",
        "불꼬리{Emberling}",
    ),
    *("불꼬리_Emberling", "불꼬리 → Emberling", "불꼬리 & Emberling", "불꼬리<br>Emberling"),
]
ALOLAN = "Pikachu (Alolan Form)"


@pytest.mark.parametrize("cell", TWO)
def test_two_names_in_a_cell_are_two_in_every_way_of_writing_them(cell: str) -> None:
    assert names_in(cell).sure == ("불꼬리", "Emberling")
    assert names_by_language(cell) == {"ko": "불꼬리", "en": "Emberling"}


@pytest.mark.parametrize("name", ["Type: Null", "Ho-Oh", "Farfetch'd", "Mr. Mime", "Nidoran♀", "Flabébé", "폴리곤Z"])
def test_a_name_with_marks_of_its_own_is_one(name: str) -> None:
    assert names_in(name) == ((name,), ())
    assert names_by_language(name) == {}


@pytest.mark.parametrize(
    ("cell", "sure", "likely", "languages"),
    [
        ("Nidoran♀/니드런♀", "Nidoran♀,니드런♀", "", {"en": "Nidoran♀", "ko": "니드런♀"}),
        ("Mr. Mime (마임맨)", "Mr. Mime,마임맨", "", {"en": "Mr. Mime", "ko": "마임맨"}),
        ("달빛(月光)", "달빛,月光", "", {"ko": "달빛", "other": "月光"}),
        ("불꼬리(炎尾/Emberling)", "불꼬리,炎尾,Emberling", "", {"ko": "불꼬리", "other": "炎尾", "en": "Emberling"}),
        (
            "Pikachu (Alolan Form)/알로라 피카츄",
            "Pikachu,알로라 피카츄",
            "",
            {"en": "Pikachu (Alolan Form)", "ko": "알로라 피카츄"},
        ),
        # What says which one is meant is no name, and stays in the answer.
        *[
            (cell, "피카츄", "", {})
            for cell in ("피카츄 (Alolan Form)", "피카츄 VMAX", "피카츄(25)", "피카츄 (a small mouse)")
        ],
        *[(cell, "Pikachu", "", {}) for cell in ("Pikachu (Alolan Form)", "Pikachu, Mega X", "Pikachu (male)")],
        # What may be a word, or a sentence, is likely at most.
        ("Castform (Sunny)", "Castform", "Sunny", {}),
        ("불꼬리 Emberling", "불꼬리 Emberling", "불꼬리,Emberling", {"ko": "불꼬리", "en": "Emberling"}),
        ("Mime Jr. 흉내내", "Mime Jr. 흉내내", "Mime Jr.,흉내내", {"en": "Mime Jr.", "ko": "흉내내"}),
        ("불꼬리 또는 Emberling", "불꼬리,Emberling", "", {"ko": "불꼬리", "en": "Emberling"}),
        # A remark within the brackets: no name ends there.
        *[
            (cell, "불꼬리,Emberling", None, {})
            for cell in ("불꼬리 (영어: Emberling)", "불꼬리(구 Emberling)", "불꼬리(Emberling).")
        ],
        *[(cell, cell, None, {}) for cell in ("Paris; see https://a.b/c", "정답은 Emberling입니다", "1/2")],
    ],
)
def test_words_beside_a_name_are_no_names(cell: str, sure: str, likely: str | None, languages: dict[str, str]) -> None:
    assert ",".join(names_in(cell).sure) == sure
    if likely is not None:
        assert ",".join(names_in(cell).likely) == likely
    assert names_by_language(cell) == languages


def test_quotes_and_marks_around_one_of_two_names_are_no_part_of_it() -> None:
    assert names_by_language("“불꼬리” (*Emberling*)") == {"ko": "불꼬리", "en": "Emberling"}


def test_the_script_of_an_answer_is_both_only_in_the_form_that_pkt_writes() -> None:
    assert [script_of(answer) for answer in ("불꼬리 (Emberling)", "불꼬리(Emberling)", "Em/Ber", "月光", "12")] == [
        *("both", "ko", "en", "other", None)
    ]


@pytest.mark.parametrize("name_language", [None, "ko", "en"])
def test_a_cell_of_two_names_is_masked_in_both_languages_and_answered_in_one(
    tmp_path: Path, name_language: str | None
) -> None:
    rows = {
        "불꼬리(Emberling)": "Emberling lives in the hills, and its tail throws sparks at night.",
        "Tidefin/물지느": "물지느는 등에 풀이 자라는 느린 거북으로 비를 좋아한다.",
    }
    location = table(tmp_path, [{"name": name, "description": text} for name, text in rows.items()])
    settings = from_table(location, description_language="en,ko", answer="ko", unseen_size=0)
    source = settings.sources[0].model_copy(update={"name_language": name_language})
    result = build(tmp_path / "out", settings.model_copy(update={"sources": [source]}))
    built = pq.read_table(result.path / "data" / "train-00000-of-00001.parquet").to_pylist()
    names = {(row["answer"], row["name_en"], row["name_ko"]) for row in built}
    assert names == {("불꼬리", "Emberling", "불꼬리"), ("물지느", "Tidefin", "물지느")}
    texts = " ".join(row["description"] for row in built)
    assert not any(name in texts for name in ("Emberling", "물지느", "불꼬리", "Tidefin"))
    assert any("2 names are in several languages at once, such as 불꼬리(Emberling)" in note for note in result.notes)
    assert "leak.own-name" not in codes(validate(result.path))


def test_a_qualified_name_is_masked_by_its_name_and_answered_whole(tmp_path: Path) -> None:
    text = "Pikachu is seen where hills burn, and its blue mega flames light up the form of caves."
    location = table(tmp_path, [{"name": "Pikachu (Mega Form)", "description": text}])
    result = build(tmp_path / "out", from_table(location, unseen_size=0))
    (row,) = pq.read_table(result.path / "data" / "train-00000-of-00001.parquet").to_pylist()
    assert (row["answer"], row["description"]) == ("Pikachu (Mega Form)", text.replace("Pikachu", "This Pokémon"))


@pytest.mark.parametrize(
    ("answer", "prompt", "found"),
    [
        *[
            (answer, prompt, "leak.own-name")
            for answer in TWO
            for prompt in ("불꼬리는 작다.", "Here EMBERLING sleeps.")
        ],
        ("Pikachu (Alolan Form)", "A pikachu of the isles.", "leak.own-name"),
        *[
            (answer, "불꼬리는 작다.", "leak.own-name")
            for answer in ("“불꼬리”(“Emberling”)", "#004 불꼬리", "1. 불꼬리", "004 '불꼬리'", "**불꼬리**", "불꼬리!")
        ],
        ("007", "It is the 7 of 007s.", "leak.own-name"),
        ("No. 7", "There are 7 of them.", None),
        ("Emberling / Sparktail", "A sparktail of the isles.", "leak.own-name"),
        ("Emberling (Sparktail)", "A Sparktail of the isles.", "leak.near-name"),
        ("Charizard, Mega X", "A mega fire in the form of X.", None),
        ("Castform (Sunny)", "It sleeps on sunny days.", None),
        ("불꽃 (Fire type)", "Its fire is of a strange type.", None),
    ],
)
def test_the_validator_looks_for_each_name_of_an_answer(
    tmp_path: Path, answer: str, prompt: str, found: str | None
) -> None:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    leaks = {code for code in codes(validate(write(tmp_path, {"train": [{"messages": turns}]}))) if "leak" in code}
    assert leaks == ({found} if found else set())
