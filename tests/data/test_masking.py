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
        ("a Pikachu-like mouse", "mew", "a Pokémon-like mouse"),
        ("Only Ho‑Oh and HO-OH", "ho-oh", "Only this Pokémon and this Pokémon"),
        ("Here Mr. Mime and Mr Mime", "mr-mime", "Here this Pokémon and this Pokémon"),
        ("Here Farfetch'd, FARFETCH’D, Farfetchd", "farfetchd", "Here this Pokémon, this Pokémon, this Pokémon"),
        ("Is Nidoran♀ or Nidoran here", "nidoran-f", "Is this Pokémon or this Pokémon here"),
        ("The Type: Null waits", "type-null", "This Pokémon waits"),
        ("See Porygon2 near Porygon", "porygon", "See another Pokémon near this Pokémon"),
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
        ("Two Pikachu touch the tired Pikachu.", "Two Pokémon touch the tired Pokémon."),
        ("Abra and Mew flee.", "Other Pokémon flee."),
        ("Where Pikachu live, storms gather.", "Where these Pokémon live, storms gather."),
        ("The Abra have fled from the Pikachu.", "Other Pokémon have fled from this Pokémon."),
        ("It leads swarms of Abra.", "It leads swarms of other Pokémon."),
        ("The nests of Pikachu are warm.", "The nests of this Pokémon are warm."),
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


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("'피카츄'는 웃고 「피카츄」가 운다.", "'이 포켓몬'은 웃고 「이 포켓몬」이 운다."),
        ("**피카츄**를 <b>피카츄</b>와 본다.", "**이 포켓몬**을 <b>이 포켓몬</b>과 본다."),
        ("피카츄(Pikachu)는 (피카츄)로 산다.", "이 포켓몬(이 포켓몬)은 (이 포켓몬)으로 산다."),
        ("피카츄 (전기 타입)는 작다. 피카츄 는 작다.", "이 포켓몬 (전기 타입)은 작다. 이 포켓몬 은 작다."),
        ("전기쥐(피카츄)가 온다.", "전기쥐(이 포켓몬)가 온다."),
        (
            "피카츄야, 여기야. 저건 피카츄야. ‘피카츄’예요.",
            "이 포켓몬아, 여기야. 저건 이 포켓몬이야. ‘이 포켓몬’이에요.",
        ),
        (
            "«피카츄»는 ＂피카츄＂를 <피카츄>로, ❝피카츄❞가",
            "«이 포켓몬»은 ＂이 포켓몬＂을 <이 포켓몬>으로, ❝이 포켓몬❞이",
        ),
        ("'피카츄'라고, \"피카츄\"나 피카츄였던", "'이 포켓몬'이라고, \"이 포켓몬\"이나 이 포켓몬이었던"),
    ],
)
def test_a_particle_agrees_with_the_mask_behind_closing_marks_and_remarks_too(text: str, wanted: str) -> None:
    assert masked(text, "pikachu", "ko") == wanted


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        ("이 아이", "이 아이는 '이 아이'로, 이 아이였다. 이 아이야, 이 아이와"),
        ("이 별", "이 별은 '이 별'로, 이 별이었다. 이 별아, 이 별과"),
        ("[이름]", "[이름]은 '[이름]'으로, [이름]이었다. [이름]아, [이름]과"),
        ("this Pokémon", "this Pokémon은 'this Pokémon'으로, this Pokémon이었다. this Pokémon아, this Pokémon과"),
        ("몬스터 2", "몬스터 2는 '몬스터 2'로, 몬스터 2였다. 몬스터 2야, 몬스터 2와"),
        ("this pet", "this pet은(는) 'this pet'(으)로, this pet이었(였)다. this pet아(야), this pet과(와)"),
    ],
)
@pytest.mark.parametrize(
    "text", ["물벌은 '물벌'로, 물벌이었다. 물벌아, 물벌과", "Pip은 'Pip'으로, Pip이었다. Pip아, Pip과"]
)
def test_the_particle_fits_any_korean_mask_and_never_betrays_the_name(mask: str, wanted: str, text: str) -> None:
    masker = Masker({"pip": {"en": "Pip", "ko": "물벌"}}, MASKS | {"ko": Masks(mask, "남")})
    assert masker.mask(text, "pip", "ko") == wanted


def test_a_verb_in_the_place_of_a_particle_stays_a_verb() -> None:
    masker = Masker({"pip": {"ko": "물벌떼등"}}, MASKS | {"ko": Masks("이 아이", "남")})
    text = "물벌떼등이네. 물벌떼등이죠, 물벌떼등이시다. 물벌떼등이 온다."
    assert masker.mask(text, "pip", "ko") == "이 아이이네. 이 아이이죠, 이 아이이시다. 이 아이가 온다."


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
