"""A known name is never drawn, however its tokens are cut, and what leads to one gives way to what is likely next."""

import pytest
import torch

from support.models import small_model
from toolkit.core.recipe import DecodingSettings
from toolkit.model import chat, new_names, rank
from toolkit.model.prompts import in_columns

MESSAGES = chat.naming_messages("A small red fox with six tails.")
SETTINGS = DecodingSettings(max_new_tokens=12, temperature=0.1, top_k=3)


class Wants(torch.nn.Module):
    """A head that wants the next token of a name, and less so that of another name, whatever it has read."""

    def __init__(self, vocabulary, first, second, gap):
        super().__init__()
        self.vocabulary, self.first, self.second, self.gap, self.at = vocabulary, first, second, gap, 0

    def forward(self, hidden):
        logits = torch.full((*hidden.shape[:-1], self.vocabulary), -1e4)
        for name, logit in ((self.second, 20 - self.gap), (self.first, 20)):
            logits[..., name[min(self.at, len(name) - 1)]] = logit
        self.at += 1
        return logits


def drawn(tokenizer, known, first, second, *, gap):
    model = small_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512).eval()
    model.lm_head = Wants(len(tokenizer), first, second, gap)
    prompts = in_columns(model, [chat.prompt_ids(tokenizer, MESSAGES)])
    (names,) = new_names.sample_new(prompts, tokenizer, SETTINGS, 4, [7], new_names.known_names(tokenizer, known))
    return [one.name for one in names]


@pytest.mark.parametrize("name", ["Vulpix", "식스테일"])
def test_a_model_that_is_sure_of_a_known_name_never_ends_it(tokenizer, name):
    tokens = rank.encode_answers(tokenizer, [name])[0]
    assert drawn(tokenizer, [], tokens, tokens, gap=0) == [name] * 4
    assert name not in drawn(tokenizer, [name, "Squirtle"], tokens, tokens, gap=0)


def test_a_known_name_does_not_end_in_other_tokens_or_another_case_either(tokenizer):
    (end,) = set(rank.encode_answers(tokenizer, ["a"])[0]) & set(chat.end_of_turn_ids(tokenizer))
    letters = [tokenizer.convert_tokens_to_ids(letter) for letter in "vulpIX"]
    assert drawn(tokenizer, [], [*letters, end], [*letters, end], gap=0)[0] == "vulpIX"
    assert "vulpix" not in {name.lower() for name in drawn(tokenizer, ["Vulpix"], [*letters, end], letters, gap=0)}


def test_what_goes_on_along_a_known_name_gives_way_to_what_is_a_few_nats_less_likely(tokenizer):
    known, other = rank.encode_answers(tokenizer, ["Vulpix", "Voltra"])
    assert drawn(tokenizer, [], known, other, gap=3) == ["Vulpix"] * 4
    left = tokenizer.decode([known[0], other[1]])
    assert drawn(tokenizer, ["Vulpix"], known, other, gap=3) == [left] * 4
    assert not "Vulpix".startswith(left)


def test_a_tree_of_names_discounts_what_goes_on_and_forbids_what_completes(tokenizer):
    tree = new_names.known_names(tokenizer, ["Mew", "Mewtwo", "Mewlan", "식스테일"])
    assert () not in tree.following
    ends = chat.end_of_turn_ids(tokenizer)
    for answer in rank.encode_answers(tokenizer, ["Mewtwo", "식스테일"]):
        tokens = tuple(token for token in answer if token not in ends)
        assert all(tokens[at] in tree.following[tokens[:at]] for at in range(1, len(tokens) - 1))
        assert tokens[-1] in tree.last[tokens[:-1]]
        assert tokens not in tree.following


def test_each_prompt_draws_the_same_new_names_whatever_is_beside_it(tokenizer):
    model = small_model("gemma", vocab_size=len(tokenizer), max_position_embeddings=512).eval()
    known = new_names.known_names(tokenizer, ["Vulpix"])
    both = [chat.prompt_ids(tokenizer, chat.naming_messages(text)) for text in ("A fox.", "A turtle of stone.")]
    apart = [
        new_names.sample_new(in_columns(model, [prompt]), tokenizer, SETTINGS, 2, [seed], known)[0]
        for prompt, seed in zip(both, (3, 4), strict=True)
    ]
    assert new_names.sample_new(in_columns(model, both), tokenizer, SETTINGS, 2, [3, 4], known) == apart
