"""Log-likelihood of many candidate answers after one prompt. Knows nothing of what the answers mean.

The prompt is read once and its keys and values are kept. Candidates, sorted so that equal beginnings lie together, are
scored in pieces: each piece is a trie whose nodes go through the model in one pass, each node seeing the prompt and its
own ancestors only. The softmax normaliser is computed once for each distinct prefix. The result equals separate full
passes (up to rounding); a test compares them. Where a model's sliding window is shorter than prompt and candidate, the
candidates take separate passes: one mask for all layers would show the prompt to layers that no longer see it. So they
do where a model remembers by a recurrent state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from toolkit import chat

PIECE = 64


@dataclass(slots=True)
class Trie:
    """Distinct prefixes of some candidates, in the order a depth-first walk meets them.

    Node `n` holds the token `tokens[n]`, its parent node `parents[n]` (-1: the prompt) and its depth, 0 for a first
    token. `leaves[c]` is the node at which candidate `c` ends.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)

    def add(self, candidate: Sequence[int], children: dict[tuple[int, int], int]) -> None:
        """Walk down from the root, making the nodes that are missing."""
        node = -1
        for depth, token in enumerate(candidate):
            following = children.get((node, token))
            if following is None:
                following = children[node, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
                self.depths.append(depth)
            node = following
        self.leaves.append(node)


def build_trie(candidates: Sequence[Sequence[int]]) -> Trie:
    """The trie of some candidates, none of them empty."""
    trie = Trie()
    children: dict[tuple[int, int], int] = {}
    for candidate in candidates:
        trie.add(candidate, children)
    return trie


def answer_ids(tokenizer: Any, answers: Sequence[str]) -> list[list[int]]:
    """Token ids of each answer with its end of turn, the same after any prompt."""
    anything = chat.naming_messages("a")
    return [chat.encode(tokenizer, chat.with_answer(anything, answer)).answer_ids for answer in answers]


def log_likelihoods(model: Any, prompt: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[float]:
    """Natural-log probability of each candidate as the continuation of the prompt.

    Args:
        model: A causal language model in eval mode.
        prompt: Token ids, `[tokens]`.
        candidates: Token ids of each candidate with its end of turn, none empty.

    Returns:
        One sum of token log-probabilities a candidate, in the order given.
    """
    import torch
    from transformers import DynamicCache

    if _keeps_a_state(model) or _beyond_window(model, len(prompt) + max(map(len, candidates))):
        return [_separate_pass(model, prompt, candidate) for candidate in candidates]
    order = sorted(range(len(candidates)), key=lambda index: list(candidates[index]))
    scores = [0.0] * len(candidates)
    with torch.inference_mode():
        cache = DynamicCache()
        ids = torch.tensor([list(prompt)], device=model.device)
        last = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1]
        first = last.float().log_softmax(-1)
        for start in range(0, len(order), PIECE):
            piece = order[start : start + PIECE]
            trie = build_trie([candidates[index] for index in piece])
            for index, score in zip(piece, _score(model, cache, len(prompt), trie, first), strict=True):
                scores[index] = score
    return scores


def _keeps_a_state(model: Any) -> bool:
    """Whether the model remembers by a state that can not be cut back to the prompt, as recurrent layers do."""
    return bool(getattr(model.get_base_model() if hasattr(model, "get_base_model") else model, "_is_stateful", False))


def _beyond_window(model: Any, length: int) -> bool:
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    return window is not None and length > window


def _separate_pass(model: Any, prompt: Sequence[int], candidate: Sequence[int]) -> float:
    import torch

    targets = torch.tensor(list(candidate), device=model.device)
    ids = torch.tensor([[*prompt, *candidate]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(candidate) + 1).logits[0, :-1]
    return float(logits.double().log_softmax(-1).gather(1, targets[:, None]).sum())


def _score(model: Any, cache: Any, prompt_length: int, trie: Trie, first: Any) -> list[float]:
    """Score one trie after the cached prompt; the cache is left as it was."""
    import torch

    # A node that nobody continues needs no pass: its own probability comes from its parent.
    inner = sorted({parent for parent in trie.parents if parent >= 0})
    rank_of = {node: rank for rank, node in enumerate(inner)}
    scores = torch.zeros(len(trie.tokens), dtype=torch.float64)
    normalised: Any = _continuations(model, cache, prompt_length, trie, inner, rank_of) if inner else None
    for node, (token, parent) in enumerate(zip(trie.tokens, trie.parents, strict=True)):
        if parent < 0:
            scores[node] = first[token].double()
        else:
            scores[node] = scores[parent] + normalised[rank_of[parent], token].double()
    return [float(scores[leaf]) for leaf in trie.leaves]


def _continuations(
    model: Any, cache: Any, prompt_length: int, trie: Trie, inner: list[int], rank_of: dict[int, int]
) -> Any:
    """Log-probabilities of the next token after each inner node, `[inner nodes, vocabulary]`."""
    import torch

    count = len(inner)
    visible = torch.zeros(count, count, dtype=torch.bool)
    for rank, node in enumerate(inner):
        parent = trie.parents[node]
        if parent >= 0:
            visible[rank] = visible[rank_of[parent]]
        visible[rank, rank] = True
    visible = torch.cat([torch.ones(count, prompt_length, dtype=torch.bool), visible], dim=1)
    mask = torch.zeros(1, 1, count, prompt_length + count, dtype=model.dtype)
    mask.masked_fill_(~visible, torch.finfo(model.dtype).min)
    logits = model(
        input_ids=torch.tensor([[trie.tokens[node] for node in inner]], device=model.device),
        position_ids=torch.tensor([[prompt_length + trie.depths[node] for node in inner]], device=model.device),
        attention_mask=mask.to(model.device),
        past_key_values=cache,
        use_cache=True,
    ).logits[0]
    cache.crop(-count)
    return logits.float().log_softmax(-1)
