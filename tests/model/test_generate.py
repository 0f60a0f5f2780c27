"""Generation stops at every token that may end a turn, shows none of them, and draws what the memory holds."""

import pytest
import torch

from support.models import small_model
from support.templates import FAMILIES, family_tokenizer
from toolkit.core.errors import InputError
from toolkit.core.recipe import DecodingSettings
from toolkit.model import chat, generate
from toolkit.model.chat_template import with_answer
from toolkit.model.prompts import in_columns

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


def sample(model, tokenizer, messages, settings, count, seed):
    """Names after one prompt, which `generate` reads itself."""
    prompts = in_columns(model, [chat.prompt_ids(tokenizer, messages)])
    return generate.sample(prompts, tokenizer, settings, count, [seed])[0]


def greedy(model, tokenizer):
    return generate.greedy_name(model, tokenizer, MESSAGES, SETTINGS)


def sampled(model, tokenizer):
    return sample(model, tokenizer, MESSAGES, SETTINGS, 2, 0)[0].name


@pytest.mark.parametrize("name", [greedy, sampled])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_random_model_stops_at_every_id_that_may_end_a_turn(family, name):
    tokenizer = family_tokenizer(family)
    listed = tokenizer.convert_tokens_to_ids(["x", "y"])
    word = tokenizer("Pikachu", add_special_tokens=False).input_ids
    stops = chat.end_of_turn_ids(tokenizer, small_model("llama", eos_token_id=listed).generation_config)
    assert set(stops) >= {chat.encode(tokenizer, with_answer(MESSAGES, "a")).input_ids[-1], *listed}
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
        seen.append(len(how["input_ids"]))
        # Only then does it show: random numbers were drawn already.
        sequences = plain(**how)
        if seen[-1] > most:
            raise error
        return sequences

    monkeypatch.setattr(model, "generate", counting)
    return seen


@pytest.fixture
def talker(tokenizer):
    return small_model("gemma", vocab_size=len(tokenizer), max_position_embeddings=512).eval()


def test_names_are_drawn_in_parts_where_the_memory_does_not_hold_all(talker, tokenizer, monkeypatch):
    seen = drawn_at_once(monkeypatch, talker, 3, torch.OutOfMemoryError("CUDA out of memory."))
    assert len(sample(talker, tokenizer, MESSAGES, SETTINGS, 7, 3)) == 7
    assert seen == [7, 3, 3, 1]


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
    "one is NaN": (0.0, torch.nan),
    "one is infinite": (0.0, torch.inf),
    "none may come": (-torch.inf, -torch.inf),
}


@pytest.mark.parametrize(("others", "one"), NO_PROBABILITIES.values(), ids=NO_PROBABILITIES)
def test_a_model_whose_probabilities_are_no_numbers_draws_no_names(talker, tokenizer, others, one):
    talker.lm_head = Broken(talker.lm_head, others, one)
    settings = DecodingSettings(temperature=0.5, max_new_tokens=3)
    with pytest.raises(InputError, match="NaN or infinite"):
        sample(talker, tokenizer, MESSAGES, settings, 4, 3)
    with pytest.raises(InputError, match="NaN or infinite"):
        generate.greedy_name(talker, tokenizer, MESSAGES, settings)


def test_a_token_that_cannot_come_is_no_broken_model(talker, tokenizer):
    talker.lm_head = Broken(talker.lm_head, -torch.inf, 0.0)
    settings = DecodingSettings(max_new_tokens=3)
    drawn = sample(talker, tokenizer, MESSAGES, settings, 2, 3)
    assert {each.name for each in drawn} == {generate.greedy_name(talker, tokenizer, MESSAGES, settings)}


def test_the_names_are_those_that_generate_draws_from_the_same_seed(talker, tokenizer):
    # Nearly all tokens may come, and names have different lengths.
    settings = DecodingSettings(temperature=3.0, top_k=1000, top_p=0.9, max_new_tokens=12)
    drawn = sample(talker, tokenizer, MESSAGES, settings, 7, 3)
    prompt = torch.tensor([chat.prompt_ids(tokenizer, MESSAGES)])
    torch.manual_seed(3)
    plain = talker.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=True,
        temperature=3.0,
        top_k=1000,
        top_p=0.9,
        max_new_tokens=12,
        num_return_sequences=7,
        eos_token_id=chat.end_of_turn_ids(tokenizer, talker.generation_config),
        pad_token_id=tokenizer.pad_token_id,
    )
    said = [tokenizer.decode(row[prompt.shape[1] :], skip_special_tokens=True).strip() for row in plain]
    assert [one.name for one in drawn] == said


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and this machine has none")
@pytest.mark.parametrize(("others", "one"), NO_PROBABILITIES.values(), ids=NO_PROBABILITIES)
def test_broken_probabilities_leave_a_gpu_as_it_was(talker, tokenizer, others, one):
    model = talker.to("cuda")
    sound, model.lm_head = model.lm_head, Broken(model.lm_head, others, one)
    settings = DecodingSettings(temperature=0.5, max_new_tokens=3)
    with pytest.raises(InputError, match="NaN or infinite"):
        sample(model, tokenizer, MESSAGES, settings, 4, 3)
    model.lm_head = sound
    assert len(sample(model, tokenizer, MESSAGES, settings, 4, 3)) == 4
