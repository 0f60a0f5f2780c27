"""Ranking many candidates over a trie gives what separate full passes give."""

import pytest
import torch
from test_packing import small_model

from toolkit import chat, rank

PROMPT = [2, 11, 12, 13, 14, 15]
CANDIDATES = [[20, 21, 22, 1], [20, 21, 1], [20, 1], [30, 31, 32, 33, 34, 1], [1], [20, 21, 22, 23, 1], [40, 1]]


def separate_passes(model, prompt, candidates):
    scores = []
    for candidate in candidates:
        ids = torch.tensor([prompt + candidate])
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        scores.append(float(logits.log_softmax(-1).gather(1, torch.tensor(candidate)[:, None]).sum()))
    return scores


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3_text", "qwen2", "llama", "mistral", "qwen3_next"])
@pytest.mark.parametrize("piece", [2, 64])
def test_scores_equal_separate_full_passes(family, piece, monkeypatch):
    monkeypatch.setattr(rank, "PIECE", piece)
    model = small_model(family).eval()
    assert rank.log_likelihoods(model, PROMPT, CANDIDATES) == pytest.approx(
        separate_passes(model, PROMPT, CANDIDATES), abs=1e-4
    )


def test_candidates_that_share_a_beginning_share_nodes():
    trie = rank.build_trie([[5, 6, 1], [5, 6, 7, 1], [5, 1]])
    assert len(trie.tokens) == 6
    assert [trie.tokens[leaf] for leaf in trie.leaves] == [1, 1, 1]


def test_probabilities_of_all_one_token_answers_sum_to_one():
    model = small_model("gemma3_text").eval()
    scores = rank.log_likelihoods(model, PROMPT, [[token] for token in range(97)])
    assert sum(torch.tensor(scores).exp()).item() == pytest.approx(1, abs=1e-4)


def test_an_answer_scores_what_its_tokens_and_end_of_turn_score(tokenizer):
    example = chat.encode(tokenizer, chat.with_answer(chat.naming_messages("A small red fox."), "Vulpix"))
    assert rank.answer_ids(tokenizer, ["Vulpix"]) == [example.answer_ids]


def test_prompts_beyond_the_sliding_window_score_as_full_passes_do():
    model = small_model("gemma3_text", sliding_window=8).eval()
    prompt = list(range(3, 20))
    assert rank.log_likelihoods(model, prompt, CANDIDATES) == pytest.approx(
        separate_passes(model, prompt, CANDIDATES), abs=1e-4
    )
