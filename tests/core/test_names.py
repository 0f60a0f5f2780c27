"""Names as texts: their form, the script of a list, and likeness, a distribution over names compared with real ones."""

import itertools
import math
from random import Random
from statistics import mean

import pytest

from support.names import made_names, random_letters
from tiny_base.synthetic import invent_korean_name, invent_name
from toolkit.core import names as core_names
from toolkit.core.names import answer_script, is_well_formed


@pytest.mark.parametrize(
    "name",
    [
        *("Pikabolt", "Mr. Mime", "Farfetch'd", "Nidoran♀", "이상해씨", "이상해씨 (Bulbasaur)", "Ho-Oh", "Type: Null"),
        *("Iron Valiant", "Porygon2", "Flabébé", "Évoli", "Ōkami", "타입:널", "폴리곤Z", "니드런♂", "뮤 (Mew)"),
        *(
            "KOMMO-O",
            "Kommo-o",
            "Porygon-Z",
            "Mime Jr.",
            "마임맨 (Mr. Mime)",
            "ピカチュウ",
            "カプ・コケコ",
            "妙蛙种子",
            "Пикачу",
            "पिकाचु",
            "ปิกาจู",
        ),
    ],
)
def test_what_has_the_form_of_a_name(name):
    assert is_well_formed(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "body:", "a fox", "Xxxxx", "Brrrt", "Wbzkt", "This Is A Long Name", "Pika\nchu", "P", "Aaaa"),
        *("The fox", "Body:", "Pika_chu", "Pikachu가나", "Пикачu", "пикачу", "12", "♀♂", "...", "--", "하하하하"),
        *("Pikachu ", "Pikachu, Raichu", "이상해씨 (", "(Bulbasaur)", "이상해씨(Bulbasaur)", "Bababab", "불을 뿜는"),
        *("Cle.ecta", "GolGI", "Mr.Mime", "뮤 (MewTwo)", "ㅋㅋㅋ", "Abcdefghijklmnopq", "<end_of_turn>"),
    ],
)
def test_what_is_babble(name):
    assert not is_well_formed(name)


@pytest.mark.parametrize(
    ("script", "right"),
    [("en", "Bulbasaur"), ("ko", "이상해씨"), ("both", "이상해씨 (Bulbasaur)"), (None, "フシギダネ")],
)
def test_only_the_asked_script_is_well_formed(script, right):
    answers = ["Bulbasaur", "이상해씨", "이상해씨 (Bulbasaur)", "フシギダネ"]
    formed = [answer for answer in answers if is_well_formed(answer, script)]
    assert formed == ([right] if script else answers)


@pytest.mark.parametrize(
    ("answers", "script"),
    [
        (["Bulbasaur", "Ivysaur"], "en"),
        (["이상해씨", "이상해풀"], "ko"),
        (["이상해씨 (Bulbasaur)"], "both"),
        (["Bulbasaur"] * 9 + ["이상해씨"], "en"),
        (["Bulbasaur"] * 8 + ["이상해씨"] * 2, None),
        (["フシギダネ"], None),
        (["123"], None),
        ([], None),
    ],
)
def test_the_script_that_answers_share(answers, script):
    assert answer_script(answers) == script


def test_bits_of_a_case_computed_by_hand():
    # After the one name `a`: 1/3 for any symbol, 5/12 for a single one, 17/24 for one after one, 41/48 after two.
    assert core_names.NameModel(["a"]).bits("A") == pytest.approx(-math.log2(41 / 48))


def test_the_probabilities_of_all_names_add_up_to_one():
    model = core_names.NameModel(["ab", "ba", "a"])
    # `?` stands for all letters that were never seen.
    names = ("".join(letters) for length in range(1, 10) for letters in itertools.product("ab?", repeat=length))
    total = 2 ** -model.bits("") + sum(2 ** (-model.bits(name) * (len(name) + 1)) for name in names)
    assert 0.98 < total <= 1 + 1e-9


def test_case_and_latin_diacritics_make_no_difference():
    model = core_names.NameModel(["Flabébé", "Évoli"])
    assert model.bits("FLABEBE") == model.bits("flabébé")


@pytest.mark.parametrize("invent", [invent_name, invent_korean_name])
def test_names_of_the_same_making_average_about_one_half(invent):
    names = made_names(400, invent)
    shares = core_names.percentiles(names[:150], names[150:], 7)
    assert 0.4 < mean(shares) < 0.65
    assert min(shares) < 0.2
    assert max(shares) > 0.8


def test_random_letters_look_like_no_name():
    shares = core_names.percentiles(random_letters(200), made_names(250), 7)
    assert mean(shares) < 0.05


def test_random_syllables_look_like_no_korean_name():
    rng = Random(2)
    noise = ["".join(chr(rng.randrange(0xAC00, 0xD7A4)) for _ in range(3)) for _ in range(100)]
    assert mean(core_names.percentiles(noise, made_names(250, invent_korean_name), 7)) < 0.02


def test_korean_is_measured_by_its_sounds():
    # No real name has one of these syllables, but nearly all have the sounds of the first.
    real = made_names(250, invent_korean_name)
    near, far = "잘길", "뷁쀍"
    assert not set(near + far) & set("".join(real))
    near_share, far_share = core_names.percentiles([near, far], real, 7)
    assert near_share > 0.5
    assert far_share == 0


def test_names_that_begin_alike_are_held_out_together():
    # Families of five, as of creatures that evolve: a name of another family is not less likely than all of theirs.
    rng = Random(3)
    starts = random_letters(300, seed=4)
    families = [[start + ending for ending in ("ra", "ro", "ri", "ru", "re")] for start in starts[:40]]
    strangers = [start + rng.choice(("ra", "ro", "ri", "ru", "re")) for start in starts[40:]]
    shares = core_names.percentiles(strangers, [name for family in families for name in family], 7)
    assert 0.3 < mean(shares) < 0.6


def test_too_few_real_names_measure_nothing():
    names = made_names(core_names.FEWEST)
    assert core_names.percentiles(["Pikabolt"], names[1:], 7) is None
    assert core_names.percentiles(["Pikabolt"], names, 7) is not None
    assert core_names.percentiles(["Pikabolt"], [], 7) is None


def test_names_in_a_script_that_real_names_lack_are_like_none():
    korean, english = core_names.percentiles(["이상해풀", "Flamander"], made_names(60), 7)
    assert korean == 0
    assert english > 0


def test_a_tie_counts_half():
    # Each name is a letter that no other has: all are equally likely.
    assert core_names.percentiles(["ω"], [chr(ord("一") + place) for place in range(32)], 7) == [0.5]


def test_the_order_and_copies_of_real_names_make_no_difference():
    names = made_names(90)
    asked = names[:30]
    first = core_names.percentiles(asked, names[30:], 7)
    assert core_names.percentiles(asked, [*reversed(names[30:]), *(name.upper() for name in names[30:40])], 7) == first
    assert core_names.percentiles(asked, names[30:], 8) != first


@pytest.mark.parametrize("alphabet", ["абвгдежзик", "アイウエオカキクケコ", "甲乙丙丁戊己庚辛"])
def test_any_alphabet_is_measured(alphabet):
    rng = Random(5)
    names = ["".join(rng.choices(alphabet, k=5)) for _ in range(80)]
    typical, strange = core_names.percentiles([names[0][::-1], "ωψχφυ"], names[1:], 7)
    assert typical > strange
