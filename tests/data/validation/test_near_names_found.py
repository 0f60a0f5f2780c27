"""Which words are nearly a name, and which are ordinary words."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.validation import codes
from toolkit.core.answers import fold
from toolkit.data.near_names import near_name
from toolkit.data.validation import validate


def word(text: str, *names: str) -> str | None:
    hit = near_name(text, fold(text), names)
    return hit and hit[1]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("Pikachu", "a pikachoo in the grass", None),
        ("Pikachu", "a pikachuu in the grass", "pikachuu"),
        ("Pikachu", "a pikahcu in the grass", "pikahcu"),
        ("Pikachu", "like a Pika-chu", "Pika-chu"),
        ("Charizard", "a charizardlike beast", "charizardlike"),
        ("Haunter", "a haunting song", "haunting"),
        ("Mawile", "MAWHILE’s huge jaws", "MAWHILE"),
        ("Flabébé", "where Flabebee lives", "Flabebee"),
        ("Mr. Mime", "where Mrmimes live", "Mrmimes"),
        ("피카츄", "노란 피카쥬는 빠르다", "피카쥬는"),
        ("이상해씨", "저 이상헤씨를 보라", "이상헤씨를"),
    ],
)
def test_a_word_that_is_nearly_a_name_is_found(name: str, text: str, found: str | None) -> None:
    assert word(text, name) == found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Mew", "a mewling kitten"),
        ("Mankey", "Monkeys and a monkey"),
        ("Gloom", "flowers bloom"),
        ("Hypno", "it can hypnotize"),
        ("Pidgey", "The end. Pudgey is a word at the start"),
        ("Mewtwo", "MEWTO IN A TEXT OF CAPITALS"),
        ("삐삐", "삐비 소리"),
        ("파이리", "파이라면집에서"),
        ("Zapdos", "ゼブドス"),
    ],
)
def test_an_ordinary_word_is_not_taken_for_a_name(name: str, text: str) -> None:
    assert word(text, name) is None


def test_a_word_that_other_creatures_descriptions_use_is_an_ordinary_word(tmp_path: Path) -> None:
    texts = ("It lives in a haunted house by the sea.", "Nobody enters its haunted wood.", "It eats apples, and sings.")
    rows = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": name}]
        for text, name in zip(texts, ("Haunter", "Gengaru", "Snorlaxo"), strict=True)
    ]

    def near(number: int) -> bool:
        pq.write_table(pa.table({"messages": rows[:1] + rows[number:]}), tmp_path / "train.parquet")
        return "leak.near-name" in codes(validate(tmp_path))

    assert near(2)
    assert not near(1)
