"""Generation stops at every token that may end a turn, and shows none of them."""

import pytest
import torch
from families import FAMILIES, family_tokenizer
from test_packing import small_model

from toolkit import chat, generate
from toolkit.recipe import DecodingSettings

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
