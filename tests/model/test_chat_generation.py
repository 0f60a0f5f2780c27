"""Generation stops at every token that may end a turn, shows none of them, and draws what the memory holds."""

import pytest
import torch

from support.models import small_model
from support.templates import FAMILIES, family_tokenizer
from toolkit.core.errors import InputError
from toolkit.core.recipe import DecodingSettings
from toolkit.model import chat, generate

MESSAGES = chat.naming_messages("A small red fox with six tails.")
SETTINGS = DecodingSettings(max_new_tokens=12)


class Script(torch.nn.Module):
    """A head that wants given tokens one after the other, whatever the model thinks."""

    def __init__(self, tokens, vocabulary):
        super().__init__()
        self.left, self.vocabulary = list(tokens), vocabulary

    def forward(self, hidden):
        logits = torch.full((*hidden.shape[:-1], self.vocabulary), -1e4)
        logits[..., self.left.pop(0)] = 1e4
        return logits


def model_saying(tokens, tokenizer, eos_token_id):
    model = small_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512).eval()
    model.generation_config.eos_token_id = eos_token_id
    model.lm_head = Script(tokens, len(tokenizer))
    return model


def greedy(model, tokenizer):
    return generate.greedy_name(model, tokenizer, MESSAGES, SETTINGS)


def sampled(model, tokenizer):
    return generate.sample_names(model, tokenizer, MESSAGES, SETTINGS, 2, seed=0)[0]


@pytest.mark.parametrize("name", [greedy, sampled])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_random_model_stops_at_every_id_that_may_end_a_turn(family, name):
    tokenizer = family_tokenizer(family)
    listed = tokenizer.convert_tokens_to_ids(["x", "y"])
    word = tokenizer("Pikachu", add_special_tokens=False).input_ids
    stops = chat.end_of_turn_ids(tokenizer, small_model("llama", eos_token_id=listed).generation_config)
    assert set(stops) >= {chat.encode(tokenizer, chat.with_answer(MESSAGES, "a")).input_ids[-1], *listed}
    for stop in stops:
        model = model_saying([*word, stop, *word * 9], tokenizer, listed)
        assert name(model, tokenizer) == "Pikachu"
        assert len(model.lm_head.left) == len(word) * 9


def test_a_generation_configuration_may_list_one_id_or_none(tokenizer):
    ends = tokenizer.convert_tokens_to_ids(["<end_of_turn>", "<eos>"])
    assert chat.end_of_turn_ids(tokenizer, small_model("llama", eos_token_id=7).generation_config) == [*ends, 7]
    assert chat.end_of_turn_ids(tokenizer, small_model("llama", eos_token_id=None).generation_config) == ends


def drawn_at_once(monkeypatch, model, most, error):
    """How many names each call of `generate` draws; more than `most` do not fit."""
    seen, plain = [], model.generate

    def counting(**how):
        seen.append(how["num_return_sequences"])
        # Only then does it show: random numbers were drawn already.
        sequences = plain(**how)
        if seen[-1] > most:
            raise error
        return sequences

    monkeypatch.setattr(model, "generate", counting)
    return seen


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
    MemoryError(),
]
# All tokens may come, and names have different lengths.
FREE = DecodingSettings(temperature=3.0, top_k=1000, top_p=1.0, max_new_tokens=12)


@pytest.fixture
def talker(tokenizer):
    return small_model("gemma", vocab_size=len(tokenizer), max_position_embeddings=512).eval()


@pytest.mark.parametrize("settings", [FREE, SETTINGS], ids=["free", "usual"])
@pytest.mark.parametrize(
    ("most", "error", "calls"),
    [(3, ERRORS[0], [7, 3, 3, 1]), (2, ERRORS[1], [7, 3, 1, 1, 1, 1, 1, 1, 1]), (6, ERRORS[2], [7, 3, 3, 1])],
    ids=["gpu", "cpu", "python"],
)
def test_names_that_do_not_fit_the_memory_are_drawn_in_parts_and_stay_the_same(
    talker, tokenizer, monkeypatch, settings, most, error, calls
):
    whole = generate.sample(talker, tokenizer, MESSAGES, settings, 7, 3)
    seen = drawn_at_once(monkeypatch, talker, most, error)
    assert generate.sample(talker, tokenizer, MESSAGES, settings, 7, 3) == whole
    assert len(set(whole)) > 4
    assert seen == calls


def test_what_did_not_fit_once_is_not_tried_for_the_next_description(talker, tokenizer, monkeypatch):
    seen, known = drawn_at_once(monkeypatch, talker, 2, MemoryError()), generate.AtOnce()
    names = generate.sample_names(talker, tokenizer, MESSAGES, SETTINGS, 4, 3, known)
    assert (seen, known.most) == ([4, 2, 2], 2)
    assert generate.sample_names(talker, tokenizer, MESSAGES, SETTINGS, 4, 3, known) == names
    assert seen[3:] == [2, 2]


def test_memory_for_less_than_one_name_is_the_error_itself(talker, tokenizer, monkeypatch):
    seen = drawn_at_once(monkeypatch, talker, 0, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(torch.OutOfMemoryError):
        generate.sample(talker, tokenizer, MESSAGES, SETTINGS, 4, 3)
    assert seen == [4, 2, 1]


def test_an_error_of_another_kind_is_not_taken_for_one_of_memory(talker, tokenizer, monkeypatch):
    seen = drawn_at_once(monkeypatch, talker, 0, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        generate.sample(talker, tokenizer, MESSAGES, SETTINGS, 4, 3)
    assert seen == [4]


class Broken(torch.nn.Module):
    """A head that gives every token the same logit, and one token another."""

    def __init__(self, head, others, one):
        super().__init__()
        self.head, self.others, self.one = head, others, one

    def forward(self, hidden):
        logits = torch.full_like(self.head(hidden), self.others)
        logits[..., 5] = self.one
        return logits


NO_PROBABILITIES = {
    "one is no number": (0.0, torch.nan),
    "one is infinite": (0.0, torch.inf),
    "none may come": (-torch.inf, -torch.inf),
    "one is infinite at this temperature": (0.0, 3e38),
}


@pytest.mark.parametrize("most", [9, 2])
@pytest.mark.parametrize(("others", "one"), NO_PROBABILITIES.values(), ids=NO_PROBABILITIES)
def test_a_model_whose_probabilities_are_no_numbers_draws_no_names(talker, tokenizer, others, one, most):
    talker.lm_head = Broken(talker.lm_head, others, one)
    settings = DecodingSettings(temperature=0.5, max_new_tokens=3)
    with pytest.raises(InputError, match="no numbers"):
        generate.sample(talker, tokenizer, MESSAGES, settings, 4, 3, generate.AtOnce(most))
    if one != 3e38:
        with pytest.raises(InputError, match="no numbers"):
            generate.greedy_name(talker, tokenizer, MESSAGES, settings)


def test_a_token_that_can_not_come_is_no_broken_model(talker, tokenizer):
    talker.lm_head = Broken(talker.lm_head, -torch.inf, 0.0)
    names = generate.sample_names(talker, tokenizer, MESSAGES, DecodingSettings(max_new_tokens=3), 2, 3)
    assert names == [generate.greedy_name(talker, tokenizer, MESSAGES, DecodingSettings(max_new_tokens=3))] * 2


@pytest.mark.parametrize("settings", [FREE, SETTINGS], ids=["free", "usual"])
def test_watching_for_broken_probabilities_changes_no_name(talker, tokenizer, monkeypatch, settings):
    watched = generate.sample(talker, tokenizer, MESSAGES, settings, 7, 3)
    plain = talker.generate
    monkeypatch.setattr(talker, "generate", lambda **how: plain(**how | {"logits_processor": None}))
    assert generate.sample(talker, tokenizer, MESSAGES, settings, 7, 3) == watched


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and this machine has none")
def test_names_that_do_not_fit_a_gpu_stay_the_same(talker, tokenizer, monkeypatch):
    model = talker.to("cuda")
    whole = generate.sample(model, tokenizer, MESSAGES, FREE, 7, 3)
    try:
        torch.empty(2**50, device="cuda")
    except torch.OutOfMemoryError as error:
        drawn_at_once(monkeypatch, model, 3, error)
    assert generate.sample(model, tokenizer, MESSAGES, FREE, 7, 3) == whole


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and this machine has none")
@pytest.mark.parametrize(("others", "one"), NO_PROBABILITIES.values(), ids=NO_PROBABILITIES)
def test_broken_probabilities_leave_a_gpu_as_it_was(talker, tokenizer, others, one):
    model = talker.to("cuda")
    sound, model.lm_head = model.lm_head, Broken(model.lm_head, others, one)
    settings = DecodingSettings(temperature=0.5, max_new_tokens=3)
    with pytest.raises(InputError, match="no numbers"):
        generate.sample(model, tokenizer, MESSAGES, settings, 4, 3)
    model.lm_head = sound
    assert len(generate.sample(model, tokenizer, MESSAGES, settings, 4, 3)) == 4
