"""Masking of names: which words are one, and the sentence around the mask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.text import clean_text
from toolkit.data.grammar import Masks
from toolkit.data.masking import Masker, own_names_in

MASKS = {"en": Masks("this Pokémon", "another Pokémon"), "ko": Masks("이 포켓몬", "다른 포켓몬")}
NAMES = {
    "mew": {"en": "Mew", "ko": "뮤"},
    "mewtwo": {"en": "Mewtwo", "ko": "뮤츠"},
    "abra": {"en": "Abra", "ko": "캐이시"},
    "pikachu": {"en": "Pikachu", "ko": "피카츄", "zh-hant": "皮卡丘"},
    "ho-oh": {"en": "Ho-Oh", "ko": "칠색조"},
    "mr-mime": {"en": "Mr. Mime", "ko": "마임맨"},
    "farfetchd": {"en": "Farfetch’d", "ko": "파오리"},
    "nidoran-f": {"en": "Nidoran♀", "ko": "니드런♀"},
    "type-null": {"en": "Type: Null", "ko": "타입:널"},
    "porygon": {"en": "Porygon", "ko": "폴리곤"},
    "porygon2": {"en": "Porygon2", "ko": "폴리곤2"},
    "porygon-z": {"en": "Porygon-Z", "ko": "폴리곤Z"},
    "flabebe": {"en": "Flabébé", "ko": "플라베베"},
    "moltres": {"en": "Moltres", "ko": "파이어", "ja-roma": "Fire"},
    "golem": {"en": "Golem", "ko": "딱구리"},
    "tauros": {"en": "Tauros", "ko": "켄타로스"},
    "eevee": {"en": "Eevee", "ko": "이브이"},
    "ekans": {"en": "Ekans", "ko": "아보"},
}
MASKER = Masker(NAMES, MASKS)


def masked(text: str, creature: str, language: str = "en") -> str:
    return MASKER.mask(text, creature, language)


@pytest.mark.parametrize(
    "text", ["It was mewling.", "An abrasive tail.", "A lit candelabra.", "A pikachuish thing.", "Mewtwos"]
)
def test_a_name_inside_another_word_is_left_alone(text: str) -> None:
    for creature in ("mew", "abra", "pikachu"):
        assert "this" not in masked(text, creature).lower()


@pytest.mark.parametrize(
    ("text", "creature", "wanted"),
    [
        ("PIKACHU naps.", "pikachu", "This Pokémon naps."),
        ("It is a pikachu.", "pikachu", "It is this Pokémon."),
        ("The Pikachu's tail", "pikachu", "This Pokémon's tail"),
        ("See Pikachu’s tail", "pikachu", "See this Pokémon’s tail"),
        ("Pikachus gather.", "pikachu", "These Pokémon gather."),
        ("When hit, Tauros’ horns shake.", "tauros", "When hit, this Pokémon’s horns shake."),
        ("It flees. Flabebe hides.", "flabebe", "It flees. This Pokémon hides."),
        ("FLABÉBÉ hides.", "flabebe", "This Pokémon hides."),
        ("a Pikachu-like mouse", "mew", "a Pokémon-like mouse"),
        ("an anti-Pikachu trap", "mew", "an anti-Pokémon trap"),
        ("Only Ho‑Oh and HO-OH", "ho-oh", "Only this Pokémon and this Pokémon"),
        ("Here Mr. Mime and Mr Mime", "mr-mime", "Here this Pokémon and this Pokémon"),
        ("Here Farfetch'd, FARFETCH’D, Farfetchd", "farfetchd", "Here this Pokémon, this Pokémon, this Pokémon"),
        ("Is Nidoran♀ or Nidoran here", "nidoran-f", "Is this Pokémon or this Pokémon here"),
        ("The Type: Null waits", "type-null", "This Pokémon waits"),
        ("See Porygon2 near Porygon", "porygon", "See another Pokémon near this Pokémon"),
        ("See Porygon-Z’s eyes", "porygon-z", "See this Pokémon’s eyes"),
        ("See 皮卡丘 here", "pikachu", "See this Pokémon here"),
    ],
)
def test_every_way_of_writing_a_name_is_masked(text: str, creature: str, wanted: str) -> None:
    assert masked(text, creature) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It evolves from an Abra.", "It evolves from another Pokémon."),
        ("It meets another Pikachu.", "It meets another Pokémon."),
        ("It meets another Abra.", "It meets another Pokémon."),
        ("Two Pikachu touch the tired Pikachu.", "Two Pokémon touch the tired Pokémon."),
        ("Abra and Mew flee.", "Other Pokémon flee."),
        ("Where Pikachu live, storms gather.", "Where these Pokémon live, storms gather."),
        ("The Abra have fled from the Pikachu.", "Other Pokémon have fled from this Pokémon."),
        ("It leads swarms of Abra.", "It leads swarms of other Pokémon."),
        ("A school of Pikachu appears.", "A school of these Pokémon appears."),
        ("The nests of Pikachu are warm.", "The nests of this Pokémon are warm."),
        ("This Pikachu sleeps.", "This Pokémon sleeps."),
        ("“Pikachu” is its cry.", "“This Pokémon” is its cry."),
    ],
)
def test_the_sentence_around_a_mask_keeps_its_grammar(text: str, wanted: str) -> None:
    assert masked(text, "pikachu") == wanted


def test_a_name_that_is_an_ordinary_word_needs_a_capital_letter_unless_it_is_ones_own() -> None:
    assert masked("A golem of stone meets Golem.", "mew") == "A golem of stone meets another Pokémon."
    assert masked("It is a golem.", "golem") == "It is this Pokémon."
    # And a foreign name that is one is left alone.
    for creature in ("moltres", "mew"):
        assert masked("Fire burns on its wings.", creature) == "Fire burns on its wings."


def test_words_that_the_caller_found_to_be_ordinary_are_left_alone_in_lower_case() -> None:
    assert Masker(NAMES, MASKS, {"eevee"}).mask("an eevee and Eevee", "mew", "en") == "an eevee and another Pokémon"
    assert list(MASKER.lower_case_words("an eevee, a Pikachu", "mew")) == ["eevee"]


@pytest.mark.parametrize(
    ("text", "creature", "wanted"),
    [
        ("피카츄는 뮤와 싸운다.", "pikachu", "이 포켓몬은 다른 포켓몬과 싸운다."),
        ("피카츄로 변한 뮤가 뮤직을 듣는다.", "mew", "다른 포켓몬으로 변한 이 포켓몬이 뮤직을 듣는다."),
        ("아보카도를 먹는 아보를 보았다.", "ekans", "아보카도를 먹는 이 포켓몬을 보았다."),
        ("Pikachu가 달린다.", "pikachu", "이 포켓몬이 달린다."),
        ("켄타로스의 뿔, 켄타로스일수록 세다.", "tauros", "이 포켓몬의 뿔, 이 포켓몬일수록 세다."),
        ("캐이시와 뮤를 본다.", "pikachu", "다른 포켓몬을 본다."),
    ],
)
def test_korean_names_are_masked_with_the_particle_that_the_mask_asks_for(
    text: str, creature: str, wanted: str
) -> None:
    assert masked(text, creature, "ko") == wanted


@given(st.text(st.sampled_from("abcdefg hijk lno. éÉ-’'\n가나다는"), max_size=80))
def test_a_text_without_names_is_never_changed(text: str) -> None:
    assert masked(text, "mew") == text


@given(
    st.sampled_from(sorted(NAMES)),
    st.lists(
        st.sampled_from(
            [
                *(names["en"] for names in NAMES.values()),
                *("the", "a", "two", "is", "’s", "'", "-", ". ", "“", " ", "s", "피카츄"),
            ]
        ),
        max_size=12,
    ),
)
def test_no_own_name_is_left_in_a_masked_text(creature: str, parts: list[str]) -> None:
    text = clean_text("".join(parts))
    assert own_names_in(masked(text, creature), [NAMES[creature]["en"], NAMES[creature]["ko"]]) == []


def test_a_custom_mask_keeps_the_grammar_too() -> None:
    masker = Masker({"rex": {"en": "Rex"}, "tom": {"en": "Tom"}}, {"en": Masks("this pet", "another pet")})
    assert (
        masker.mask("The Rex saw a Tom. Rexes? Two Toms.", "rex", "en") == "This pet saw another pet. Rexes? Two pets."
    )
