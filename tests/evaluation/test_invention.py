"""Invented names: every figure puts those who only seem to invent in their place."""

from dataclasses import replace
from random import Random

import pytest

from support.names import made_names, random_letters
from tiny_base.synthetic import invent_korean_name
from toolkit.core.names import is_well_formed
from toolkit.evaluation.invention import Judgement, Sample, invention_figures, judge_all
from toolkit.evaluation.ranks import Rank


def judge(name, known, training, script):
    return judge_all([name], known, training, [script])[0]


SCORES = ("invented", "new", "different", "varied", "likeness")
CREATURES, SAMPLES = 40, 3


def figures_of(say, known, script="en", **how):
    """The values for a model that says `say(creature, sample)`."""
    samples = [
        Sample(f"row {creature}", say(creature, sample), True, script, **how)
        for creature in range(CREATURES)
        for sample in range(SAMPLES)
    ]
    figures = invention_figures(samples, known, known, 7)
    assert (figures["rows"], figures["names"]) == (CREATURES, CREATURES * SAMPLES)
    return {name: figure["value"] for name, figure in figures.items() if name not in ("rows", "names")}


@pytest.fixture(scope="module", params=["en", "ko", "both"])
def world(request):
    """A script, names of creatures that are known, and names of the same making that are not."""
    english, korean = made_names(300), made_names(300, invent_korean_name)
    both = [f"{first} ({second})" for first, second in zip(korean, english, strict=True)]
    names = {"en": english, "ko": korean, "both": both}[request.param]
    return request.param, names[:150], names[150:]


def syllables(rng):
    return "".join(chr(rng.randrange(0xAC00, 0xD7A4)) for _ in range(rng.randint(2, 4)))


def noise(script):
    rng = Random(9)
    english = iter(random_letters(1000, seed=9))
    made = {
        "en": lambda: next(english).capitalize(),
        "ko": lambda: syllables(rng),
        "both": lambda: f"{syllables(rng)} ({next(english).capitalize()})",
    }
    return lambda creature, sample: made[script]()


def test_decomposed_letters_are_the_same_name():
    import unicodedata

    assert is_well_formed(unicodedata.normalize("NFD", "이상해씨"), "ko")
    assert judge(unicodedata.normalize("NFD", "이상해씨"), ["이상해씨"], ["이상해씨"], "ko").memorised


def test_a_known_name_is_not_new_and_one_of_the_training_is_memorised():
    assert judge("pikachu", ["Pikachu"], ["Pikachu"], "en") == Judgement(False, True, False, True)
    assert judge("Pikachu", ["Pikachu"], ["Raichu"], "en") == Judgement(True, True, False, False)
    assert judge("Flamander", ["Pikachu"], ["Raichu"], "en") == Judgement(True, False, True, False)


@pytest.mark.parametrize("name", ["Pikachuu", "Pikchu", "Pikaclu", "Pkiachu", "PIKA-CHU", "Pikáchu", "Pika chu"])
def test_one_edit_makes_no_new_name(name):
    assert not judge(name, ["Pikachu"], [], None).new


@pytest.mark.parametrize("name", ["Pikachuna", "Pikabolt", "Raikachu"])
def test_two_edits_make_a_new_name(name):
    assert judge(name, ["Pikachu"], [], None).new


@pytest.mark.parametrize(("name", "new"), [("피카추", False), ("비카츄", False), ("피캇츄", False), ("피카나", True)])
def test_an_edit_of_a_korean_name_is_one_of_its_sounds(name, new):
    assert judge(name, ["피카츄"], [], "ko").new is new


def test_short_names_are_copies_only_when_they_are_the_same():
    assert judge("Mev", ["Mew"], [], "en").new
    assert not judge("mew", ["Mew"], [], "en").new
    assert judge("Mewt", ["Mew"], [], "en").new
    assert not judge("Onyx", ["Onix"], [], "en").new


def test_both_names_of_an_answer_have_to_be_new():
    known = ["이상해씨 (Bulbasaur)"]
    assert not judge("불꽃여우 (Bulbasaurs)", known, [], "both").new
    assert not judge("이상해씨 (Flamander)", known, [], "both").new
    assert judge("불꽃여우 (Flamander)", known, [], "both").new
    assert judge("이상해씨 (Flamander)", known, known, "both").memorised


def test_an_inventor_is_well_above_everyone_else(world):
    script, known, strangers = world
    inventor = figures_of(lambda creature, sample: strangers[SAMPLES * creature + sample], known, script)
    assert inventor["invented"] > 0.8
    assert inventor["new"] > 0.9
    assert inventor["well_formed"] > 0.95
    assert 0.35 < inventor["likeness"] < 0.7
    assert inventor["memorised"] == 0
    random = figures_of(noise(script), known, script)
    assert random["invented"] < 0.2 < random["new"]
    assert random["likeness"] < 0.1


@pytest.mark.parametrize("names", [1, 5])
def test_a_constant_answer_or_the_same_five_names_for_everything_win_no_score(world, names):
    script, known, strangers = world
    constant = figures_of(lambda creature, sample: strangers[(creature + sample) % names], known, script)
    assert constant["well_formed"] == 1
    assert [constant[score] for score in SCORES] == [0] * len(SCORES)


def test_a_memoriser_is_no_inventor(world):
    script, known, _ = world
    memoriser = figures_of(lambda creature, sample: known[SAMPLES * creature + sample], known, script)
    assert memoriser["memorised"] == memoriser["well_formed"] == 1
    # It does answer each creature with names of its own.
    assert memoriser["different"] > 0.9
    assert memoriser["invented"] == memoriser["new"] == memoriser["likeness"] == 0


def test_babble_scores_nothing(world):
    script, known, _ = world
    babble = figures_of(lambda creature, sample: f"a fox that {creature} {sample}", known, script)
    assert set(babble.values()) == {0}


def test_an_answer_of_two_names_needs_two_name_like_ones():
    korean, english = made_names(120, invent_korean_name), random_letters(120)
    known = [f"{first} ({second})" for first, second in zip(korean, made_names(120, seed=3), strict=True)]
    strangers = made_names(300, invent_korean_name, seed=4)[180:]
    half = figures_of(
        lambda creature, sample: (
            f"{strangers[SAMPLES * creature + sample]} ({english[SAMPLES * creature + sample].capitalize()})"
        ),
        known,
        "both",
    )
    assert half["invented"] < 0.3 < half["new"]


def test_a_constant_answer_with_a_letter_changed_is_constant():
    letters = "abcdefghijklmnopqrstuvwxyz"
    changed = figures_of(lambda creature, sample: "Flamand" + letters[creature % 26] + "r", made_names(50))
    assert changed["different"] == changed["invented"] == 0


def test_names_that_were_cut_off_do_not_count():
    samples = [Sample(str(number), name, False, "en") for number, name in enumerate(made_names(30))]
    figures = invention_figures(samples, made_names(60, seed=2), made_names(60, seed=2), 7)
    assert figures["well_formed"]["value"] == figures["invented"]["value"] == figures["new"]["value"] == 0


def test_a_name_for_every_description_of_one_creature_is_its_own():
    samples = [
        Sample(f"{creature}-{row}", name, True, "en", creature)
        for creature, name in (("pokemon/1", "Flamander"), ("pokemon/2", "Mossquatch"))
        for row in range(4)
    ]
    figures = invention_figures(samples, [], [], 7)
    assert figures["different"]["value"] == figures["new"]["value"] == 1
    assert figures["rows"] == 8
    alone = [Sample(sample.description, sample.name, True, "en") for sample in samples]
    assert invention_figures(alone, [], [], 7)["different"]["value"] == 0


def test_copies_within_a_description_keep_their_weight_and_are_not_varied():
    said = {"a": ["Flamander"] * 3, "b": ["Mossquatch", "Mossquatch", "Gloomfin"]}
    samples = [Sample(row, name, True, "en") for row, names in said.items() for name in names]
    figures = invention_figures(samples, [], [], 7)
    assert figures["new"]["value"] == 1
    # No pair of the first differs, four of the six ordered pairs of the second do.
    assert figures["varied"]["value"] == pytest.approx((0 + 4 / 6) / 2)
    assert figures["varied"]["n"] == 2


def test_what_cannot_be_measured_is_absent():
    def measured(samples, training):
        return set(invention_figures(samples, training, training, 7)) - {"rows", "names"}

    one, two = Sample("a", "Flamander", True, "en"), Sample("b", "Mossquatch", True, "en")
    many = made_names(40)
    assert invention_figures([], many, many, 7) == {"rows": 0, "names": 0}
    assert measured([one, one], many) == {"well_formed", "known", "memorised"}
    assert measured([one, two], many[:5]) == {"well_formed", "known", "memorised", "new", "different"}
    all_of_them = {"well_formed", "known", "memorised", "new", "different", "invented", "likeness"}
    assert measured([one, two], many) == all_of_them
    placed = [replace(one, fit=Rank(1)), replace(two, fit=Rank(1.5, 2))]
    assert invention_figures(placed, many, many, 7)["fits"]["value"] == 0.75
    assert "varied" in measured([one, one, two], many)
