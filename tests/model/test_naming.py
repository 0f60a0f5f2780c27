"""Descriptions, one adapter: names or candidates with honest probabilities, or one clear error."""

import math
import unicodedata

import pytest
import torch

from support.adapters import make_adapter, scale
from support.names import made_names
from toolkit.core.errors import EnvironmentLacks, InputError
from toolkit.core.folder import read_json, write_json
from toolkit.core.recipe import DecodingSettings
from toolkit.model import centroids, chat, generate, naming, new_names, rank
from toolkit.model.chat_template import with_answer

KOREAN = "꼬리에 푸른 불꽃이 타는 작은 여우."


@pytest.fixture
def adapter(tmp_path, small_base, use_small_base):
    return make_adapter(tmp_path / "adapter", small_base)


@pytest.fixture
def answerer(adapter):
    return naming.open_adapter(adapter)


def drawing(monkeypatch, *rounds):
    """What sampling gives, one list a round; a name must not depend on what a random model happens to say."""
    given = iter(rounds)
    seeds = []

    def sample(_prompts, _tokenizer, _settings, _count, asked):
        seeds.extend(asked)
        return [[generate.Generated(drawn, stopped=True) for drawn in next(given)]]

    monkeypatch.setattr(generate, "sample", sample)
    return seeds


def plain_probability(answerer, description, name):
    """A full pass over the whole conversation, and the product of the probabilities of its answer's tokens."""
    messages = chat.naming_messages(description, answerer.request)
    example = chat.encode(answerer.tokenizer, with_answer(messages, name))
    with torch.inference_mode():
        logits = answerer.model(torch.tensor([example.input_ids])).logits[0]
    chosen = logits.softmax(-1)[range(example.answer_start - 1, len(example.input_ids) - 1), example.answer_ids]
    return float(chosen.double().prod())


def test_the_same_seed_draws_the_same_names(answerer):
    assert naming.name(answerer, "A red fox.", 2, 7) == naming.name(answerer, "A red fox.", 2, 7)


def test_a_second_answer_is_that_of_an_adapter_just_opened(answerer, adapter):
    naming.identify(answerer, "A blue turtle with a hard shell.", 2)
    assert naming.name(answerer, KOREAN, 2, 3) == naming.name(naming.open_adapter(adapter), KOREAN, 2, 3)


def test_a_names_probability_is_that_of_its_tokens_and_the_end_of_its_turn(answerer, monkeypatch):
    drawing(monkeypatch, ["Vulpix", "Blastoise"])
    for one in naming.name(answerer, "A red fox.", 2, 0, known=True).names:
        assert one.probability == pytest.approx(plain_probability(answerer, "A red fox.", one.name), rel=1e-3)


def test_names_are_distinct_and_the_likeliest_comes_first(answerer, monkeypatch):
    seeds = drawing(monkeypatch, ["Vulpix", "Vulpix", ""], ["Pikachu", "Vulpix", ""], ["Charmander", "Squirtle", ""])
    names = naming.name(answerer, "A red fox.", 3, 5, known=True).names
    assert {one.name for one in names} == {"Vulpix", "Pikachu", "Charmander"}
    assert [one.probability for one in names] == sorted((one.probability for one in names), reverse=True)
    assert seeds == [5, 6, 7]


@pytest.mark.parametrize(("said", "names"), [("Vulpix", ["Vulpix"]), ("", [])], ids=["one name", "nothing"])
def test_a_model_that_always_says_the_same_is_not_asked_for_ever(answerer, monkeypatch, said, names):
    drawing(monkeypatch, *[[said, said]] * naming.ROUNDS)
    assert [one.name for one in naming.name(answerer, "A red fox.", 2, 0, known=True).names] == names


def test_names_of_known_creatures_are_told_from_new_ones(answerer, monkeypatch):
    drawing(monkeypatch, ["VULPIX", "Vulpixel"])
    named = naming.name(answerer, "A red fox.", 2, 0, known=True).names
    assert {(one.name, one.known, one.nearest, one.distance) for one in named} == {
        ("VULPIX", True, "Vulpix", 0),
        ("Vulpixel", False, "Vulpix", 2),
    }


def drawing_new(monkeypatch, *rounds, stopped=True):
    given = iter(rounds)

    def sample_new(_prompts, _tokenizer, _settings, count, _seeds, _known):
        assert count > 2
        return [[generate.Generated(drawn, stopped) for drawn in next(given)]]

    monkeypatch.setattr(new_names, "sample_new", sample_new)


def test_names_are_drawn_until_enough_are_new_well_formed_and_different(answerer, monkeypatch):
    drawing_new(
        monkeypatch,
        [
            "VULPIX",
            "Vulpixx",
            "Vulpixandra",
            "Red Vulpix",
            "vulpa",
            "Xxxxx",
            "",
            "Flamora",
            "Flamora",
            "flamora",
            "Flamorra",
        ],
        ["Squirtel", "Emberling", "Flamora"],
        ["Unasked"],
    )
    found = naming.name(answerer, "A red fox.", 2, 0)
    assert {one.name for one in found.names} == {"Flamora", "Emberling"}
    assert {one.known for one in found.names} == {False}
    assert all(one.nearest in ("Vulpix", "Squirtle") and one.distance > 3 for one in found.names)


def test_a_name_that_the_model_did_not_end_is_none(answerer, monkeypatch):
    drawing_new(monkeypatch, *[["Flamora"]] * naming.ROUNDS, stopped=False)
    assert naming.name(answerer, "A red fox.", 1, 0).names == []


def test_names_held_out_from_the_adapter_are_not_new_either(adapter, monkeypatch):
    write_json(adapter / "taken_names.json", ["Squirtle", "Vulpix", "Flamora"])
    answerer = naming.open_adapter(adapter)
    drawing_new(monkeypatch, ["Flamora", "Flamor"], *[["Emberling"]] * naming.ROUNDS)
    assert [one.name for one in naming.name(answerer, "A red fox.", 1, 0).names] == ["Emberling"]
    assert {candidate.name for candidate in naming.identify(answerer, "A red fox.").candidates} == {
        "Squirtle",
        "Vulpix",
    }


def test_the_name_that_the_description_makes_likelier_comes_first(answerer, monkeypatch):
    # Log-likelihoods with the description and without: the likeliest is likely for any creature.
    scores = {"Emberling": (-9.0, -19.0), "Flamora": (-4.0, -5.0), "Granitor": (-8.0, -15.0)}
    drawing_new(monkeypatch, ["Flamora", "Granitor", "Emberling"])
    monkeypatch.setattr(
        naming, "_scores", lambda asked, read, names: [scores[name][read is asked.bare] for name in names]
    )
    found = naming.name(answerer, "A red fox.", 2, 0).names
    assert [one.name for one in found] == ["Emberling", "Granitor"]
    assert [one.probability for one in found] == [math.exp(-9), math.exp(-8)]


def test_what_looks_like_no_real_name_comes_last_whatever_it_fits(adapter, monkeypatch):
    write_json(adapter / "answers.json", made_names(60))
    answerer = naming.open_adapter(adapter)
    odd, *others = "Xqozvjuqex", *made_names(64)[60:]
    drawing_new(monkeypatch, [odd, *others])
    monkeypatch.setattr(naming, "_scores", lambda _, __, names: [float(name == odd) for name in names])
    assert [one.name for one in naming.name(answerer, "A red fox.", 5, 0).names][-1] == odd


def test_an_adapter_whose_answers_are_no_names_may_give_what_looks_like_none(adapter, monkeypatch):
    write_json(adapter / "answers.json", ["a red panda", "the common swift"])
    drawing_new(monkeypatch, ["the red swift of dusk"])
    assert len(naming.name(naming.open_adapter(adapter), "A bird.", 1, 0).names) == 1


def test_candidates_share_all_probability_and_stand_under_the_names_too(answerer):
    found = naming.identify(answerer, "A red fox.", 5).candidates
    assert {candidate.name for candidate in found} == {"Squirtle", "Vulpix"}
    assert sum(candidate.probability for candidate in found) == pytest.approx(1)
    assert naming.name(answerer, "A red fox.", 1, 0).nearest == found


def test_the_most_likely_candidate_is_that_of_plain_passes(answerer):
    shares = {name: plain_probability(answerer, KOREAN, name) for name in answerer.known}
    found = naming.identify(answerer, KOREAN, 1).candidates[0]
    assert found.name == max(shares, key=shares.get)
    assert found.probability == pytest.approx(shares[found.name] / sum(shares.values()), rel=1e-3)


@pytest.mark.parametrize(
    ("written", "same"),
    [
        (unicodedata.normalize("NFD", KOREAN), KOREAN),
        (f"  {KOREAN}\r\n", KOREAN),
        ("Ａ ｒｅｄ ｆｏｘ．", "A red fox."),
    ],
    ids=["NFD", "blanks", "wide"],
)
def test_one_description_has_one_answer_however_it_is_written(answerer, written, same):
    assert naming.identify(answerer, written, 2) == naming.identify(answerer, same, 2)
    assert naming.name(answerer, written, 2, 3) == naming.name(answerer, same, 2, 3)


def test_the_adapters_own_request_is_sent(adapter, monkeypatch):
    write_json(adapter / "manifest.json", read_json(adapter / "manifest.json") | {"request": "Name it:"})
    answerer = naming.open_adapter(adapter)
    sent = []
    monkeypatch.setattr(generate, "sample", lambda prompts, *_: sent.extend(prompts.each()) or [[]])
    naming.name(answerer, KOREAN, 1, 0, known=True)
    expected = [{"role": "user", "content": f"Name it:\n\n{KOREAN}"}]
    assert sent[0] == chat.prompt_ids(answerer.tokenizer, expected)


def test_a_strangers_adapter_names_and_identifies_with_given_candidates(adapter, tmp_path):
    own = naming.open_adapter(adapter)
    kept = ("adapter_config.json", "adapter_model.safetensors")
    for file in adapter.iterdir():
        if file.name not in kept:
            file.unlink()
    stranger = naming.open_adapter(adapter)
    named = naming.name(stranger, KOREAN, 2, 3)
    assert (stranger.request, stranger.system, stranger.decoding) == (chat.REQUEST, None, DecodingSettings())
    assert len(named.names) == 2
    assert named.nearest == []
    assert {one.known for one in named.names} == {None}
    with pytest.raises(InputError, match=r"does not say which names .*`candidates`"):
        naming.identify(adapter, KOREAN)
    stranger = naming.open_adapter(adapter, ["Vulpix", "Squirtle"])
    theirs, ours = (
        {candidate.name: candidate.probability for candidate in naming.identify(one, KOREAN, 2).candidates}
        for one in (stranger, own)
    )
    assert theirs == pytest.approx(ours)


def test_given_candidates_replace_the_learnt_ones_and_count_once(adapter, tmp_path):
    names = ["식스테일", " Pikachu ", "Pikachu", unicodedata.normalize("NFD", "식스테일"), ""]
    assert naming.open_adapter(adapter, names).known == ["식스테일", "Pikachu"]


def test_progress_is_told_within_one_description(adapter, tmp_path):
    names = [f"Vulpix{number}" for number in range(2000)]
    told = []

    def progress(*where):
        told.append(where)

    answerer = naming.open_adapter(adapter, names, progress=progress)
    assert told == [("preparing known names", 1000, 2000), ("preparing known names", 2000, 2000)]
    for ask in (
        lambda: naming.identify(answerer, "A red fox.", 3, progress),
        lambda: naming.name(answerer, "A red fox.", 1, 0, progress),
    ):
        told.clear()
        ask()
        assert len(told) > 3
        assert told == sorted(told)
        assert told[-1] == ("ranking known names", 2000, 2000)


@pytest.mark.parametrize("names", [[], [" "], ["\ufeff"], ["\u200b", ""]], ids=ascii)
def test_candidates_without_names_are_an_input_error(adapter, names):
    with pytest.raises(InputError, match="hold no names"):
        naming.open_adapter(adapter, names)


@pytest.mark.parametrize("description", ["", "  \n", "\u200b"], ids=ascii)
def test_an_empty_description_is_an_input_error(answerer, description):
    with pytest.raises(InputError, match="empty"):
        naming.name(answerer, description, 1, 0)


def test_weights_that_are_numbers_and_far_too_large_are_one_error_for_names_and_candidates(adapter):
    scale(adapter, 1e30)
    answerer = naming.open_adapter(adapter)
    said = []
    for ask in (lambda: naming.name(answerer, "A red fox.", 2, 0), lambda: naming.identify(answerer, "A red fox.", 2)):
        with pytest.raises(InputError, match="NaN or infinite") as raised:
            ask()
        said.append(str(raised.value))
    assert said[0] == said[1]


def test_a_description_that_the_model_cannot_read_whole_is_an_input_error(answerer):
    for ask in (lambda text: naming.name(answerer, text, 1, 0), lambda text: naming.identify(answerer, text, 1)):
        with pytest.raises(InputError, match=r"too long: .* tokens, and the model reads 512"):
            ask("A red fox. " * 300)


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"kind": "dataset"}'])
def test_a_folder_with_another_manifest_is_refused(adapter, manifest):
    (adapter / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match="no folder of the kind"):
        naming.open_adapter(adapter)


@pytest.mark.parametrize("answers", ["{}", "[]", "[1]", '"Vulpix"', '["Vulpix", null]'])
def test_answers_that_are_no_list_of_texts_are_an_input_error(adapter, answers):
    (adapter / "answers.json").write_text(answers)
    with pytest.raises(InputError, match=r"answers\.json is not a list of names"):
        naming.open_adapter(adapter)


def test_too_little_memory_while_naming_is_the_machines_lack(answerer, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(generate, "sample", fail)
    monkeypatch.setattr(rank, "score", fail)
    with pytest.raises(EnvironmentLacks):
        naming.name(answerer, "A fox.", 1, 0)
    with pytest.raises(EnvironmentLacks):
        naming.identify(answerer, "A fox.", 1)


def test_an_adapter_with_centroids_identifies_by_them_unless_other_candidates_are_given(adapter):
    text, answers = "A red fox.", read_json(adapter / "answers.json")
    plain = naming.open_adapter(adapter)
    state = plain.reader.read([naming.described(plain, text).prompt]).states[0]
    others = torch.stack([-state, *[state.roll(shift) for shift in range(1, len(answers) - 1)], state])
    centroids.write_centroids(adapter, centroids.Centroids(answers, others))
    likelihoods = naming.identify(plain, text, 99)
    found = naming.identify(adapter, text, 99)
    assert found.candidates[0].name == answers[-1]
    assert found.candidates[-1].name == answers[0]
    assert found.candidates == naming.name(adapter, text, 1, known=True).nearest + found.candidates[naming.NEAREST :]
    assert sum(one.probability for one in found.candidates) == pytest.approx(1)
    assert naming.identify(naming.open_adapter(adapter, answers), text, 99) == likelihoods
