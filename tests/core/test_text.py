"""Cleaning a text, and telling its language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.text import clean_text, control_token, fits_language, language_of


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (
            "Exposure to sun\u00ad\nlight adds to its\nstrength.\x0cIt grows.",
            "Exposure to sunlight adds to its strength. It grows.",
        ),
        ("It is kind-\nhearted, and a sea—\nwide one.", "It is kind-hearted, and a sea—wide one."),
        ("PokÃ©mon", "Pokémon"),
        ("Poke\u0301mon", "Pokémon"),
        ("a\u200bb\ufeff \u202etext\u202c\x07 end", "ab text end"),
        ("  two \t words\u2028here ", "two words here"),
        ("salt &am\u200bp; sand", "salt & sand"),
    ],
)
def test_texts_of_games_and_of_the_web_come_out_as_one_clean_line(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


MENDED = ["\u00ad\n", "-\n", "&amp;", "amp;", "lt;", "Ã©", " ", "\u200b", "a", "é", "\x0c", "\u0301", "ｱ"]


@given(st.text(st.characters(codec=None), max_size=60) | st.lists(st.sampled_from(MENDED)).map("".join))
def test_cleaning_a_clean_text_changes_nothing(text: str) -> None:
    once = clean_text(text)
    assert clean_text(once) == once


def test_languages_are_told_apart_by_their_letters() -> None:
    assert language_of("전기를 내는 노란 쥐") == "ko"
    assert language_of("a yellow mouse") == "en"
    assert fits_language("a yellow mouse", "en")
    assert not fits_language("a yellow mouse", "ko")
    assert not fits_language("желтая мышь", "en")
    assert not fits_language("12.5 !", "en")


@pytest.mark.parametrize(
    "token",
    ["<end_of_turn>", "<bos>", "<|im_end|>", "[INST]", "<<SYS>>", "</s>", "<|eot_id|>", "<unused7>", "[|user|]"],
)
def test_tokens_of_chat_templates_are_recognised(token: str) -> None:
    assert control_token(f"It glows. {token} Yes.")


@pytest.mark.parametrize("text", ["a < b and c > d", "a <small> mouse", "[sic]", "wings|tail", "<3"])
def test_ordinary_brackets_are_no_control_tokens(text: str) -> None:
    assert not control_token(text)
